# Without an apply, and without values for computed attributes: a plan must not depend on them.
mock_provider "aws" {
  source = "../../mocks"

  mock_data "aws_vpc" {
    defaults = { id = "vpc-1" }
  }

  mock_data "aws_subnets" {
    defaults = { ids = ["subnet-2", "subnet-1"] }
  }

  mock_data "aws_secretsmanager_secret_version" {
    defaults = { secret_string = "{\"username\":\"rnr\",\"password\":\"first-password\",\"token\":\"first-token-of-the-cache\"}" }
  }
}

variables {
  env               = "test"
  vpc_name          = "example"
  subnet_names      = ["private-*"]
  input_bucket_name = "forecasts"
  release_tag       = "v1.2.3"
}

run "settings" {
  command = plan

  variables {
    output_bucket_name          = "routed"
    input_prefix                = "/in/"
    operator_security_group_ids = ["sg-9"]
    https_egress_cidrs          = []
    vpc_endpoints               = { enabled = true, route_table_ids = ["rtb-1"] }
    pinned_images               = { worker = "rnr/worker@sha256:${join("", [for i in range(64) : "a"])}" }
    images                      = { producer = "localhost:5000/producer:v9" }
    function_environment        = { LOG_LEVEL = "DEBUG", SHARED = "1" }
    producer                    = { feed_url = "https://feed.example/products" }
    worker                      = { processor_command = "route", environment = { SHARED = "2" } }
    alarms                      = { enabled = false }
    kms_key_arns = {
      buckets = ["arn:aws:kms:eu-west-1:123456789012:key/b"]
      secrets = "arn:aws:kms:eu-west-1:123456789012:key/s"
    }
  }

  # No image of a local registry in an account: only a warning.
  expect_failures = [check.images_are_in_ecr]

  assert {
    condition     = output.input_bucket == "forecasts" && output.output_bucket == "routed" && output.input_prefix == "in/" && length(module.alarms) == 0
    error_message = "A setting has no effect."
  }

  assert {
    condition = (
      local.images.worker == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/worker@sha256:${join("", [for i in range(64) : "a"])}" &&
      local.images.producer == "localhost:5000/producer:v9" &&
      local.images.autoscaler == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/autoscaler:v1.2.3"
    )
    error_message = "The images are ${jsonencode(local.images)}."
  }

  assert {
    condition = (
      local.environments.producer.LOG_LEVEL == "DEBUG" && local.environments.producer.SHARED == "1" &&
      local.environments.producer.RNR_FEED_URL == "https://feed.example/products" &&
      local.environments.worker.SHARED == "2" && local.environments.worker.PROCESSOR_COMMAND == "route" &&
      !contains(keys(local.environments.worker), "PROCESSOR")
    )
    error_message = "The environments differ: ${jsonencode(local.environments)}"
  }

  assert {
    condition = (
      toset(keys(aws_vpc_endpoint.this)) == toset(["ecr.api", "ecr.dkr", "ecs", "logs", "monitoring", "secretsmanager", "ssm"]) &&
      aws_vpc_endpoint.this["ssm"].service_name == "com.amazonaws.eu-west-1.ssm" &&
      aws_vpc_endpoint.s3[0].route_table_ids == toset(["rtb-1"]) &&
      toset(keys(local.https_egress)) == toset(["VPC endpoints", "S3"]) &&
      toset(keys(aws_vpc_security_group_ingress_rule.endpoints)) == toset(["producer", "autoscaler", "postprocess", "worker"])
    )
    error_message = "The VPC endpoints differ, or something can connect to other addresses."
  }

  assert {
    condition = (
      contains([for s in local.producer_statements : join(" ", concat(s.Action, s.Resource))], "s3:GetObject s3:PutObject arn:aws:s3:::forecasts/in/*") &&
      contains([for s in local.worker_statements : join(" ", concat(s.Action, s.Resource))], "s3:ListBucket arn:aws:s3:::routed") &&
      alltrue([
        for statements in [local.producer_statements, local.worker_statements] : alltrue([
          for grant in ["kms:Decrypt kms:GenerateDataKey arn:aws:kms:eu-west-1:123456789012:key/b", "kms:Decrypt arn:aws:kms:eu-west-1:123456789012:key/s"] :
          contains([for s in statements : join(" ", concat(s.Action, s.Resource))], grant)
        ])
      ])
    )
    error_message = "A permission is missing."
  }
}
