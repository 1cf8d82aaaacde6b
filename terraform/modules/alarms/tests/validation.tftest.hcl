# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name_prefix = "dibbs-ecr"
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "too_small" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name_prefix        = ""
    queues             = { q = { name = "q", oldest_message_s = 59 } }
    dlq_messages       = 0
    dlq_age_s          = 59
    function_errors    = 0
    function_throttles = 0

    backlog_age_s         = 59
    broker_memory_percent = 0
    broker_disk_percent   = 0
  }

  expect_failures = [
    var.name_prefix,
    var.queues,
    var.dlq_messages,
    var.dlq_age_s,
    var.function_errors,
    var.function_throttles,
    var.backlog_age_s,
    var.broker_memory_percent,
    var.broker_disk_percent,
  ]
}

run "too_large_or_many" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name_prefix = join("", [for i in range(65) : "a"])
    queues      = { q = { name = "q", idle_hours = 169 } }
    dlq_age_s   = 1209600

    broker_memory_percent = 101
    broker_disk_percent   = 101

    sns_topic_arns = [for i in range(6) : "arn:aws:sns:eu-west-1:123456789012:t${i}"]
    tags           = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.name_prefix,
    var.queues,
    var.dlq_age_s,
    var.broker_memory_percent,
    var.broker_disk_percent,
    var.sns_topic_arns,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name_prefix    = "a.b"
    queues         = { q = { name = "q", idle_hours = 1.5 } }
    sns_topic_arns = ["operators"]
    tags           = { "aws:x" = "1" }
  }

  expect_failures = [
    var.name_prefix,
    var.queues,
    var.sns_topic_arns,
    var.tags,
  ]
}

run "no_idle_hours" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    queues         = { q = { name = "q", idle_hours = 0 } }
    sns_topic_arns = ["arn:aws:sns:eu-west-1:123456789012:operators.fifo"]
    tags           = { x = "a,b" }
  }

  expect_failures = [
    var.queues,
    var.sns_topic_arns,
    var.tags,
  ]
}
