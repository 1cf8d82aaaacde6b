mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-west-1:123456789012:rule/data-repository-bus/dibbs-ecr-RefinerInput" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/dibbs-ecr-RefinerInput" }
  }

  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:dibbs-ecr-RefinerInput" }
  }

  mock_resource "aws_lambda_event_source_mapping" {
    defaults = { uuid = "11111111-2222-3333-4444-555555555555" }
  }

  override_resource {
    target = aws_sqs_queue.this
    values = {
      arn = "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput"
      url = "https://sqs.eu-west-1.amazonaws.com/123456789012/dibbs-ecr-RefinerInput"
    }
  }

  override_resource {
    target = aws_sqs_queue.dlq
    values = {
      arn = "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput-dlq"
      url = "https://sqs.eu-west-1.amazonaws.com/123456789012/dibbs-ecr-RefinerInput-dlq"
    }
  }

  override_resource {
    target = aws_sqs_queue.delivery_dlq
    values = {
      arn = "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput-delivery-dlq"
      url = "https://sqs.eu-west-1.amazonaws.com/123456789012/dibbs-ecr-RefinerInput-delivery-dlq"
    }
  }
}

variables {
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  name                 = "dibbs-ecr-RefinerInput"
  prefix               = "RefinerInput/"
  bucket               = "data-repository"
  bus_name             = "data-repository-bus"
  image_uri            = "dibbs-ecr-refiner/lambda:v1.2.3"
}

run "ruleset_with_function" {
  command = plan

  assert {
    condition     = aws_iam_role.this[0].permissions_boundary == var.permissions_boundary
    error_message = "A role has no permissions boundary."
  }

  assert {
    condition     = aws_cloudwatch_event_rule.this.name == "dibbs-ecr-RefinerInput" && aws_cloudwatch_event_rule.this.event_bus_name == "data-repository-bus"
    error_message = "The rule has another name, or is on another bus."
  }

  assert {
    condition     = aws_cloudwatch_event_rule.this.state == "ENABLED"
    error_message = "Terraform would not enable a rule that was disabled by hand."
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.this.event_pattern) == {
      source        = ["aws.s3"]
      "detail-type" = ["Object Created"]
      detail = {
        bucket = { name = ["data-repository"] }
        object = { key = [{ prefix = "RefinerInput/" }] }
      }
    }
    error_message = "The event pattern differs: ${aws_cloudwatch_event_rule.this.event_pattern}"
  }

  assert {
    condition = (
      aws_cloudwatch_event_target.queue.rule == "dibbs-ecr-RefinerInput" &&
      aws_cloudwatch_event_target.queue.event_bus_name == "data-repository-bus" &&
      aws_cloudwatch_event_target.queue.arn == aws_sqs_queue.this.arn &&
      aws_cloudwatch_event_target.queue.dead_letter_config[0].arn == aws_sqs_queue.delivery_dlq.arn
    )
    error_message = "The rule does not send to the queue, or what cannot be delivered does not go to the delivery dead-letter queue."
  }

  assert {
    condition = (
      aws_sqs_queue.this.name == "dibbs-ecr-RefinerInput" &&
      aws_sqs_queue.dlq.name == "dibbs-ecr-RefinerInput-dlq" &&
      aws_sqs_queue.delivery_dlq.name == "dibbs-ecr-RefinerInput-delivery-dlq"
    )
    error_message = "A queue has another name."
  }

  assert {
    condition = (
      aws_sqs_queue.this.message_retention_seconds == 345600 &&
      aws_sqs_queue.dlq.message_retention_seconds == 1209600 &&
      aws_sqs_queue.delivery_dlq.message_retention_seconds == 1209600
    )
    error_message = "Messages must be kept for 4 days in the queue, and for 14 in the dead-letter queues."
  }

  assert {
    condition     = aws_sqs_queue.this.sqs_managed_sse_enabled && aws_sqs_queue.dlq.sqs_managed_sse_enabled && aws_sqs_queue.delivery_dlq.sqs_managed_sse_enabled
    error_message = "A queue is not encrypted."
  }

  assert {
    condition = jsondecode(aws_sqs_queue.this.redrive_policy) == {
      deadLetterTargetArn = "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput-dlq"
      maxReceiveCount     = 5
    }
    error_message = "The redrive policy differs: ${aws_sqs_queue.this.redrive_policy}"
  }

  assert {
    condition = jsondecode(aws_sqs_queue.dlq.redrive_allow_policy) == {
      redrivePermission = "byQueue"
      sourceQueueArns   = ["arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput"]
    }
    error_message = "The redrive allow policy differs: ${aws_sqs_queue.dlq.redrive_allow_policy}"
  }

  assert {
    condition = alltrue([
      for queue in [aws_sqs_queue.this, aws_sqs_queue.delivery_dlq] : jsondecode(queue.policy) == {
        Version = "2012-10-17"
        Statement = [{
          Effect    = "Allow"
          Principal = { Service = "events.amazonaws.com" }
          Action    = "sqs:SendMessage"
          Resource  = "arn:aws:sqs:eu-west-1:123456789012:${queue.name}"
          Condition = { ArnEquals = { "aws:SourceArn" = "arn:aws:events:eu-west-1:123456789012:rule/data-repository-bus/dibbs-ecr-RefinerInput" } }
        }]
      }
    ])
    error_message = "A queue policy differs: ${aws_sqs_queue.this.policy} ${aws_sqs_queue.delivery_dlq.policy}"
  }

  assert {
    condition = (
      aws_lambda_function.this[0].function_name == "dibbs-ecr-RefinerInput" &&
      aws_lambda_function.this[0].package_type == "Image" &&
      aws_lambda_function.this[0].architectures == tolist(["x86_64"]) &&
      aws_lambda_function.this[0].memory_size == 1024 &&
      aws_lambda_function.this[0].timeout == 900 &&
      aws_lambda_function.this[0].role == aws_iam_role.this[0].arn &&
      length(aws_lambda_function.this[0].vpc_config) == 0
    )
    error_message = "The function differs from the defaults."
  }

  assert {
    condition = aws_lambda_function.this[0].environment[0].variables == tomap({
      REFINER_INPUT_PREFIX    = "/RefinerInput/"
      REFINER_OUTPUT_PREFIX   = "/RefinerOutput/"
      REFINER_COMPLETE_PREFIX = "/RefinerComplete/"
    })
    error_message = "The function's environment differs: ${jsonencode(aws_lambda_function.this[0].environment[0].variables)}"
  }

  assert {
    condition     = aws_cloudwatch_log_group.this[0].name == "/aws/lambda/dibbs-ecr-RefinerInput" && aws_cloudwatch_log_group.this[0].retention_in_days == 30
    error_message = "The log group is not the function's, or keeps logs for another time than 30 days."
  }

  assert {
    condition = (
      aws_lambda_event_source_mapping.this[0].event_source_arn == aws_sqs_queue.this.arn &&
      aws_lambda_event_source_mapping.this[0].function_name == aws_lambda_function.this[0].arn &&
      aws_lambda_event_source_mapping.this[0].batch_size == 10 &&
      aws_lambda_event_source_mapping.this[0].maximum_batching_window_in_seconds == 0 &&
      aws_lambda_event_source_mapping.this[0].function_response_types == toset(["ReportBatchItemFailures"]) &&
      length(aws_lambda_event_source_mapping.this[0].scaling_config) == 0
    )
    error_message = "The event source mapping differs from the defaults."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.this[0].policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Effect = "Allow"
          Action = ["s3:GetObject", "s3:PutObject"]
          Resource = [
            "arn:aws:s3:::data-repository/RefinerInput/*",
            "arn:aws:s3:::data-repository/RefinerOutput/*",
            "arn:aws:s3:::data-repository/RefinerComplete/*",
          ]
        },
        {
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = ["arn:aws:s3:::data-repository"]
        },
        {
          Effect   = "Allow"
          Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
          Resource = ["arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput"]
        },
      ]
    }
    error_message = "The inline policy differs: ${aws_iam_role_policy.this[0].policy}"
  }

  assert {
    condition = jsondecode(aws_iam_role.this[0].assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { Service = "lambda.amazonaws.com" }
        Action    = "sts:AssumeRole"
        Condition = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
      }]
    }
    error_message = "The trust policy differs: ${aws_iam_role.this[0].assume_role_policy}"
  }

  assert {
    condition = toset(values(aws_iam_role_policy_attachment.this)[*].policy_arn) == toset([
      "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
      "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole",
    ])
    error_message = "The role has other managed policies."
  }

  assert {
    condition     = aws_iam_role.this[0].name == "dibbs-ecr-RefinerInput" && aws_iam_role_policy.this[0].role == "dibbs-ecr-RefinerInput" && alltrue([for attachment in values(aws_iam_role_policy_attachment.this) : attachment.role == "dibbs-ecr-RefinerInput"])
    error_message = "The policies are not on the function's role."
  }

  assert {
    condition = (
      output.prefix == "RefinerInput/" && output.complete_suffix == ".json" &&
      output.image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v1.2.3" &&
      output.rule_name == "dibbs-ecr-RefinerInput" &&
      output.rule_arn == "arn:aws:events:eu-west-1:123456789012:rule/data-repository-bus/dibbs-ecr-RefinerInput" &&
      output.queue_name == "dibbs-ecr-RefinerInput" &&
      output.queue_arn == "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput" &&
      output.queue_url == "https://sqs.eu-west-1.amazonaws.com/123456789012/dibbs-ecr-RefinerInput" &&
      output.dlq_name == "dibbs-ecr-RefinerInput-dlq" &&
      output.dlq_arn == "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput-dlq" &&
      output.dlq_url == "https://sqs.eu-west-1.amazonaws.com/123456789012/dibbs-ecr-RefinerInput-dlq" &&
      output.delivery_dlq_name == "dibbs-ecr-RefinerInput-delivery-dlq" &&
      output.delivery_dlq_arn == "arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput-delivery-dlq" &&
      output.delivery_dlq_url == "https://sqs.eu-west-1.amazonaws.com/123456789012/dibbs-ecr-RefinerInput-delivery-dlq" &&
      output.function_name == "dibbs-ecr-RefinerInput" &&
      output.function_arn == "arn:aws:lambda:eu-west-1:123456789012:function:dibbs-ecr-RefinerInput" &&
      output.role_arn == "arn:aws:iam::123456789012:role/dibbs-ecr-RefinerInput" &&
      output.log_group == "/aws/lambda/dibbs-ecr-RefinerInput" &&
      output.event_source_mapping_id == aws_lambda_event_source_mapping.this[0].uuid
    )
    error_message = "An output is not that of its resource."
  }
}

run "settings_in_another_partition" {
  command = plan

  variables {
    prefix               = "/Other/Input/"
    image_uri            = "dibbs-ecr-refiner/lambda"
    release_tag          = "v9"
    output_prefix        = "Out/"
    complete_prefix      = "/Done/"
    complete_suffix      = ".completion"
    memory_mb            = 512
    timeout_s            = 120
    visibility_timeout_s = 120
    max_receive_count    = 3
    message_retention_s  = 60
    log_retention_days   = 7
    batch_size           = 11
    max_concurrency      = 2
    architecture         = "arm64"
    environment          = { LEVEL = "debug", AWS_ENDPOINT_URL = "http://localhost:4566" }
    vpc                  = { subnet_ids = ["subnet-0a", "subnet-0b"], security_group_ids = ["sg-0a"] }
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1" }
  }

  assert {
    condition = (
      aws_lambda_function.this[0].memory_size == 512 &&
      aws_lambda_function.this[0].timeout == 120 &&
      aws_lambda_function.this[0].architectures == tolist(["arm64"]) &&
      aws_lambda_function.this[0].vpc_config[0].subnet_ids == toset(["subnet-0a", "subnet-0b"]) &&
      aws_lambda_function.this[0].vpc_config[0].security_group_ids == toset(["sg-0a"])
    )
    error_message = "A setting does not reach the function."
  }

  assert {
    condition = aws_lambda_function.this[0].environment[0].variables == tomap({
      LEVEL                   = "debug"
      AWS_ENDPOINT_URL        = "http://localhost:4566"
      REFINER_INPUT_PREFIX    = "/Other/Input/"
      REFINER_OUTPUT_PREFIX   = "/Out/"
      REFINER_COMPLETE_PREFIX = "/Done/"
      REFINER_COMPLETE_SUFFIX = ".completion"
    })
    error_message = "The function's environment differs: ${jsonencode(aws_lambda_function.this[0].environment[0].variables)}"
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.this[0].policy).Statement[0].Resource == [
      "arn:aws-cn:s3:::data-repository/Other/Input/*",
      "arn:aws-cn:s3:::data-repository/Out/*",
      "arn:aws-cn:s3:::data-repository/Done/*",
    ]
    error_message = "The policy must have the prefixes without leading slash: ${aws_iam_role_policy.this[0].policy}"
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.this.event_pattern).detail.object.key[0].prefix == "Other/Input/"
    error_message = "The event pattern must have the prefix without leading slash."
  }

  assert {
    condition = (
      aws_sqs_queue.this.visibility_timeout_seconds == 120 &&
      aws_sqs_queue.this.message_retention_seconds == 60 &&
      aws_cloudwatch_log_group.this[0].retention_in_days == 7
    )
    error_message = "A setting does not reach the queue or the log group."
  }

  assert {
    condition = (
      aws_lambda_event_source_mapping.this[0].batch_size == 11 &&
      aws_lambda_event_source_mapping.this[0].maximum_batching_window_in_seconds == 1 &&
      aws_lambda_event_source_mapping.this[0].scaling_config[0].maximum_concurrency == 2
    )
    error_message = "A batch above 10 needs a window of a second, and the concurrency its limit."
  }

  assert {
    condition     = aws_lambda_function.this[0].image_uri == "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/dibbs-ecr-refiner/lambda:v9" && output.image_uri == aws_lambda_function.this[0].image_uri
    error_message = "The image is ${aws_lambda_function.this[0].image_uri}."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.this[0].policy).Statement[1].Resource == ["arn:aws-cn:s3:::data-repository"]
    error_message = "The policy is of another partition."
  }
}

# What the environment of the function says wins over the variables.
run "environment_wins_and_role_may_read_and_use_keys" {
  command = plan

  variables {
    timeout_s = 100
    image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    environment = {
      REFINER_INPUT_PREFIX    = "RefinerInput/"
      REFINER_OUTPUT_PREFIX   = "Labs/Output/"
      REFINER_COMPLETE_PREFIX = "/Labs/Complete/"
      REFINER_COMPLETE_SUFFIX = ".done"
    }
    read_access = ["/eICR/", "s3://config/configurations/", "s3://config/common files/", "s3://whole/"]
    read_kms_key_arns = [
      "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555",
      "arn:aws:kms:us-east-1:210987654321:key/mrk-0123456789abcdef0123456789abcdef",
    ]
    bucket_kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1"
    queue_kms_key_arn  = "arn:aws:kms:eu-west-1:123456789012:key/2"
    log_kms_key_arn    = "arn:aws:kms:eu-west-1:123456789012:key/3"
  }

  assert {
    condition = aws_lambda_function.this[0].environment[0].variables == tomap({
      REFINER_INPUT_PREFIX    = "RefinerInput/"
      REFINER_OUTPUT_PREFIX   = "Labs/Output/"
      REFINER_COMPLETE_PREFIX = "/Labs/Complete/"
      REFINER_COMPLETE_SUFFIX = ".done"
    })
    error_message = "The function's environment differs: ${jsonencode(aws_lambda_function.this[0].environment[0].variables)}"
  }

  assert {
    condition     = output.output_prefix == "Labs/Output/" && output.complete_prefix == "Labs/Complete/" && output.complete_suffix == ".done"
    error_message = "The outputs are ${output.output_prefix} and ${output.complete_prefix}."
  }

  # What the environment says, the prefixes that the function may read, and the keys.
  assert {
    condition = jsondecode(aws_iam_role_policy.this[0].policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Effect = "Allow"
          Action = ["s3:GetObject", "s3:PutObject"]
          Resource = [
            "arn:aws:s3:::data-repository/RefinerInput/*",
            "arn:aws:s3:::data-repository/Labs/Output/*",
            "arn:aws:s3:::data-repository/Labs/Complete/*",
          ]
        },
        {
          Effect   = "Allow"
          Action   = ["s3:ListBucket"]
          Resource = ["arn:aws:s3:::data-repository", "arn:aws:s3:::config", "arn:aws:s3:::whole"]
        },
        {
          Effect   = "Allow"
          Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
          Resource = ["arn:aws:sqs:eu-west-1:123456789012:dibbs-ecr-RefinerInput"]
        },
        {
          Effect = "Allow"
          Action = ["s3:GetObject"]
          Resource = [
            "arn:aws:s3:::data-repository/eICR/*",
            "arn:aws:s3:::config/configurations/*",
            "arn:aws:s3:::config/common files/*",
            "arn:aws:s3:::whole/*",
          ]
        },
        {
          Effect = "Allow"
          Action = ["kms:Decrypt"]
          Resource = [
            "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555",
            "arn:aws:kms:us-east-1:210987654321:key/mrk-0123456789abcdef0123456789abcdef",
          ]
          Condition = {
            StringEquals = { "kms:ViaService" = ["s3.eu-west-1.amazonaws.com", "s3.us-east-1.amazonaws.com"] }
          }
        },
        {
          Effect    = "Allow"
          Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
          Resource  = ["arn:aws:kms:eu-west-1:123456789012:key/1"]
          Condition = { StringEquals = { "kms:ViaService" = ["s3.eu-west-1.amazonaws.com"] } }
        },
        {
          Effect    = "Allow"
          Action    = ["kms:Decrypt"]
          Resource  = ["arn:aws:kms:eu-west-1:123456789012:key/2"]
          Condition = { StringEquals = { "kms:ViaService" = ["sqs.eu-west-1.amazonaws.com"] } }
        },
      ]
    }
    error_message = "The inline policy differs: ${aws_iam_role_policy.this[0].policy}"
  }

  assert {
    condition = output.read_access == [
      "s3://data-repository/eICR/", "s3://config/configurations/", "s3://config/common files/", "s3://whole/"
    ] && length(output.read_kms_key_arns) == 2
    error_message = "The output differs: ${jsonencode(output.read_access)}"
  }

  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.this, aws_sqs_queue.dlq, aws_sqs_queue.delivery_dlq] : queue.kms_master_key_id == "arn:aws:kms:eu-west-1:123456789012:key/2"])
    error_message = "A queue is not encrypted with the key."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this[0].kms_key_id == "arn:aws:kms:eu-west-1:123456789012:key/3"
    error_message = "The log group is not encrypted with the key."
  }

  assert {
    condition     = aws_sqs_queue.this.visibility_timeout_seconds == 600
    error_message = "The visibility timeout is ${aws_sqs_queue.this.visibility_timeout_seconds} s, not 600."
  }

  assert {
    condition     = aws_lambda_function.this[0].image_uri == "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" && output.image_uri == aws_lambda_function.this[0].image_uri
    error_message = "The image is ${aws_lambda_function.this[0].image_uri}."
  }
}

run "completion_ruleset_has_no_function" {
  command = plan

  variables {
    prefix            = "RefinerComplete/"
    image_uri         = null
    read_access       = ["Other/"]
    read_kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/1"]
  }

  assert {
    condition = sum([
      length(aws_cloudwatch_log_group.this),
      length(aws_iam_role.this),
      length(aws_iam_role_policy.this),
      length(aws_iam_role_policy_attachment.this),
      length(aws_lambda_event_source_mapping.this),
      length(aws_lambda_function.this),
    ]) == 0
    error_message = "A completion ruleset must not have a function, nor anything that serves one."
  }

  assert {
    condition     = alltrue([for value in [output.output_prefix, output.complete_prefix, output.complete_suffix, output.image_uri, output.function_name, output.function_arn, output.role_arn, output.log_group, output.event_source_mapping_id] : value == null])
    error_message = "What belongs to a function must be null."
  }

  assert {
    condition     = length(output.read_access) == 0 && length(output.read_kms_key_arns) == 0
    error_message = "Without a function nothing is read."
  }

  assert {
    condition     = aws_cloudwatch_event_target.queue.event_bus_name == "data-repository-bus" && output.queue_name == "dibbs-ecr-RefinerInput"
    error_message = "A completion ruleset still has its rule and queues."
  }
}
