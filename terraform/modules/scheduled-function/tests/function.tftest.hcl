mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }

  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:rnr-test-producer" }
  }

  mock_resource "aws_security_group" {
    defaults = { id = "sg-2" }
  }

  mock_resource "aws_scheduler_schedule" {
    defaults = { arn = "arn:aws:scheduler:eu-west-1:123456789012:schedule/rnr-test/rnr-test-producer" }
  }

  override_resource {
    target = aws_sqs_queue.dlq
    values = { arn = "arn:aws:sqs:eu-west-1:123456789012:rnr-test-producer-dlq" }
  }

  override_resource {
    target = aws_sqs_queue.delivery_dlq
    values = { arn = "arn:aws:sqs:eu-west-1:123456789012:rnr-test-producer-delivery-dlq" }
  }
}

variables {
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  name                 = "rnr-test-producer"
  description          = "Publishes new inputs"
  role_name            = "rnr-test-lambda-producer-role"
  scheduler_role_name  = "rnr-test-scheduler-producer-role"
  image_uri            = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/producer:v1"
  schedule_group       = "rnr-test"
  schedule_expression  = "rate(5 minutes)"
  vpc_id               = "vpc-1"
  subnet_ids           = ["subnet-1"]
  environment          = { RNR_NAME = "rnr-test" }
  egress = {
    https  = { port = 443, cidr = "0.0.0.0/0" }
    broker = { port = 5671, security_group_id = "sg-1" }
    s3     = { port = 443, prefix_list_id = "pl-1" }
  }
  policy_statements = [
    { Action = ["s3:ListBucket"], Resource = ["arn:aws:s3:::data"] },
    { Action = ["kms:Decrypt"], Resource = ["arn:aws:kms:eu-west-1:123456789012:key/k"], Condition = { StringEquals = { "kms:ViaService" = ["s3.eu-west-1.amazonaws.com"] } } },
  ]
}

run "schedule_function_and_dead_letter_queues" {
  command = plan

  assert {
    condition     = aws_iam_role.function.permissions_boundary == var.permissions_boundary && aws_iam_role.scheduler.permissions_boundary == var.permissions_boundary
    error_message = "A role has no permissions boundary."
  }

  assert {
    condition = (
      aws_scheduler_schedule.this.name == "rnr-test-producer" &&
      aws_scheduler_schedule.this.group_name == "rnr-test" &&
      aws_scheduler_schedule.this.schedule_expression == "rate(5 minutes)" &&
      aws_scheduler_schedule.this.state == "ENABLED" &&
      aws_scheduler_schedule.this.flexible_time_window[0].mode == "OFF" &&
      aws_scheduler_schedule.this.target[0].arn == aws_lambda_function.this.arn &&
      aws_scheduler_schedule.this.target[0].role_arn == aws_iam_role.scheduler.arn &&
      aws_scheduler_schedule.this.target[0].retry_policy[0].maximum_event_age_in_seconds == 300 &&
      aws_scheduler_schedule.this.target[0].dead_letter_config[0].arn == aws_sqs_queue.delivery_dlq.arn
    )
    error_message = "The schedule does not run the function, or what cannot be delivered is lost."
  }

  assert {
    condition = (
      aws_lambda_function_event_invoke_config.this.function_name == "rnr-test-producer" &&
      aws_lambda_function_event_invoke_config.this.maximum_event_age_in_seconds == 300 &&
      aws_lambda_function_event_invoke_config.this.maximum_retry_attempts == 1 &&
      aws_lambda_function_event_invoke_config.this.destination_config[0].on_failure[0].destination == aws_sqs_queue.dlq.arn
    )
    error_message = "A run that failed is lost."
  }

  assert {
    condition = (
      aws_lambda_function.this.function_name == "rnr-test-producer" &&
      aws_lambda_function.this.image_uri == var.image_uri &&
      aws_lambda_function.this.package_type == "Image" &&
      aws_lambda_function.this.reserved_concurrent_executions == -1 &&
      aws_lambda_function.this.environment[0].variables == tomap({ RNR_NAME = "rnr-test" }) &&
      aws_lambda_function.this.vpc_config[0].subnet_ids == toset(["subnet-1"]) &&
      aws_lambda_function.this.vpc_config[0].security_group_ids == toset([aws_security_group.this.id]) &&
      aws_cloudwatch_log_group.this.name == "/aws/lambda/rnr-test-producer"
    )
    error_message = "The function differs."
  }

  assert {
    condition = (
      aws_sqs_queue.dlq.name == "rnr-test-producer-dlq" && aws_sqs_queue.delivery_dlq.name == "rnr-test-producer-delivery-dlq" &&
      alltrue([for queue in [aws_sqs_queue.dlq, aws_sqs_queue.delivery_dlq] : queue.sqs_managed_sse_enabled && queue.message_retention_seconds == 1209600])
    )
    error_message = "A dead-letter queue has another name, is not encrypted, or does not keep messages for 14 days."
  }

  assert {
    condition = {
      for name, rule in aws_vpc_security_group_egress_rule.this : name => join(" ", compact([
        rule.ip_protocol, "${rule.from_port}-${rule.to_port}", rule.cidr_ipv4, rule.referenced_security_group_id, rule.prefix_list_id,
      ]))
    } == { https = "tcp 443-443 0.0.0.0/0", broker = "tcp 5671-5671 sg-1", s3 = "tcp 443-443 pl-1" }
    error_message = "The security group lets out something else."
  }

  assert {
    condition = (
      aws_iam_role.function.name == "rnr-test-lambda-producer-role" &&
      jsondecode(aws_iam_role.function.assume_role_policy).Statement == [{
        Effect    = "Allow"
        Principal = { Service = "lambda.amazonaws.com" }
        Action    = "sts:AssumeRole"
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      }] &&
      jsondecode(aws_iam_role_policy.function.policy) == {
        Version = "2012-10-17"
        Statement = [
          { Effect = "Allow", Action = ["sqs:SendMessage"], Resource = ["arn:aws:sqs:eu-west-1:123456789012:rnr-test-producer-dlq"] },
          {
            Effect = "Deny"
            Action = [
              "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
              "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
            ]
            Resource  = ["*"]
            Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "arn:aws:lambda:eu-west-1:123456789012:function:rnr-test-producer" } }
          },
          { Effect = "Allow", Action = ["s3:ListBucket"], Resource = ["arn:aws:s3:::data"] },
          {
            Effect    = "Allow"
            Action    = ["kms:Decrypt"]
            Resource  = ["arn:aws:kms:eu-west-1:123456789012:key/k"]
            Condition = { StringEquals = { "kms:ViaService" = ["s3.eu-west-1.amazonaws.com"] } }
          },
        ]
      }
    )
    error_message = "The function's role differs: ${aws_iam_role_policy.function.policy}"
  }

  assert {
    condition = (
      aws_iam_role.scheduler.name == "rnr-test-scheduler-producer-role" &&
      jsondecode(aws_iam_role.scheduler.assume_role_policy).Statement == [{
        Effect    = "Allow"
        Principal = { Service = "scheduler.amazonaws.com" }
        Action    = "sts:AssumeRole"
        Condition = {
          StringEquals = {
            "aws:SourceAccount" = "123456789012"
            "aws:SourceArn"     = "arn:aws:scheduler:eu-west-1:123456789012:schedule-group/rnr-test"
          }
        }
      }] &&
      jsondecode(aws_iam_role_policy.scheduler.policy).Statement == [
        { Effect = "Allow", Action = ["lambda:InvokeFunction"], Resource = ["arn:aws:lambda:eu-west-1:123456789012:function:rnr-test-producer"] },
        { Effect = "Allow", Action = ["sqs:SendMessage"], Resource = ["arn:aws:sqs:eu-west-1:123456789012:rnr-test-producer-delivery-dlq"] },
      ]
    )
    error_message = "The schedule's role differs: ${aws_iam_role_policy.scheduler.policy}"
  }

  assert {
    condition = (
      output.image_uri == var.image_uri && output.function_name == "rnr-test-producer" &&
      output.function_arn == aws_lambda_function.this.arn && output.role_arn == aws_iam_role.function.arn &&
      output.log_group == "/aws/lambda/rnr-test-producer" && output.security_group_id == aws_security_group.this.id &&
      output.schedule_name == "rnr-test-producer" && output.schedule_group == "rnr-test" &&
      output.schedule_arn != null && output.schedule_role_arn == aws_iam_role.scheduler.arn &&
      output.dlq_name == "rnr-test-producer-dlq" && output.dlq_arn == aws_sqs_queue.dlq.arn && output.dlq_url != null &&
      output.delivery_dlq_name == "rnr-test-producer-delivery-dlq" && output.delivery_dlq_arn == aws_sqs_queue.delivery_dlq.arn &&
      output.delivery_dlq_url != null
    )
    error_message = "An output differs."
  }
}

run "settings" {
  command = plan

  variables {
    schedule_enabled     = false
    reserved_concurrency = 1
    max_event_age_s      = 60
    max_retries          = 0
    memory_mb            = 1024
    ephemeral_storage_mb = 2048
    timeout_s            = 30
    architecture         = "arm64"
    queue_kms_key_arn    = "arn:aws:kms:eu-west-1:123456789012:key/q"
  }

  assert {
    condition = (
      aws_scheduler_schedule.this.state == "DISABLED" &&
      aws_scheduler_schedule.this.target[0].retry_policy[0].maximum_event_age_in_seconds == 60 &&
      aws_lambda_function_event_invoke_config.this.maximum_event_age_in_seconds == 60 &&
      aws_lambda_function_event_invoke_config.this.maximum_retry_attempts == 0 &&
      aws_lambda_function.this.reserved_concurrent_executions == 1 &&
      aws_lambda_function.this.ephemeral_storage[0].size == 2048 &&
      aws_lambda_function.this.memory_size == 1024 && aws_lambda_function.this.timeout == 30 &&
      aws_lambda_function.this.architectures == tolist(["arm64"])
    )
    error_message = "A setting has no effect."
  }

  assert {
    condition = alltrue([
      for policy in [aws_iam_role_policy.function.policy, aws_iam_role_policy.scheduler.policy] : contains(jsondecode(policy).Statement, {
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = ["arn:aws:kms:eu-west-1:123456789012:key/q"]
        Condition = { StringEquals = { "kms:ViaService" = "sqs.eu-west-1.amazonaws.com" } }
      })
    ])
    error_message = "The roles may not use the key of the queues."
  }
}

run "environment_that_is_too_large" {
  command = plan

  variables {
    environment = { LARGE = join("", [for i in range(1024) : "1234"]) }
  }

  expect_failures = [aws_lambda_function.this]
}
