mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = {
      partition  = "aws"
      dns_suffix = "amazonaws.com"
    }
  }

  mock_data "aws_region" {
    defaults = { id = "eu-west-1" }
  }

  mock_resource "aws_cloudwatch_event_bus" {
    defaults = { arn = "arn:aws:events:eu-west-1:123456789012:event-bus/data-repository-bus" }
  }

  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-west-1:123456789012:rule/mock" }
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
}

run "release_tag_is_enough" {
  variables {
    release_tag = "v1.2.3"
  }

  assert {
    condition = (
      output.region == "eu-west-1" &&
      output.bucket == "data-repository" &&
      output.bucket_arn == "arn:aws:s3:::data-repository" &&
      output.bus_name == "data-repository-bus" &&
      output.bus_arn == "arn:aws:events:eu-west-1:123456789012:event-bus/data-repository-bus" &&
      output.output_prefix == "RefinerOutput/" &&
      output.complete_prefix == "RefinerComplete/"
    )
    error_message = "An output differs from the defaults."
  }

  assert {
    condition = (
      output.forward_rule_name == "dibbs-ecr-forward" &&
      output.forward_rule_arn != null &&
      output.forward_dlq_name == "dibbs-ecr-forward-delivery-dlq" &&
      output.forward_dlq_url != null &&
      output.forward_dlq_arn != null
    )
    error_message = "An output of the forwarding differs from the defaults."
  }

  assert {
    condition     = toset(keys(output.rulesets)) == toset(["RefinerInput", "RefinerComplete"])
    error_message = "The rulesets are ${jsonencode(keys(output.rulesets))}."
  }

  assert {
    condition = alltrue([
      for name, ruleset in output.rulesets :
      ruleset.prefix == "${name}/" &&
      ruleset.rule_name == "dibbs-ecr-${name}" &&
      ruleset.queue_name == "dibbs-ecr-${name}" &&
      ruleset.dlq_name == "dibbs-ecr-${name}-dlq" &&
      ruleset.delivery_dlq_name == "dibbs-ecr-${name}-delivery-dlq" &&
      alltrue([for field in ["rule_arn", "queue_url", "queue_arn", "dlq_url", "dlq_arn", "delivery_dlq_url", "delivery_dlq_arn"] : ruleset[field] != null])
    ])
    error_message = "A ruleset's names differ: ${jsonencode(output.rulesets)}"
  }

  assert {
    condition = (
      output.rulesets.RefinerInput.image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v1.2.3" &&
      output.rulesets.RefinerInput.function_name == "dibbs-ecr-RefinerInput" &&
      output.rulesets.RefinerInput.output_prefix == "RefinerOutput/" &&
      output.rulesets.RefinerInput.complete_prefix == "RefinerComplete/" &&
      output.rulesets.RefinerInput.complete_suffix == ".json" &&
      output.rulesets.RefinerInput.log_group == "/aws/lambda/dibbs-ecr-RefinerInput" &&
      alltrue([for field in ["function_arn", "role_arn", "event_source_mapping_id"] : output.rulesets.RefinerInput[field] != null])
    )
    error_message = "RefinerInput must have a function of the released image."
  }

  assert {
    condition = alltrue([
      for field in ["image_uri", "function_name", "function_arn", "role_arn", "log_group", "event_source_mapping_id"] :
      output.rulesets.RefinerComplete[field] == null
    ])
    error_message = "RefinerComplete must not have a function."
  }
}

run "names_and_prefixes_reach_the_rulesets" {
  command = plan

  variables {
    name_prefix     = "team"
    bucket_name     = "team-data"
    bus_name        = "team-bus"
    output_prefix   = "Out/"
    complete_prefix = "Done/"
    rulesets = {
      Labs = { prefix = "/Labs/In/", image_uri = "team/labs:1" }
      Done = { prefix = "Done/" }
    }
  }

  assert {
    condition = (
      output.bucket == "team-data" && output.bus_name == "team-bus" &&
      output.forward_rule_name == "team-forward" && output.forward_dlq_name == "team-forward-delivery-dlq" &&
      output.output_prefix == "Out/" && output.complete_prefix == "Done/" &&
      output.rulesets.Labs.prefix == "Labs/In/" && output.rulesets.Labs.function_name == "team-Labs" &&
      output.rulesets.Labs.complete_prefix == "Done/Labs/In/" && output.rulesets.Labs.complete_suffix == ".completion" &&
      output.rulesets.Labs.image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/labs:1"
    )
    error_message = "A name or prefix does not reach its module."
  }
}

run "all_settings_of_a_ruleset_are_accepted" {
  command = plan

  variables {
    function_environment = { LEVEL = "info", AWS_ENDPOINT_URL = "http://localhost:4566" }
    log_retention_days   = 7
    message_retention_s  = 60
    tags                 = { Team = "Data Exchange", "cost:centre" = "a+b@c" }
    rulesets = {
      Labs = {
        prefix               = "Labs/Süd 1+2/"
        image_uri            = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/team/labs:1"
        memory_mb            = 10240
        timeout_s            = 1
        visibility_timeout_s = 43200
        max_receive_count    = 1000
        batch_size           = 10000
        max_concurrency      = 1000
        environment          = { LEVEL = "debug", REFINER_OUTPUT_PREFIX = "Labs/Out/" }
        read_access          = ["eICR/", "s3://config/"]
        read_kms_key_arns    = ["arn:aws:kms:eu-west-1:123456789012:key/1"]
        vpc                  = { subnet_ids = ["subnet-0a"], security_group_ids = ["sg-0a"] }
        architecture         = "arm64"
      }
      RefinerComplete = { prefix = "RefinerComplete/" }
      # The start of the name, not of the prefix: a folder of its own.
      RefinerCompleteOld = { prefix = "RefinerCompleteOld/" }
    }
  }

  assert {
    condition     = length(output.rulesets) == 3 && output.rulesets.Labs.prefix == "Labs/Süd 1+2/"
    error_message = "The rulesets differ: ${jsonencode(keys(output.rulesets))}"
  }

  assert {
    condition = (
      output.rulesets.Labs.output_prefix == "Labs/Out/" &&
      output.rulesets.Labs.read_access == ["s3://data-repository/eICR/", "s3://config/"] &&
      output.rulesets.Labs.read_kms_key_arns == ["arn:aws:kms:eu-west-1:123456789012:key/1"]
    )
    error_message = "A setting does not reach the ruleset: ${jsonencode(output.rulesets.Labs)}"
  }
}

run "each_ruleset_has_completion_keys_of_its_own" {
  command = plan

  variables {
    input_prefix = "Labs/In/"
    rulesets = {
      Labs  = { prefix = "/Labs/In/", image_uri = "refiner:v1" }
      Other = { prefix = "Other/", image_uri = "refiner:v1" }
      Own = {
        prefix    = "Own/"
        image_uri = "refiner:v1"
        environment = {
          REFINER_COMPLETE_PREFIX = "OwnComplete/"
          REFINER_COMPLETE_SUFFIX = ".json"
        }
      }
      RefinerComplete = { prefix = "RefinerComplete/" }
      OwnComplete     = { prefix = "OwnComplete/" }
    }
  }

  assert {
    condition = { for name, ruleset in output.rulesets : name => [ruleset.complete_prefix, ruleset.complete_suffix] if ruleset.function_name != null } == {
      Labs  = ["RefinerComplete/", ".json"]
      Other = ["RefinerComplete/Other/", ".completion"]
      Own   = ["OwnComplete/", ".json"]
    }
    error_message = "Completion keys differ: ${jsonencode(output.rulesets)}"
  }
}

run "completion_prefix_below_another_one" {
  command = plan

  variables {
    rulesets = {
      RefinerInput = { prefix = "RefinerInput/", image_uri = "refiner:v1" }
      Lab = {
        prefix      = "Lab/"
        image_uri   = "refiner:v1"
        environment = { REFINER_COMPLETE_SUFFIX = ".a.json" }
      }
      RefinerComplete = { prefix = "RefinerComplete/" }
    }
  }

  expect_failures = [output.rulesets]
}

run "same_completion_prefix_twice" {
  command = plan

  variables {
    rulesets = {
      RefinerInput    = { prefix = "RefinerInput/", image_uri = "refiner:v1" }
      Lab             = { prefix = "Lab/", image_uri = "refiner:v1", environment = { REFINER_COMPLETE_PREFIX = "RefinerComplete/" } }
      RefinerComplete = { prefix = "RefinerComplete/" }
    }
  }

  expect_failures = [output.rulesets]
}

run "completions_of_a_function_without_a_queue" {
  command = plan

  variables {
    rulesets = {
      Lab             = { prefix = "Lab/", image_uri = "refiner:v1", environment = { REFINER_COMPLETE_PREFIX = "LabComplete/" } }
      RefinerComplete = { prefix = "RefinerComplete/" }
    }
  }

  expect_failures = [check.completions_are_queued]
}

run "outputs_of_one_function_are_inputs_of_another" {
  command = plan

  variables {
    rulesets = {
      A               = { prefix = "A/", image_uri = "refiner:v1", environment = { REFINER_OUTPUT_PREFIX = "B/Out/" } }
      B               = { prefix = "B/", image_uri = "refiner:v1" }
      RefinerComplete = { prefix = "RefinerComplete/" }
    }
  }

  expect_failures = [output.rulesets]
}

run "no_rulesets" {
  command = plan

  variables {
    rulesets = {}
  }

  assert {
    condition     = length(output.rulesets) == 0 && output.bucket == "data-repository"
    error_message = "Without rulesets the bucket and the bus are left."
  }

  expect_failures = [check.completions_are_queued]
}

run "existing_bucket" {
  command = plan

  variables {
    bucket_name   = "existing-data"
    create_bucket = false
    release_tag   = "v1.2.3"
  }

  override_data {
    target = module.data_repository.data.aws_s3_bucket.existing[0]
    values = { bucket_regional_domain_name = "existing-data.s3.eu-west-1.amazonaws.com", id = "looked-up" }
  }

  # A created bucket has the name that was given, an existing one the name that was looked up.
  assert {
    condition     = output.bucket == "looked-up" && output.bucket_arn == "arn:aws:s3:::existing-data"
    error_message = "The existing bucket is not used."
  }
}

run "forms_of_image_uri" {
  command = plan

  variables {
    release_tag = "v9"
    rulesets = {
      Bare            = { prefix = "Bare/", image_uri = "dibbs-ecr-refiner/lambda" }
      BareTag         = { prefix = "BareTag/", image_uri = "dibbs-ecr-refiner/lambda:v1.2.3" }
      BareDigest      = { prefix = "BareDigest/", image_uri = "dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
      OneComponent    = { prefix = "OneComponent/", image_uri = "refiner" }
      OneComponentTag = { prefix = "OneComponentTag/", image_uri = "refiner:v1.2" }
      Full            = { prefix = "Full/", image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda" }
      FullTag         = { prefix = "FullTag/", image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/lambda:V_1" }
      FullDigest      = { prefix = "FullDigest/", image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
      Port            = { prefix = "Port/", image_uri = "localhost:5000/refiner/lambda" }
      Localhost       = { prefix = "Localhost/", image_uri = "localhost/refiner" }
      None            = { prefix = "RefinerComplete/" }
    }
  }

  # Two of the images are outside of ECR.
  expect_failures = [check.images_are_in_ecr]

  assert {
    condition = { for name, ruleset in output.rulesets : name => ruleset.image_uri } == {
      Bare            = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9"
      BareTag         = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v1.2.3"
      BareDigest      = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      OneComponent    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/refiner:v9"
      OneComponentTag = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/refiner:v1.2"
      Full            = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9"
      FullTag         = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/lambda:V_1"
      FullDigest      = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      Port            = "localhost:5000/refiner/lambda:v9"
      Localhost       = "localhost/refiner:v9"
      None            = null
    }
    error_message = "An image differs: ${jsonencode({ for name, ruleset in output.rulesets : name => ruleset.image_uri })}"
  }
}

run "missing_completion_ruleset" {
  command = plan

  variables {
    rulesets = {
      RefinerInput = { prefix = "RefinerInput/", image_uri = "refiner:v1" }
    }
  }

  expect_failures = [check.completions_are_queued]
}

run "image_outside_of_ecr" {
  command = plan

  variables {
    rulesets = {
      RefinerInput    = { prefix = "RefinerInput/", image_uri = "ghcr.io/example/refiner:v1" }
      RefinerComplete = { prefix = "RefinerComplete/" }
    }
  }

  expect_failures = [check.images_are_in_ecr]
}

run "a_pinned_image_wins_over_the_tag" {
  variables {
    release_tag = "v1.2.3"
    pinned_images = {
      RefinerInput = "dibbs-ecr-refiner/lambda@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
      # A pinned image has no effect on a ruleset that does not exist or has no function.
      Missing         = "dibbs-ecr-refiner/lambda@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
      RefinerComplete = "dibbs-ecr-refiner/lambda@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    }
  }

  assert {
    condition     = output.rulesets["RefinerInput"].image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    error_message = "The pinned image was not used."
  }

  assert {
    condition     = output.rulesets["RefinerComplete"].image_uri == null && output.rulesets["RefinerComplete"].function_name == null
    error_message = "A completion ruleset got a function."
  }
}

run "alarms_of_all_queues_and_functions" {
  variables {
    release_tag = "v1.2.3"
    alarms = {
      sns_topic_arns              = ["arn:aws:sns:eu-west-1:123456789012:operators"]
      oldest_completion_message_s = 60
      no_completion_hours         = 24
    }
  }

  assert {
    condition = toset(module.alarms[0].names) == toset([
      "dibbs-ecr-forward-delivery-dlq-messages",
      "dibbs-ecr-forward-delivery-dlq-expiring",
      "dibbs-ecr-RefinerInput-dlq-messages",
      "dibbs-ecr-RefinerInput-dlq-expiring",
      "dibbs-ecr-RefinerInput-delivery-dlq-messages",
      "dibbs-ecr-RefinerInput-delivery-dlq-expiring",
      "dibbs-ecr-RefinerComplete-dlq-messages",
      "dibbs-ecr-RefinerComplete-dlq-expiring",
      "dibbs-ecr-RefinerComplete-delivery-dlq-messages",
      "dibbs-ecr-RefinerComplete-delivery-dlq-expiring",
      "dibbs-ecr-RefinerInput-oldest-message",
      "dibbs-ecr-RefinerComplete-oldest-message",
      "dibbs-ecr-RefinerComplete-idle",
      "dibbs-ecr-RefinerInput-errors",
      "dibbs-ecr-RefinerInput-throttles",
    ])
    error_message = "The alarms are ${jsonencode(module.alarms[0].names)}."
  }
}

run "alarms_that_are_off" {
  command = plan

  variables {
    release_tag = "v1.2.3"
    alarms      = { enabled = false }
  }

  assert {
    condition     = length(module.alarms) == 0
    error_message = "Alarms were created."
  }
}
