data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  # Built from the name: the rule's attribute would make the queue wait for the rule.
  forward_rule_arn = "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/${var.forward_name}"

  event_pattern = {
    source        = ["aws.s3"]
    "detail-type" = ["Object Created"]
    detail        = { bucket = { name = [var.bucket] } }
  }

  assume_role_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        ArnEquals    = { "aws:SourceArn" = local.forward_rule_arn }
        StringEquals = { "aws:SourceAccount" = local.account_id }
      }
    }]
  }

  forward_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "events:PutEvents"
      Resource = aws_cloudwatch_event_bus.this.arn
    }]
  }

  delivery_dlq_name = "${var.forward_name}-delivery-dlq"

  delivery_dlq_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = "arn:${local.partition}:sqs:${local.region}:${local.account_id}:${local.delivery_dlq_name}"
      Condition = { ArnEquals = { "aws:SourceArn" = local.forward_rule_arn } }
    }]
  }
}

resource "aws_cloudwatch_event_bus" "this" {
  name = var.name
  tags = var.tags
}

# S3 sends its events only to the account's default bus.
resource "aws_cloudwatch_event_rule" "forward" {
  name          = var.forward_name
  description   = "Forward the Object Created events of bucket ${var.bucket} to the event bus ${var.name}"
  event_pattern = jsonencode(local.event_pattern)
  state         = "ENABLED" # set explicitly: otherwise the provider does not correct a rule that was disabled by hand
  tags          = var.tags
}

resource "aws_cloudwatch_event_target" "forward" {
  rule      = aws_cloudwatch_event_rule.forward.name
  target_id = "event-bus"
  arn       = aws_cloudwatch_event_bus.this.arn
  role_arn  = aws_iam_role.forward.arn

  dead_letter_config {
    arn = aws_sqs_queue.delivery_dlq.arn
  }

  depends_on = [aws_iam_role_policy.forward]
}

resource "aws_iam_role" "forward" {
  name                 = var.forward_name
  description          = "Lets EventBridge put events on the event bus ${var.name}"
  assume_role_policy   = jsonencode(local.assume_role_policy)
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "forward" {
  name   = "put-events"
  role   = aws_iam_role.forward.name
  policy = jsonencode(local.forward_policy)
}

# Events that EventBridge could not forward. Without this queue they would be lost.
resource "aws_sqs_queue" "delivery_dlq" {
  name                      = local.delivery_dlq_name
  message_retention_seconds = 1209600 # 14 days, the longest that SQS keeps a message
  sqs_managed_sse_enabled   = var.queue_kms_key_arn == null ? true : null
  kms_master_key_id         = var.queue_kms_key_arn
  policy                    = jsonencode(local.delivery_dlq_policy)
  tags                      = var.tags
}
