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

    backlog-age = {
      description = "The backlog of service %s has waited for too long"
      namespace   = var.services_namespace
      metric      = "BacklogAge"
      dimension   = "Service"
      statistic   = "Maximum"
      missing     = "notBreaching"
      of          = { for key, name in var.services : key => merge(local.five_minutes, { name = name, threshold = var.backlog_age_s }) }
    }

    # The autoscaler publishes once a minute, and nothing if it cannot read the queue or the service.
    autoscaler-silent = {
      description = "The autoscaler of service %s has published no metric for ten minutes, so the number of workers does not follow the queue"
      namespace   = var.services_namespace
      metric      = "Desired"
      dimension   = "Service"
      statistic   = "SampleCount"
      missing     = "breaching"
      of          = { for key, name in var.services : key => merge(local.five_minutes, { name = name, threshold = 1, periods = 2 }) }
    }

    broker-dlq = {
      description = "The DLQ of service %s in RabbitMQ has messages"
      namespace   = var.services_namespace
      metric      = "DlqMessages"
      dimension   = "Service"
      statistic   = "Maximum"
      missing     = "notBreaching"
      of          = { for key, name in var.services : key => merge(local.five_minutes, { name = name, threshold = var.dlq_messages }) }
    }

    # In percent of the limit, at which RabbitMQ blocks who publishes.
    memory = {
      description = "Broker %s is short of memory. At its limit, RabbitMQ accepts no further messages"
      namespace   = "AWS/AmazonMQ"
      metric      = "RabbitMQMemUsed"
      per         = "RabbitMQMemLimit"
      dimension   = "Broker"
      statistic   = "Maximum"
      missing     = "notBreaching"
      of          = { for key, name in var.brokers : key => merge(local.five_minutes, { name = name, threshold = var.broker_memory_percent }) }
    }

    disk = {
      description = "Broker %s is short of disk space. At its limit, RabbitMQ accepts no further messages"
      namespace   = "AWS/AmazonMQ"
      metric      = "RabbitMQDiskFreeLimit"
      per         = "RabbitMQDiskFree"
      dimension   = "Broker"
      statistic   = "Minimum"
      missing     = "notBreaching"
      of          = { for key, name in var.brokers : key => merge(local.five_minutes, { name = name, threshold = var.broker_disk_percent }) }
    }
  }

  alarms = merge([
    for kind, settings in local.kinds : {
      for key, item in settings.of : "${key}-${kind}" => merge({ per = null }, settings, item, { kind = kind })
    }
  ]...)
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name        = "${var.name_prefix}-${each.key}"
  alarm_description = "${format(each.value.description, each.value.name)}. What to do: docs/runbook.md#${each.value.kind}"

  namespace   = each.value.per == null ? each.value.namespace : null
  metric_name = each.value.per == null ? each.value.metric : null
  dimensions  = each.value.per == null ? { (each.value.dimension) = each.value.name } : null
  statistic   = each.value.per == null ? each.value.statistic : null
  period      = each.value.per == null ? each.value.period_s : null

  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.periods
  comparison_operator = contains(["idle", "autoscaler-silent"], each.value.kind) ? "LessThanThreshold" : "GreaterThanOrEqualToThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing

  alarm_actions = var.sns_topic_arns
  ok_actions    = var.sns_topic_arns
  tags          = var.tags
  dynamic "metric_query" {
    for_each = each.value.per == null ? [] : [each.value.metric, each.value.per]

    content {
      id = "m${metric_query.key}"

      metric {
        namespace   = each.value.namespace
        metric_name = metric_query.value
        dimensions  = { (each.value.dimension) = each.value.name }
        stat        = each.value.statistic
        period      = each.value.period_s
      }
    }
  }

  dynamic "metric_query" {
    for_each = each.value.per[*]

    content {
      id          = "percent"
      label       = "${each.value.metric} / ${metric_query.value}"
      expression  = "100 * m0 / m1"
      return_data = true
    }
  }
}
