mock_provider "aws" {}

variables {
  name_prefix = "dibbs-ecr"
}

run "each_kind" {
  command = plan

  variables {
    dlqs           = { RefinerInput-dlq = "team-in-dlq" }
    queues         = { RefinerInput = { name = "team-in", oldest_message_s = 3600 }, RefinerComplete = { name = "team-done", idle_hours = 24 } }
    functions      = { RefinerInput = "team-in" }
    services       = { worker = "rnr-test-worker" }
    brokers        = { broker = "rnr-test-broker" }
    sns_topic_arns = ["arn:aws:sns:eu-west-1:123456789012:operators"]
    tags           = { Team = "Data" }
  }

  assert {
    condition = toset(output.names) == toset([
      "dibbs-ecr-RefinerInput-dlq-messages",
      "dibbs-ecr-RefinerInput-dlq-expiring",
      "dibbs-ecr-RefinerInput-oldest-message",
      "dibbs-ecr-RefinerComplete-idle",
      "dibbs-ecr-RefinerInput-errors",
      "dibbs-ecr-RefinerInput-throttles",
      "dibbs-ecr-worker-backlog-age",
      "dibbs-ecr-worker-autoscaler-silent",
      "dibbs-ecr-worker-broker-dlq",
      "dibbs-ecr-broker-memory",
      "dibbs-ecr-broker-disk",
    ])
    error_message = "The alarms are ${jsonencode(output.names)}."
  }

  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this : key => join(" ", [
        alarm.namespace, alarm.metric_name, jsonencode(alarm.dimensions), alarm.statistic, alarm.comparison_operator,
        alarm.threshold, "in ${alarm.evaluation_periods} × ${alarm.period} s,", alarm.treat_missing_data,
      ]) if length(alarm.metric_query) == 0
      } == {
      RefinerInput-dlq-messages   = "AWS/SQS ApproximateNumberOfMessagesVisible {\"QueueName\":\"team-in-dlq\"} Maximum GreaterThanOrEqualToThreshold 1 in 1 × 300 s, notBreaching"
      RefinerInput-dlq-expiring   = "AWS/SQS ApproximateAgeOfOldestMessage {\"QueueName\":\"team-in-dlq\"} Maximum GreaterThanOrEqualToThreshold 604800 in 1 × 300 s, notBreaching"
      RefinerInput-oldest-message = "AWS/SQS ApproximateAgeOfOldestMessage {\"QueueName\":\"team-in\"} Maximum GreaterThanOrEqualToThreshold 3600 in 1 × 300 s, notBreaching"
      RefinerComplete-idle        = "AWS/SQS NumberOfMessagesSent {\"QueueName\":\"team-done\"} Sum LessThanThreshold 1 in 24 × 3600 s, breaching"
      RefinerInput-errors         = "AWS/Lambda Errors {\"FunctionName\":\"team-in\"} Sum GreaterThanOrEqualToThreshold 1 in 1 × 300 s, notBreaching"
      RefinerInput-throttles      = "AWS/Lambda Throttles {\"FunctionName\":\"team-in\"} Sum GreaterThanOrEqualToThreshold 1 in 1 × 300 s, notBreaching"
      worker-backlog-age          = "rnr BacklogAge {\"Service\":\"rnr-test-worker\"} Maximum GreaterThanOrEqualToThreshold 3600 in 1 × 300 s, notBreaching"
      worker-autoscaler-silent    = "rnr Desired {\"Service\":\"rnr-test-worker\"} SampleCount LessThanThreshold 1 in 2 × 300 s, breaching"
      worker-broker-dlq           = "rnr DlqMessages {\"Service\":\"rnr-test-worker\"} Maximum GreaterThanOrEqualToThreshold 1 in 1 × 300 s, notBreaching"
    }
    error_message = "An alarm watches something else: ${jsonencode({ for key, alarm in aws_cloudwatch_metric_alarm.this : key => alarm })}"
  }

  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this : key => {
        threshold = "${alarm.comparison_operator} ${alarm.threshold} in ${alarm.evaluation_periods}, ${alarm.treat_missing_data}"
        queries = toset([
          for query in alarm.metric_query : query.expression != null && query.return_data == true ? "${query.id} = ${query.expression}" : join(" ", [
            query.id, query.metric[0].namespace, query.metric[0].metric_name, jsonencode(query.metric[0].dimensions), query.metric[0].stat, query.metric[0].period
          ])
        ])
      } if length(alarm.metric_query) > 0
      } == {
      broker-memory = {
        threshold = "GreaterThanOrEqualToThreshold 80 in 1, notBreaching"
        queries = toset([
          "m0 AWS/AmazonMQ RabbitMQMemUsed {\"Broker\":\"rnr-test-broker\"} Maximum 300",
          "m1 AWS/AmazonMQ RabbitMQMemLimit {\"Broker\":\"rnr-test-broker\"} Maximum 300",
          "percent = 100 * m0 / m1",
        ])
      }
      broker-disk = {
        threshold = "GreaterThanOrEqualToThreshold 50 in 1, notBreaching"
        queries = toset([
          "m0 AWS/AmazonMQ RabbitMQDiskFreeLimit {\"Broker\":\"rnr-test-broker\"} Minimum 300",
          "m1 AWS/AmazonMQ RabbitMQDiskFree {\"Broker\":\"rnr-test-broker\"} Minimum 300",
          "percent = 100 * m0 / m1",
        ])
      }
    }
    error_message = "An alarm of a broker watches something else: ${jsonencode({ for key, alarm in aws_cloudwatch_metric_alarm.this : key => alarm.metric_query })}"
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this :
      alarm.alarm_actions == toset(["arn:aws:sns:eu-west-1:123456789012:operators"]) &&
      alarm.ok_actions == alarm.alarm_actions &&
      alarm.datapoints_to_alarm == alarm.evaluation_periods &&
      alarm.tags.Team == "Data"
    ])
    error_message = "An alarm does not notify the topic when it starts and ends, or has no tags."
  }

  assert {
    condition     = endswith(aws_cloudwatch_metric_alarm.this["RefinerInput-dlq-messages"].alarm_description, "docs/runbook.md#messages")
    error_message = "The description does not lead to the runbook."
  }
}

run "thresholds" {
  command = plan

  variables {
    dlqs               = { dlq = "dlq" }
    functions          = { f = "f" }
    dlq_messages       = 10
    dlq_age_s          = 60
    function_errors    = 20
    function_throttles = 30

    services              = { w = "w" }
    brokers               = { b = "b" }
    backlog_age_s         = 90
    broker_memory_percent = 50
    broker_disk_percent   = 60
  }

  assert {
    condition = { for key, alarm in aws_cloudwatch_metric_alarm.this : key => alarm.threshold } == {
      dlq-messages  = 10, dlq-expiring = 60, f-errors = 20, f-throttles = 30
      w-backlog-age = 90, w-autoscaler-silent = 1, w-broker-dlq = 10, b-memory = 50, b-disk = 60
    }
    error_message = "A threshold has no effect."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(coalesce(alarm.alarm_actions, [])) == 0])
    error_message = "Without a topic there is no action."
  }
}
