mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

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

  mock_resource "aws_lambda_event_source_mapping" {
    defaults = { uuid = "11111111-2222-3333-4444-555555555555" }
  }
}

run "release_tag_is_enough" {
  command = plan

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

run "existing_bucket_pinned_images_and_alarms" {
  command = plan

  variables {
    bucket_name   = "existing-data"
    create_bucket = false
    release_tag   = "v1.2.3"

    pinned_images = {
      RefinerInput = "dibbs-ecr-refiner/lambda@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
      # A pinned image has no effect on a ruleset that does not exist or has no function.
      Missing         = "dibbs-ecr-refiner/lambda@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
      RefinerComplete = "dibbs-ecr-refiner/lambda@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    }

    alarms = {
      sns_topic_arns              = ["arn:aws:sns:eu-west-1:123456789012:operators"]
      oldest_completion_message_s = 60
      no_completion_hours         = 24
    }
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

  assert {
    condition     = output.rulesets["RefinerInput"].image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    error_message = "The pinned image was not used."
  }

  assert {
    condition     = output.rulesets["RefinerComplete"].image_uri == null && output.rulesets["RefinerComplete"].function_name == null
    error_message = "A completion ruleset got a function."
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
