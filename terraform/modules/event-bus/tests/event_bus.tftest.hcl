mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

  mock_resource "aws_cloudwatch_event_bus" {
    defaults = { arn = "arn:aws:events:eu-west-1:123456789012:event-bus/data-repository-bus" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/dibbs-ecr-forward" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-forward-delivery-dlq" }
  }

  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-west-1:123456789012:rule/dibbs-ecr-forward" }
  }
}

variables {
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  name                 = "data-repository-bus"
  bucket               = "data-repository"
  forward_name         = "dibbs-ecr-forward"
}

run "bus_and_forwarding" {
  command = plan

  assert {
    condition     = aws_iam_role.forward.permissions_boundary == var.permissions_boundary
    error_message = "A role has no permissions boundary."
  }

  assert {
    condition     = aws_cloudwatch_event_bus.this.name == "data-repository-bus"
    error_message = "The bus has another name."
  }

  assert {
    condition     = aws_cloudwatch_event_rule.forward.name == "dibbs-ecr-forward" && coalesce(aws_cloudwatch_event_rule.forward.event_bus_name, "default") == "default"
    error_message = "The rule is not on the default bus, the only one that S3 sends to."
  }

  assert {
    condition     = aws_cloudwatch_event_rule.forward.state == "ENABLED"
    error_message = "Terraform would not enable a rule that was disabled by hand."
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.forward.event_pattern) == {
      source        = ["aws.s3"]
      "detail-type" = ["Object Created"]
      detail        = { bucket = { name = ["data-repository"] } }
    }
    error_message = "The event pattern differs: ${aws_cloudwatch_event_rule.forward.event_pattern}"
  }

  assert {
    condition = (
      aws_cloudwatch_event_target.forward.rule == "dibbs-ecr-forward" &&
      aws_cloudwatch_event_target.forward.arn == aws_cloudwatch_event_bus.this.arn &&
      aws_cloudwatch_event_target.forward.role_arn == aws_iam_role.forward.arn
    )
    error_message = "The rule does not forward to the bus with its role."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.forward.policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect   = "Allow"
        Action   = "events:PutEvents"
        Resource = "arn:aws:events:eu-west-1:123456789012:event-bus/data-repository-bus"
      }]
    }
    error_message = "The role's policy differs: ${aws_iam_role_policy.forward.policy}"
  }

  assert {
    condition = jsondecode(aws_iam_role.forward.assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sts:AssumeRole"
        Condition = {
          ArnEquals    = { "aws:SourceArn" = "arn:aws:events:eu-west-1:123456789012:rule/dibbs-ecr-forward" }
          StringEquals = { "aws:SourceAccount" = "123456789012" }
        }
      }]
    }
    error_message = "The trust policy differs: ${aws_iam_role.forward.assume_role_policy}"
  }

  assert {
    condition     = aws_cloudwatch_event_target.forward.dead_letter_config[0].arn == aws_sqs_queue.delivery_dlq.arn
    error_message = "An event that cannot be forwarded would be lost."
  }

  assert {
    condition = (
      aws_sqs_queue.delivery_dlq.name == "dibbs-ecr-forward-delivery-dlq" &&
      aws_sqs_queue.delivery_dlq.message_retention_seconds == 1209600 &&
      aws_sqs_queue.delivery_dlq.sqs_managed_sse_enabled
    )
    error_message = "The dead-letter queue has another name, keeps messages for less than 14 days, or is not encrypted."
  }

  assert {
    condition = jsondecode(aws_sqs_queue.delivery_dlq.policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-forward-delivery-dlq"
        Condition = { ArnEquals = { "aws:SourceArn" = "arn:aws:events:eu-west-1:123456789012:rule/dibbs-ecr-forward" } }
      }]
    }
    error_message = "The dead-letter queue's policy differs: ${aws_sqs_queue.delivery_dlq.policy}"
  }

  assert {
    condition = (
      output.name == "data-repository-bus" &&
      output.arn == aws_cloudwatch_event_bus.this.arn &&
      output.forward_rule_name == "dibbs-ecr-forward" &&
      output.forward_rule_arn == aws_cloudwatch_event_rule.forward.arn &&
      output.delivery_dlq_name == "dibbs-ecr-forward-delivery-dlq" &&
      output.delivery_dlq_url == aws_sqs_queue.delivery_dlq.url &&
      output.delivery_dlq_arn == aws_sqs_queue.delivery_dlq.arn
    )
    error_message = "An output is not that of its resource."
  }
}

run "key" {
  command = plan

  variables {
    queue_kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/2"
  }

  assert {
    condition     = aws_sqs_queue.delivery_dlq.kms_master_key_id == "arn:aws:kms:eu-west-1:123456789012:key/2"
    error_message = "The dead-letter queue is not encrypted with the key."
  }
}
