variable "name_prefix" {
  description = "Prefix of the alarms' names: `<name_prefix>-<key>-<kind>`, with the keys of `dlqs`, `queues`, `functions`, `services` and `brokers`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", var.name_prefix))
    error_message = "name_prefix must have 1 to 64 letters, digits, hyphens and underscores and start with a letter or digit."
  }
}

variable "dlqs" {
  description = "Names of dead-letter queues, by a key of your own. Alarms `messages` and `expiring`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "queues" {
  description = "Queues, by a key of your own: `name`; `oldest_message_s`, the age of the oldest message at which alarm `oldest-message` starts (null: no such alarm); `idle_hours`, the hours without a message after which alarm `idle` starts (null: no such alarm)."
  type = map(object({
    name             = string
    oldest_message_s = optional(number)
    idle_hours       = optional(number)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.oldest_message_s == null ? true : queue.oldest_message_s >= 60])
    error_message = "oldest_message_s must be at least 60 seconds: SQS measures the age once a minute."
  }

  validation {
    condition = alltrue([
      for queue in values(var.queues) :
      queue.idle_hours == null ? true : queue.idle_hours >= 1 && queue.idle_hours <= 168 && queue.idle_hours == floor(queue.idle_hours)
    ])
    error_message = "idle_hours must be a whole number of hours from 1 to 168 (7 days), the longest that an alarm can look back."
  }
}

variable "functions" {
  description = "Names of functions, by a key of your own. Alarms `errors` and `throttles`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "services" {
  description = "Names of worker services, by a key of your own. Alarms `backlog-age`, `autoscaler-silent` and `broker-dlq`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "services_namespace" {
  description = "CloudWatch namespace in which the autoscaler publishes the metrics of the services, with dimension `Service`."
  type        = string
  default     = "rnr"
  nullable    = false
}

variable "brokers" {
  description = "Names of RabbitMQ brokers of Amazon MQ, by a key of your own. Alarms `memory` and `disk`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "sns_topic_arns" {
  description = "SNS topics to notify when an alarm starts and when it ends. Without a topic, alarms notify nobody."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.sns_topic_arns : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$", arn))])
    error_message = "sns_topic_arns must contain ARNs of standard SNS topics, such as arn:aws:sns:us-east-1:123456789012:alarms. An alarm cannot notify a FIFO topic of SNS directly."
  }

  validation {
    condition     = length(var.sns_topic_arns) <= 5
    error_message = "sns_topic_arns must have at most 5 topics: CloudWatch allows 5 actions for an alarm."
  }
}

variable "dlq_messages" {
  description = "Number of messages in a dead-letter queue at which alarm `messages` starts."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.dlq_messages >= 1
    error_message = "dlq_messages must be at least 1."
  }
}

variable "dlq_age_s" {
  description = "Age in seconds of a message in a dead-letter queue at which alarm `expiring` starts. SQS deletes messages after 14 days at most."
  type        = number
  default     = 604800
  nullable    = false

  validation {
    condition     = var.dlq_age_s >= 60 && var.dlq_age_s < 1209600
    error_message = "dlq_age_s must be at least 60 seconds and less than 1209600 (14 days), when SQS deletes the messages."
  }
}

variable "function_errors" {
  description = "Number of failed invocations within five minutes at which alarm `errors` starts."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.function_errors >= 1
    error_message = "function_errors must be at least 1."
  }
}

variable "function_throttles" {
  description = "Number of throttled invocations within five minutes at which alarm `throttles` starts."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.function_throttles >= 1
    error_message = "function_throttles must be at least 1."
  }
}

variable "backlog_age_s" {
  description = "Age in seconds of the backlog of a worker service at which alarm `backlog-age` starts."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.backlog_age_s >= 60
    error_message = "backlog_age_s must be at least 60 seconds: the autoscaler measures the age once a minute."
  }
}

variable "broker_memory_percent" {
  description = "Memory of a broker in use, in percent of RabbitMQ's limit, at which alarm `memory` starts."
  type        = number
  default     = 80
  nullable    = false

  validation {
    condition     = var.broker_memory_percent >= 1 && var.broker_memory_percent <= 100
    error_message = "broker_memory_percent must be from 1 to 100: at 100, RabbitMQ accepts no further messages."
  }
}

variable "broker_disk_percent" {
  description = "RabbitMQ's limit of free disk space, in percent of what is free, at which alarm `disk` starts: 50 means that twice the limit is free."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.broker_disk_percent >= 1 && var.broker_disk_percent <= 100
    error_message = "broker_disk_percent must be from 1 to 100: at 100, RabbitMQ accepts no further messages."
  }
}

variable "tags" {
  description = "Tags of every resource, in addition to the provider's default tags."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(var.tags) <= 50
    error_message = "There are more than 50 tags; AWS allows at most 50 on a resource."
  }

  validation {
    condition = alltrue([
      for key, value in var.tags :
      can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{1,128}$", key)) &&
      can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{0,256}$", value)) &&
      !startswith(lower(key), "aws:")
    ])
    error_message = "AWS does not accept one of the tags: keys have 1 to 128 characters and do not start with \"aws:\", values have at most 256, both of letters, digits, spaces and _ . : / = + - @."
  }
}
