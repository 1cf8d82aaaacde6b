variable "name" {
  description = "Name of the function, its security group and its schedule. The dead-letter queues append `-dlq` and `-delivery-dlq`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "The function's name must have 1 to 64 letters, digits, hyphens and underscores, which is the limit of the names of functions and schedules."
  }
}

variable "description" {
  description = "What the function does."
  type        = string
  nullable    = false
}

variable "role_name" {
  description = "Name of the function's execution role. Must be unique in the account, in all its regions."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.role_name))
    error_message = "role_name must have 1 to 64 characters that IAM allows: letters, digits and + = , . @ _ -."
  }
}

variable "scheduler_role_name" {
  description = "Name of the role with which EventBridge Scheduler invokes the function. Must be unique in the account, in all its regions."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.scheduler_role_name))
    error_message = "scheduler_role_name must have 1 to 64 characters that IAM allows: letters, digits and + = , . @ _ -."
  }
}

variable "image_uri" {
  description = "Container image, complete: `<registry>/<repository>` with `:tag` or, better, `@sha256:…`."
  type        = string
  nullable    = false

  validation {
    condition = can(regex(
      "^(?:[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost)/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$",
      var.image_uri
    ))
    error_message = "image_uri must be <registry>/<repository> in lower case, followed by \":tag\" or \"@sha256:<64 hexadecimal digits>\", without a scheme such as https://."
  }
}

variable "architecture" {
  description = "Processor architecture of the image: `x86_64` or `arm64`."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64, Lambda's names for amd64 and aarch64."
  }
}

variable "memory_mb" {
  description = "Memory of the function in MB."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 5120 && var.memory_mb == floor(var.memory_mb)
    error_message = "memory_mb must be a whole number from 128 to 5120."
  }
}

variable "ephemeral_storage_mb" {
  description = "Disk space of the function at /tmp in MB."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.ephemeral_storage_mb >= 512 && var.ephemeral_storage_mb <= 10240 && var.ephemeral_storage_mb == floor(var.ephemeral_storage_mb)
    error_message = "ephemeral_storage_mb must be a whole number from 512 to 10240."
  }
}

variable "timeout_s" {
  description = "Timeout of the function in seconds."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 900 && var.timeout_s == floor(var.timeout_s)
    error_message = "timeout_s must be a whole number of seconds from 1 to 900."
  }
}

variable "environment" {
  description = "Environment variables of the function. Not for secrets: everyone who can read the function's configuration can read them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Za-z][A-Za-z0-9_]+$", name))])
    error_message = "Lambda does not accept one of the names in environment: a name must start with a letter and have at least two letters, digits and underscores."
  }

  validation {
    condition = length(setintersection(keys(var.environment), [
      "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
      "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
      "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION",
      "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
    ])) == 0
    error_message = "A name in environment is reserved: Lambda sets its region, credentials, AWS_LAMBDA_FUNCTION_* and other runtime variables itself."
  }
}

variable "policy_statements" {
  description = "Statements of the role's policy, as in a policy document: what the function may do besides writing its log."
  type = list(object({
    Action    = list(string)
    Resource  = list(string)
    Condition = optional(map(map(list(string))))
  }))
  default  = []
  nullable = false
}

variable "vpc_id" {
  description = "VPC of the function's security group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be a VPC's ID, such as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the function."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) >= 1 && length(var.subnet_ids) <= 16 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "subnet_ids must contain 1 to 16 subnet IDs, such as subnet-0123456789abcdef0."
  }
}

variable "egress" {
  description = "What the function may connect to, by a key of your own: a TCP `port` of a `security_group_id`, a `prefix_list_id` or a `cidr`."
  type = map(object({
    port              = number
    security_group_id = optional(string)
    prefix_list_id    = optional(string)
    cidr              = optional(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for rule in values(var.egress) : rule.port >= 1 && rule.port <= 65535 && rule.port == floor(rule.port)
    ])
    error_message = "Each port of egress must be a whole number from 1 to 65535."
  }
}

variable "reserved_concurrency" {
  description = "Concurrent invocations that are reserved for the function, which are also its limit. Null reserves none."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= 1 && var.reserved_concurrency == floor(var.reserved_concurrency)
    error_message = "reserved_concurrency must be a whole number, at least 1, or null for no reservation."
  }
}

variable "schedule_expression" {
  description = "When the function runs, such as `rate(5 minutes)` or `cron(0 6 * * ? *)`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(?:rate\\((?:1 (?:minute|hour|day)|[0-9]+ (?:minutes|hours|days))\\)|cron\\(\\S+(?: \\S+){5}\\))$", var.schedule_expression))
    error_message = "schedule_expression must be rate(<number> minutes|hours|days), with a singular unit for 1, or cron(<six fields>)."
  }
}

variable "schedule_group" {
  description = "Name of the schedule group."
  type        = string
  nullable    = false
}

variable "schedule_enabled" {
  description = "Whether the schedule runs the function."
  type        = bool
  default     = true
  nullable    = false
}

variable "max_event_age_s" {
  description = "Age in seconds at which EventBridge Scheduler and Lambda stop trying to run the function for an occurrence of the schedule. Meanwhile the next one may be due."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.max_event_age_s >= 60 && var.max_event_age_s <= 21600 && var.max_event_age_s == floor(var.max_event_age_s)
    error_message = "max_event_age_s must be a whole number of seconds from 60 to 21600 (6 hours)."
  }
}

variable "max_retries" {
  description = "How often Lambda runs the function again for an occurrence of the schedule after a run that failed."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = contains([0, 1, 2], var.max_retries)
    error_message = "max_retries must be 0, 1 or 2, which is Lambda's limit."
  }
}

variable "queue_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the queues. Null uses SQS's own keys (SSE-SQS). Both roles may use it through SQS only."
  type        = string
  default     = null

  validation {
    condition     = var.queue_kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.queue_kms_key_arn))
    error_message = "queue_kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "log_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the function's log group. Null uses CloudWatch Logs' own key. The key's policy must allow `logs.<region>.amazonaws.com` to use it."
  type        = string
  default     = null

  validation {
    condition     = var.log_kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.log_kms_key_arn))
    error_message = "log_kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "log_retention_days" {
  description = "Retention of the function's log group in days."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "log_retention_days must be one of CloudWatch Logs' values: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "permissions_boundary" {
  description = "ARN of the IAM policy that is the permissions boundary of both roles. Null sets none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null ? true : can(regex("^arn:aws[a-z-]*:iam::(?:[0-9]{12}|aws):policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy, arn:aws:iam::<account>:policy/<name>, or null."
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
