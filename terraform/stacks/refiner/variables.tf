variable "region" {
  description = "AWS region. Null uses the region of the environment: AWS_REGION, or the profile."
  type        = string
  default     = null

  validation {
    condition     = var.region == null || can(regex("^[a-z]{2}(?:-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be an AWS region's code, such as us-east-1, or null for the region of the environment."
  }
}

variable "allowed_account_ids" {
  description = "AWS accounts that the stack may be in. Terraform refuses others before it changes anything; an empty list allows all. `refinerctl` passes the `account` of the environment."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.allowed_account_ids : can(regex("^[0-9]{12}$", id))])
    error_message = "allowed_account_ids must be AWS account IDs, of 12 digits each."
  }
}

variable "assume_role" {
  description = "IAM role that Terraform assumes, with the external ID that its trust policy may ask for and a name for the session. Null uses the credentials as they are. With `refinerctl` use `--assume-role` instead."
  type = object({
    role_arn     = string
    external_id  = optional(string)
    session_name = optional(string)
  })
  default = null
}

variable "s3_use_path_style" {
  description = "Whether to use path-style URLs (<endpoint>/<bucket>), which emulators of S3 need."
  type        = bool
  default     = false
  nullable    = false
}

variable "bucket_name" {
  description = "Name of the bucket that holds inputs, outputs and completions."
  type        = string
  default     = "data-repository"
  nullable    = false
}

variable "create_bucket" {
  description = "Whether to create the bucket. False uses the existing bucket of that name and does not change its settings; its policy must not deny the functions' roles, and its EventBridge notifications must be on."
  type        = bool
  default     = true
  nullable    = false
}

variable "manage_bucket_notifications" {
  description = "Whether to enable the bucket's EventBridge notifications. Null means the same as `create_bucket`. This replaces the whole notification configuration of the bucket: true with an existing bucket removes its SNS, SQS and Lambda notifications."
  type        = bool
  default     = null
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes the created bucket with all object versions in it. An existing bucket is never deleted."
  type        = bool
  default     = false
  nullable    = false
}

variable "bus_name" {
  description = "Name of the custom event bus, to which the bucket's events are forwarded."
  type        = string
  default     = "data-repository-bus"
  nullable    = false
}

variable "name_prefix" {
  description = "Prefix of the names of rules, queues, functions and roles: `<name_prefix>-<ruleset>`. Must be unique in the account, in all regions, because names of IAM roles are."
  type        = string
  default     = "dibbs-ecr"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,55}$", var.name_prefix))
    error_message = "name_prefix must have 1 to 56 letters, digits, hyphens and underscores and start with a letter or digit; with the ruleset's name it must stay within the 64 characters of a function's name."
  }
}

variable "input_prefix" {
  description = "Prefix of the ruleset whose completions are directly below `complete_prefix`, as `<name>.json`. Those of another ruleset are below `<complete_prefix><its prefix>`, as `<name>.completion`: so no two inputs have the same completion."
  type        = string
  default     = "/RefinerInput/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.input_prefix))
    error_message = "input_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }
}

variable "output_prefix" {
  description = "Prefix below which the functions write their outputs. They receive it as `REFINER_OUTPUT_PREFIX`, with leading slash; keys have none."
  type        = string
  default     = "/RefinerOutput/"
  nullable    = false
}

variable "complete_prefix" {
  description = "Prefix below which the functions write their completions; see `input_prefix`. They receive it as `REFINER_COMPLETE_PREFIX`, with leading slash; keys have none."
  type        = string
  default     = "/RefinerComplete/"
  nullable    = false
}

variable "rulesets" {
  description = <<-EOT
    Rulesets by name, one for each prefix of the bucket:

    - `prefix`: prefix of the keys, such as `RefinerInput/`; a leading slash is allowed and ignored.
    - `image_uri`: container image of the function: `<registry>/<repository>` or a bare `<repository>` in this account's own
      ECR registry, either with `:tag`, with `@sha256:…`, or without both, which uses `release_tag`. Null makes a completion
      ruleset: queues without a function.
    - `memory_mb`, `timeout_s`, `architecture`, `environment`, `vpc`: settings of the function. `environment` takes
      precedence over `function_environment` and over the `REFINER_*` variables that the stack sets; do not put secrets
      into it.
    - `read_access`: what the function may read besides its own objects: prefixes of the bucket, and of other buckets as
      `s3://<bucket>/<prefix>`. `read_kms_key_arns`: the KMS keys that these objects are encrypted with.
    - `visibility_timeout_s`: how long a received message stays hidden; null means six times `timeout_s`, at most 43200.
    - `max_receive_count`: how often a message is received before it moves to the dead-letter queue.
    - `batch_size`, `max_concurrency`: messages in one invocation, and concurrent invocations (null: no limit).
  EOT
  type = map(object({
    prefix               = string
    image_uri            = optional(string)
    memory_mb            = optional(number, 1024)
    timeout_s            = optional(number, 900)
    visibility_timeout_s = optional(number)
    max_receive_count    = optional(number, 5)
    batch_size           = optional(number, 10)
    max_concurrency      = optional(number)
    environment          = optional(map(string), {})
    read_access          = optional(list(string), [])
    read_kms_key_arns    = optional(list(string), [])
    vpc = optional(object({
      subnet_ids         = list(string)
      security_group_ids = list(string)
    }))
    architecture = optional(string, "x86_64")
  }))
  default = {
    RefinerInput = {
      prefix    = "RefinerInput/"
      image_uri = "dibbs-ecr-refiner/lambda"
    }
    RefinerComplete = {
      prefix = "RefinerComplete/"
    }
  }
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.rulesets) : !can(regex("(?i)(?:-dlq|-delivery)$|^forward$", name))])
    error_message = "A ruleset must not be named \"forward\" or end in \"-dlq\" or \"-delivery\": these names are reserved for the stack's own queues."
  }

  validation {
    condition     = length(distinct([for name in keys(var.rulesets) : lower(name)])) == length(var.rulesets)
    error_message = "The names of two rulesets differ only in upper and lower case; names of IAM roles are not case-sensitive."
  }

  validation {
    condition = alltrue(flatten([
      for a, first in var.rulesets : [
        for b, second in var.rulesets :
        a == b || !startswith(trimprefix(first.prefix, "/"), trimprefix(second.prefix, "/"))
      ]
    ]))
    error_message = "Two rulesets have overlapping prefixes and would process an object twice; a prefix must not begin with another one: ${join(", ", flatten([for a, first in var.rulesets : [for b, second in var.rulesets : "${a} (${first.prefix}) is below ${b} (${second.prefix})" if a != b && startswith(trimprefix(first.prefix, "/"), trimprefix(second.prefix, "/"))]]))}."
  }
}

variable "release_tag" {
  description = "Tag that completes every `image_uri` without tag or digest."
  type        = string
  default     = null
}

variable "pinned_images" {
  description = "Images by digest, for each ruleset; they take precedence over the rulesets' `image_uri`: `[<registry>/]<repository>@sha256:…`. `refinerctl plan` resolves tags to digests, because Terraform does not detect that a tag was moved."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for uri in values(var.pinned_images) : can(regex("^[a-zA-Z0-9.:_/-]+@sha256:[0-9a-f]{64}$", uri))])
    error_message = "A pinned image must be [<registry>/]<repository>@sha256:<64 hexadecimal digits>, without a tag."
  }
}

variable "function_environment" {
  description = "Environment variables of every function; a ruleset's own `environment` takes precedence. Not for secrets: everyone who can read a function's configuration can read them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "log_retention_days" {
  description = "Retention of the functions' log groups in days."
  type        = number
  default     = 30
  nullable    = false
}

variable "message_retention_s" {
  description = "Retention period of the queues in seconds. The retention period of dead-letter queues is 14 days."
  type        = number
  default     = 345600
  nullable    = false
}

variable "kms_key_arns" {
  description = <<-EOT
    ARNs of KMS keys; null uses the service's own key. The policy of each key must allow the services that use it, see the README:

    - `bucket`: encrypts the objects of a created bucket. For an existing bucket, the key that it is encrypted with.
    - `queues`: encrypts the messages of all queues.
    - `logs`: encrypts the functions' log groups.
  EOT
  type = object({
    bucket = optional(string)
    queues = optional(string)
    logs   = optional(string)
  })
  default  = {}
  nullable = false
}

variable "access_log" {
  description = "Bucket, and prefix of the keys, to which S3 writes the created bucket's access log. That bucket's policy must allow `logging.s3.amazonaws.com` to put objects there. Null writes no access log."
  type = object({
    bucket = string
    prefix = optional(string, "")
  })
  default = null
}

variable "alarms" {
  description = <<-EOT
    CloudWatch alarms; docs/runbook.md says what each means and what to do:

    - `enabled`: whether to create them.
    - `sns_topic_arns`: SNS topics to notify when an alarm starts and when it ends. Without a topic, alarms notify nobody.
    - `dlq_messages`: number of messages in a dead-letter queue.
    - `dlq_age_s`: age in seconds of a message in a dead-letter queue; SQS deletes messages after 14 days at most.
    - `oldest_message_s`: age of the oldest message in the queue of a function.
    - `oldest_completion_message_s`: the same in the queue of a completion ruleset; null means no alarm.
    - `no_completion_hours`: hours without any completion, 1 to 168; null means no alarm.
    - `function_errors`, `function_throttles`: failed and throttled invocations of a function within five minutes.
  EOT
  type = object({
    enabled                     = optional(bool, true)
    sns_topic_arns              = optional(list(string), [])
    dlq_messages                = optional(number, 1)
    dlq_age_s                   = optional(number, 604800)
    oldest_message_s            = optional(number, 3600)
    oldest_completion_message_s = optional(number)
    no_completion_hours         = optional(number)
    function_errors             = optional(number, 1)
    function_throttles          = optional(number, 1)
  })
  default  = {}
  nullable = false
}

variable "permissions_boundary" {
  description = "ARN of the IAM policy that is the permissions boundary of all roles of the stack, such as that of stack `access`. Null sets none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null ? true : can(regex("^arn:aws[a-z-]*:iam::(?:[0-9]{12}|aws):policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy, arn:aws:iam::<account>:policy/<name>, or null."
  }
}

variable "tags" {
  description = "Tags of every resource that has tags."
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
