data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  # Built from names: an attribute would make roles wait for queues and the function, 25 seconds for each level of queues.
  sqs_arn_prefix   = "arn:${local.partition}:sqs:${local.region}:${local.account_id}"
  dlq_arn          = "${local.sqs_arn_prefix}:${var.name}-dlq"
  delivery_dlq_arn = "${local.sqs_arn_prefix}:${var.name}-delivery-dlq"
  function_arn     = "arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:${var.name}"
  group_arn        = "arn:${local.partition}:scheduler:${local.region}:${local.account_id}:schedule-group/${var.schedule_group}"

  function_assume_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
    }]
  }

  # EventBridge Scheduler's source is the schedule's group.
  scheduler_assume_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id, "aws:SourceArn" = local.group_arn } }
    }]
  }

  queue_kms_statements = [
    for key_arn in var.queue_kms_key_arn[*] : {
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = [key_arn]
      Condition = { StringEquals = { "kms:ViaService" = "sqs.${local.region}.${data.aws_partition.current.dns_suffix}" } }
    }
  ]

  function_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Effect   = "Allow"
          Action   = ["sqs:SendMessage"]
          Resource = [local.dlq_arn]
        },
        {
          # The managed policy below is for Lambda itself, which makes the function's network interfaces.
          Effect = "Deny"
          Action = [
            "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
          ]
          Resource  = ["*"]
          Condition = { ArnEquals = { "lambda:SourceFunctionArn" = local.function_arn } }
        },
      ],
      [
        for statement in var.policy_statements : merge(
          { Effect = "Allow", Action = statement.Action, Resource = statement.Resource },
          { for condition in statement.Condition[*] : "Condition" => condition },
        )
      ],
      local.queue_kms_statements,
    )
  }

  scheduler_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Effect   = "Allow"
          Action   = ["lambda:InvokeFunction"]
          Resource = [local.function_arn]
        },
        {
          Effect   = "Allow"
          Action   = ["sqs:SendMessage"]
          Resource = [local.delivery_dlq_arn]
        },
      ],
      local.queue_kms_statements,
    )
  }
}

################################################################################
# Function
################################################################################

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50: traces come from the function's log lines; X-Ray would need further permissions
  #checkov:skip=CKV_AWS_115: reserved_concurrency decides; it takes concurrency from other functions
  #checkov:skip=CKV_AWS_116: runs that fail go to the destination of aws_lambda_function_event_invoke_config, with the reason
  #checkov:skip=CKV_AWS_173: the variables hold no secrets; Lambda encrypts them with its own key
  #checkov:skip=CKV_AWS_272: Lambda does not support code signing for container images; images are pinned by digest

  function_name                  = var.name
  description                    = var.description
  role                           = aws_iam_role.function.arn
  package_type                   = "Image"
  image_uri                      = var.image_uri
  architectures                  = [var.architecture]
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_s
  reserved_concurrent_executions = coalesce(var.reserved_concurrency, -1)
  tags                           = var.tags

  ephemeral_storage {
    size = var.ephemeral_storage_mb
  }

  environment {
    variables = var.environment
  }

  vpc_config {
    subnet_ids         = var.subnet_ids
    security_group_ids = [aws_security_group.this.id]
  }

  # Lambda checks the role's VPC permissions when it creates the function, and makes a log group without retention if
  # there is none.
  depends_on = [
    aws_cloudwatch_log_group.this,
    aws_iam_role_policy_attachment.vpc,
  ]

  lifecycle {
    precondition {
      condition     = length(jsonencode(var.environment)) <= 4096
      error_message = "The environment variables of ${var.name} have ${length(jsonencode(var.environment))} bytes as JSON; Lambda allows 4,096."
    }
  }
}

# EventBridge Scheduler invokes asynchronously: Lambda tries again, and sends what failed to the dead-letter queue.
resource "aws_lambda_function_event_invoke_config" "this" {
  function_name                = aws_lambda_function.this.function_name
  maximum_event_age_in_seconds = var.max_event_age_s
  maximum_retry_attempts       = var.max_retries

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dlq.arn
    }
  }

  # Lambda checks that the role may send to the destination.
  depends_on = [aws_iam_role_policy.function]
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338: log_retention_days decides

  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.tags
}

resource "aws_iam_role" "function" {
  name                 = var.role_name
  description          = "Execution role of the function ${var.name}"
  assume_role_policy   = jsonencode(local.function_assume_policy)
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "function" {
  name   = "run"
  role   = aws_iam_role.function.name
  policy = jsonencode(local.function_policy)
}

# Network interfaces and the log.
resource "aws_iam_role_policy_attachment" "vpc" {
  role       = aws_iam_role.function.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
}

resource "aws_security_group" "this" {
  name        = var.name
  description = "Function ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_egress_rule" "this" {
  for_each = var.egress

  security_group_id            = aws_security_group.this.id
  description                  = "To ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  referenced_security_group_id = each.value.security_group_id
  prefix_list_id               = each.value.prefix_list_id
  cidr_ipv4                    = each.value.cidr
  tags                         = var.tags
}

################################################################################
# Schedule → function
################################################################################

resource "aws_scheduler_schedule" "this" {
  #checkov:skip=CKV_AWS_297: a schedule holds no data

  name                = var.name
  group_name          = var.schedule_group
  description         = var.description
  schedule_expression = var.schedule_expression
  state               = var.schedule_enabled ? "ENABLED" : "DISABLED"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.this.arn
    role_arn = aws_iam_role.scheduler.arn
    input    = "{}"

    retry_policy {
      maximum_event_age_in_seconds = var.max_event_age_s
      maximum_retry_attempts       = 10
    }

    dead_letter_config {
      arn = aws_sqs_queue.delivery_dlq.arn
    }
  }

  depends_on = [aws_iam_role_policy.scheduler]
}

resource "aws_iam_role" "scheduler" {
  name                 = var.scheduler_role_name
  description          = "Lets EventBridge Scheduler invoke the function ${var.name}"
  assume_role_policy   = jsonencode(local.scheduler_assume_policy)
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "invoke"
  role   = aws_iam_role.scheduler.name
  policy = jsonencode(local.scheduler_policy)
}

################################################################################
# Dead-letter queues. No queue policy: the two roles send
################################################################################

# Runs that failed, with the error.
resource "aws_sqs_queue" "dlq" {
  name                      = "${var.name}-dlq"
  message_retention_seconds = 1209600 # 14 days, the longest that SQS keeps a message
  sqs_managed_sse_enabled   = var.queue_kms_key_arn == null ? true : null
  kms_master_key_id         = var.queue_kms_key_arn
  tags                      = var.tags
}

# Occurrences of the schedule for which the function could not be invoked.
resource "aws_sqs_queue" "delivery_dlq" {
  name                      = "${var.name}-delivery-dlq"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.queue_kms_key_arn == null ? true : null
  kms_master_key_id         = var.queue_kms_key_arn
  tags                      = var.tags
}
