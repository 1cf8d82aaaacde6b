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

  mock_resource "aws_mq_broker" {
    defaults = {
      id  = "b-1234"
      arn = "arn:aws:mq:eu-west-1:123456789012:broker:rnr-test-broker:b-1234"
      instances = [{
        console_url = "https://b-1234.mq.eu-west-1.on.aws"
        endpoints   = ["amqps://b-1234.mq.eu-west-1.on.aws:5671"]
        ip_address  = "10.0.0.10"
      }]
    }
  }

  mock_resource "aws_elasticache_replication_group" {
    defaults = { primary_endpoint_address = "master.rnr-test-cache.abc.euw1.cache.amazonaws.com" }
  }

  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock" }
  }

  mock_resource "aws_security_group" {
    defaults = { id = "sg-1" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }

  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:mock" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:mock" }
  }

  mock_resource "aws_ecs_task_definition" {
    defaults = { arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/mock:1" }
  }

  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-west-1:123456789012:cluster/rnr-test" }
  }
}

variables {
  env               = "test"
  vpc_name          = "example"
  subnet_names      = ["private-*"]
  input_bucket_name = "forecasts"
  release_tag       = "v1.2.3"
}

run "names_images_environments_and_permissions" {
  assert {
    condition = (
      output.region == "eu-west-1" && output.name == "rnr-test" &&
      output.input_bucket == "forecasts" && output.output_bucket == "forecasts" &&
      output.input_prefix == "rnr/input/" && output.output_prefix == "rnr/output/" &&
      output.complete_prefix == "rnr/complete/" && output.merged_prefix == "rnr/merged/" &&
      output.state_parameter == "/rnr-test/autoscaler" && output.metrics_namespace == "rnr" &&
      output.vpc_id == "vpc-1" && output.subnet_ids == tolist(["subnet-1", "subnet-2"])
    )
    error_message = "An output differs from the defaults."
  }

  assert {
    condition = { for name, function in output.functions : name => join(" ", [
      function.function_name, function.log_group, function.schedule_name, function.schedule_group, function.dlq_name, function.delivery_dlq_name, function.image_uri
      ]) } == { for name in ["producer", "autoscaler", "postprocess"] : name => join(" ", [
      "rnr-test-${name}", "/aws/lambda/rnr-test-${name}", "rnr-test-${name}", "rnr-test", "rnr-test-${name}-dlq", "rnr-test-${name}-delivery-dlq",
      "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/${name}:v1.2.3"
    ]) }
    error_message = "A function's names differ: ${jsonencode(output.functions)}"
  }

  assert {
    condition = (
      output.worker.cluster_name == "rnr-test" && output.worker.service_name == "rnr-test-worker" && output.worker.container_name == "worker" &&
      output.worker.log_group == "/aws/ecs/rnr-test-worker" && output.worker.queue_name == "rnr-test-work" && output.worker.dlq_name == "rnr-test-work-dlq" &&
      output.worker.image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/worker:v1.2.3" &&
      output.broker.name == "rnr-test-broker" && output.broker.secret_name == "rnr-test-broker" && output.broker.username == "rnr" &&
      output.broker.amqp_url == "amqps://b-1234.mq.eu-west-1.on.aws:5671" && output.broker.api_url == "https://b-1234.mq.eu-west-1.on.aws" &&
      output.cache.name == "rnr-test-cache" && output.cache.secret_name == "rnr-test-cache" &&
      output.cache.url == "rediss://master.rnr-test-cache.abc.euw1.cache.amazonaws.com:6379"
    )
    error_message = "An output of worker, broker or cache differs: ${jsonencode([output.worker, output.broker, output.cache])}"
  }

  assert {
    condition = local.environments.producer == {
      RNR_NAME           = "rnr-test"
      LOG_LEVEL          = "INFO"
      RNR_BROKER_URL     = "amqps://b-1234.mq.eu-west-1.on.aws:5671"
      RNR_BROKER_SECRET  = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock"
      RNR_QUEUE          = "rnr-test-work"
      RNR_CACHE_URL      = "rediss://master.rnr-test-cache.abc.euw1.cache.amazonaws.com:6379"
      RNR_CACHE_SECRET   = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock"
      RNR_INPUT_BUCKET   = "forecasts"
      RNR_INPUT_PREFIX   = "rnr/input/"
      RNR_LOOKBACK_HOURS = "24"
      RNR_CLAIM_HOURS    = "48"
    }
    error_message = "The producer's environment differs: ${jsonencode(local.environments.producer)}"
  }

  assert {
    condition = local.environments.worker == {
      RNR_NAME            = "rnr-test"
      LOG_LEVEL           = "INFO"
      RNR_BROKER_URL      = "amqps://b-1234.mq.eu-west-1.on.aws:5671"
      RNR_BROKER_SECRET   = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock"
      RNR_QUEUE           = "rnr-test-work"
      RNR_INPUT_BUCKET    = "forecasts"
      RNR_INPUT_PREFIX    = "rnr/input/"
      RNR_OUTPUT_BUCKET   = "forecasts"
      RNR_OUTPUT_PREFIX   = "rnr/output/"
      RNR_COMPLETE_PREFIX = "rnr/complete/"
      RNR_PREFETCH        = "1"
      RNR_JOB_TIMEOUT_S   = "3600"
      RNR_STOP_TIMEOUT_S  = "120"
    }
    error_message = "The workers' environment differs: ${jsonencode(local.environments.worker)}"
  }

  assert {
    condition = local.environments.autoscaler == {
      RNR_NAME            = "rnr-test"
      LOG_LEVEL           = "INFO"
      RNR_BROKER_URL      = "amqps://b-1234.mq.eu-west-1.on.aws:5671"
      RNR_BROKER_API_URL  = "https://b-1234.mq.eu-west-1.on.aws"
      RNR_BROKER_SECRET   = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock"
      RNR_QUEUE           = "rnr-test-work"
      RNR_CLUSTER         = "rnr-test"
      RNR_SERVICE         = "rnr-test-worker"
      RNR_STATE_PARAMETER = "/rnr-test/autoscaler"
      RNR_MIN_TASKS       = "0"
      RNR_MAX_TASKS       = "10"
      RNR_TARGET_BACKLOG  = "5"
    }
    error_message = "The autoscaler's environment differs: ${jsonencode(local.environments.autoscaler)}"
  }

  assert {
    condition = local.environments.postprocess == {
      RNR_NAME            = "rnr-test"
      LOG_LEVEL           = "INFO"
      RNR_OUTPUT_BUCKET   = "forecasts"
      RNR_OUTPUT_PREFIX   = "rnr/output/"
      RNR_COMPLETE_PREFIX = "rnr/complete/"
      RNR_MERGED_PREFIX   = "rnr/merged/"
    }
    error_message = "The environment of post-processing differs: ${jsonencode(local.environments.postprocess)}"
  }

  assert {
    condition = toset(module.alarms[0].names) == toset(concat(
      flatten([for name in ["producer", "autoscaler", "postprocess"] : [
        for kind in ["dlq-messages", "dlq-expiring", "delivery-dlq-messages", "delivery-dlq-expiring", "errors", "throttles"] : "rnr-test-${name}-${kind}"
      ]]),
      ["rnr-test-worker-backlog-age", "rnr-test-worker-autoscaler-silent", "rnr-test-worker-broker-dlq", "rnr-test-broker-memory", "rnr-test-broker-disk"],
    ))
    error_message = "The alarms are ${jsonencode(module.alarms[0].names)}."
  }

  assert {
    condition     = length(aws_vpc_endpoint.this) == 0 && length(aws_vpc_endpoint.s3) == 0 && length(module.buckets) == 0
    error_message = "The stack created VPC endpoints or a bucket."
  }

  assert {
    condition = [for s in local.producer_statements : join(" ", concat(s.Action, s.Resource))] == [
      "s3:ListBucket arn:aws:s3:::forecasts",
      "secretsmanager:GetSecretValue arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock",
      "secretsmanager:GetSecretValue arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock",
    ]
    error_message = "The producer's permissions differ: ${jsonencode(local.producer_statements)}"
  }

  assert {
    condition = [for s in local.worker_statements : join(" ", concat(s.Action, s.Resource))] == [
      "s3:ListBucket arn:aws:s3:::forecasts",
      "s3:GetObject arn:aws:s3:::forecasts/rnr/input/*",
      "s3:GetObject s3:PutObject arn:aws:s3:::forecasts/rnr/output/* arn:aws:s3:::forecasts/rnr/complete/*",
      "s3:AbortMultipartUpload arn:aws:s3:::forecasts/rnr/output/*",
      "secretsmanager:GetSecretValue arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock",
    ]
    error_message = "The workers' permissions differ: ${jsonencode(local.worker_statements)}"
  }

  assert {
    condition = [for s in local.postprocess_statements : join(" ", concat(s.Action, s.Resource))] == [
      "s3:ListBucket arn:aws:s3:::forecasts",
      "s3:GetObject arn:aws:s3:::forecasts/rnr/output/* arn:aws:s3:::forecasts/rnr/complete/*",
      "s3:GetObject s3:PutObject s3:DeleteObject s3:AbortMultipartUpload arn:aws:s3:::forecasts/rnr/merged/*",
    ]
    error_message = "The permissions of post-processing differ: ${jsonencode(local.postprocess_statements)}"
  }

  assert {
    condition = [for s in local.autoscaler_statements : join(" ", concat(s.Action, s.Resource, [jsonencode(try(s.Condition, null))]))] == [
      "secretsmanager:GetSecretValue arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock null",
      "ecs:DescribeServices ecs:UpdateService arn:aws:ecs:eu-west-1:123456789012:service/rnr-test/rnr-test-worker null",
      "ecs:GetTaskProtection arn:aws:ecs:eu-west-1:123456789012:task/rnr-test/* null",
      "ecs:ListTasks * {\"ArnEquals\":{\"ecs:cluster\":[\"arn:aws:ecs:eu-west-1:123456789012:cluster/rnr-test\"]}}",
      "cloudwatch:PutMetricData * {\"StringEquals\":{\"cloudwatch:namespace\":[\"rnr\"]}}",
      "ssm:GetParameter ssm:PutParameter arn:aws:ssm:eu-west-1:123456789012:parameter/rnr-test/autoscaler null",
    ]
    error_message = "The autoscaler's permissions differ: ${jsonencode(local.autoscaler_statements)}"
  }
}
