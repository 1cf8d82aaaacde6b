locals {
  five_minutes = { period_s = 300, periods = 1 }

  # The kinds of alarms, by the suffix of their names. docs/runbook.md has a section for each.
  kinds = {
    messages = {
      description = "DLQ %s has messages. They expire 14 days after they were first sent"
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimension   = "QueueName"
      statistic   = "Maximum"
      missing     = "notBreaching"
      of          = { for key, name in var.dlqs : key => merge(local.five_minutes, { name = name, threshold = var.dlq_messages }) }
    }

    expiring = {
      description = "The oldest message of DLQ %s has been there for a long time, and will be deleted 14 days after it was first sent"
      namespace   = "AWS/SQS"
      metric      = "ApproximateAgeOfOldestMessage"
      dimension   = "QueueName"
      statistic   = "Maximum"
      missing     = "notBreaching"
      of          = { for key, name in var.dlqs : key => merge(local.five_minutes, { name = name, threshold = var.dlq_age_s }) }
    }

    oldest-message = {
      description = "The oldest message of queue %s has waited for too long"
      namespace   = "AWS/SQS"
      metric      = "ApproximateAgeOfOldestMessage"
      dimension   = "QueueName"
      statistic   = "Maximum"
      missing     = "notBreaching"
      of = {
        for key, queue in var.queues : key => merge(local.five_minutes, { name = queue.name, threshold = queue.oldest_message_s })
        if queue.oldest_message_s != null
      }
    }

    # Hours without data count as well: SQS has no metrics of a queue that was not used for six hours.
    idle = {
      description = "No message was sent to queue %s for a long time"
      namespace   = "AWS/SQS"
      metric      = "NumberOfMessagesSent"
      dimension   = "QueueName"
      statistic   = "Sum"
      missing     = "breaching"
      of = {
        for key, queue in var.queues : key => { name = queue.name, threshold = 1, period_s = 3600, periods = queue.idle_hours }
        if queue.idle_hours != null
      }
    }

    errors = {
      description = "Invocations of function %s failed"
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimension   = "FunctionName"
      statistic   = "Sum"
      missing     = "notBreaching"
      of          = { for key, name in var.functions : key => merge(local.five_minutes, { name = name, threshold = var.function_errors }) }
    }

    throttles = {
      description = "Lambda throttled function %s: no concurrency was left"
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimension   = "FunctionName"
      statistic   = "Sum"
      missing     = "notBreaching"
      of          = { for key, name in var.functions : key => merge(local.five_minutes, { name = name, threshold = var.function_throttles }) }
    }
  }

  alarms = merge([
    for kind, settings in local.kinds : {
      for key, item in settings.of : "${key}-${kind}" => merge(settings, item, { kind = kind })
    }
  ]...)
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name        = "${var.name_prefix}-${each.key}"
  alarm_description = "${format(each.value.description, each.value.name)}. What to do: docs/runbook.md#${each.value.kind}"

  namespace   = each.value.namespace
  metric_name = each.value.metric
  dimensions  = { (each.value.dimension) = each.value.name }
  statistic   = each.value.statistic

  period              = each.value.period_s
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.periods
  comparison_operator = each.value.kind == "idle" ? "LessThanThreshold" : "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing

  alarm_actions = var.sns_topic_arns
  ok_actions    = var.sns_topic_arns
  tags          = var.tags
}
