data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  dns_suffix = data.aws_partition.current.dns_suffix
  region     = data.aws_region.current.id
}

################################################################################
# Rule → queue, with a dead-letter queue for each of the two
################################################################################

resource "aws_cloudwatch_event_rule" "this" {
  name           = var.name
  description    = "Objects created in bucket ${var.bucket} below the prefix of ${var.name}"
  event_bus_name = var.bus_name
  event_pattern  = jsonencode(local.event_pattern)
  state          = "ENABLED" # set explicitly: otherwise the provider does not correct a rule that was disabled by hand
  tags           = var.tags
}

resource "aws_cloudwatch_event_target" "queue" {
  rule           = aws_cloudwatch_event_rule.this.name
  event_bus_name = aws_cloudwatch_event_rule.this.event_bus_name
  target_id      = "queue"
  arn            = aws_sqs_queue.this.arn

  dead_letter_config {
    arn = aws_sqs_queue.delivery_dlq.arn
  }
}

resource "aws_sqs_queue" "this" {
  name                       = var.name
  visibility_timeout_seconds = local.visibility_timeout_s
  message_retention_seconds  = var.message_retention_s
  sqs_managed_sse_enabled    = var.queue_kms_key_arn == null ? true : null
  kms_master_key_id          = var.queue_kms_key_arn
  policy                     = jsonencode(local.queue_policy[local.queue_arn])
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dlq.arn
    maxReceiveCount     = var.max_receive_count
  })

  lifecycle {
    precondition {
      condition     = local.visibility_timeout_s >= var.timeout_s
      error_message = "The visibility timeout of queue ${var.name} is ${local.visibility_timeout_s} s and the timeout of its function is ${var.timeout_s} s; visibility_timeout_s must be at least timeout_s, otherwise Lambda rejects the event source mapping."
    }
  }
}

# Messages that the function, or another consumer of the queue, could not process.
resource "aws_sqs_queue" "dlq" {
  name                      = local.dlq_name
  message_retention_seconds = 1209600 # 14 days, the longest that SQS keeps a message
  sqs_managed_sse_enabled   = var.queue_kms_key_arn == null ? true : null
  kms_master_key_id         = var.queue_kms_key_arn
  tags                      = var.tags

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [local.queue_arn]
  })
}

# Events that EventBridge could not deliver to the queue. Without this queue they would be lost.
resource "aws_sqs_queue" "delivery_dlq" {
  name                      = local.delivery_dlq_name
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.queue_kms_key_arn == null ? true : null
  kms_master_key_id         = var.queue_kms_key_arn
  policy                    = jsonencode(local.queue_policy[local.delivery_dlq_arn])
  tags                      = var.tags
}

################################################################################
# Queue → function. A completion ruleset has none of these resources
################################################################################

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50: traces come from the function's log lines; X-Ray would need further permissions
  #checkov:skip=CKV_AWS_115: max_concurrency limits the invocations; reserved concurrency would take it from other functions
  #checkov:skip=CKV_AWS_116: Lambda uses this DLQ for asynchronous invocations only; messages that fail go to the queue's DLQ
  #checkov:skip=CKV_AWS_173: the variables hold no secrets; Lambda encrypts them with its own key
  #checkov:skip=CKV_AWS_272: Lambda does not support code signing for container images; images are pinned by digest

  count = local.has_function ? 1 : 0

  function_name = var.name
  description   = "Refines objects of bucket ${var.bucket}"
  role          = aws_iam_role.this[0].arn
  package_type  = "Image"
  image_uri     = local.image_uri
  architectures = [var.architecture]
  memory_size   = var.memory_mb
  timeout       = var.timeout_s
  tags          = var.tags

  environment {
    variables = local.environment
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  # Lambda checks the role's VPC permissions when it creates the function, and makes a log group without retention if
  # there is none.
  depends_on = [
    aws_cloudwatch_log_group.this,
    aws_iam_role_policy_attachment.this,
  ]

  lifecycle {
    precondition {
      condition     = local.image_version != ""
      error_message = "Image ${var.image_uri} of ${var.name} has neither tag nor digest: add \":tag\" or \"@sha256:…\" to image_uri, or set release_tag."
    }

    precondition {
      condition     = length(local.loops) == 0
      error_message = "The prefix ${local.prefix} of ${var.name} overlaps ${local.output_prefix} or ${local.complete_prefix}: the function's own outputs would invoke it again, in a loop. In a ruleset with an image_uri, prefix must not overlap output_prefix or complete_prefix, nor what environment sets instead."
    }

    precondition {
      condition     = trimprefix(local.environment.REFINER_INPUT_PREFIX, "/") == local.prefix
      error_message = "REFINER_INPUT_PREFIX of ${var.name} is ${local.environment.REFINER_INPUT_PREFIX}, and its rule sends objects below ${local.prefix}: environment may set it with or without leading slash only."
    }

    precondition {
      condition     = length(jsonencode(local.environment)) <= 4096
      error_message = "The environment variables of ${var.name} have ${length(jsonencode(local.environment))} bytes as JSON; Lambda allows 4,096."
    }
  }
}

resource "aws_lambda_event_source_mapping" "this" {
  count = local.has_function ? 1 : 0

  event_source_arn        = aws_sqs_queue.this.arn
  function_name           = aws_lambda_function.this[0].arn
  batch_size              = var.batch_size
  function_response_types = ["ReportBatchItemFailures"]

  # Lambda requires a batching window of at least one second for batch sizes above 10.
  maximum_batching_window_in_seconds = var.batch_size > 10 ? 1 : 0

  dynamic "scaling_config" {
    for_each = var.max_concurrency == null ? [] : [var.max_concurrency]

    content {
      maximum_concurrency = scaling_config.value
    }
  }

  # Lambda checks the role's permissions on the queue when it creates the mapping.
  depends_on = [aws_iam_role_policy.this]
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338: log_retention_days decides; some data must not be kept for a year

  count = local.has_function ? 1 : 0

  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.tags
}

resource "aws_iam_role" "this" {
  count = local.has_function ? 1 : 0

  name                 = var.name
  description          = "Execution role of the function ${var.name}"
  assume_role_policy   = jsonencode(local.assume_role_policy)
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "this" {
  count = local.has_function ? 1 : 0

  name   = "refine"
  role   = aws_iam_role.this[0].name
  policy = jsonencode(local.function_policy)
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.managed_policies

  role       = aws_iam_role.this[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/${each.value}"
}
