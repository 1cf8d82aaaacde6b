variable "region" {
  description = "AWS region. Null takes it from the environment: AWS_REGION, or the profile."
  type        = string
  default     = null

  validation {
    condition     = var.region == null || can(regex("^[a-z]{2}(?:-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be an AWS region's code, such as us-east-1, or null for the environment's."
  }
}

variable "s3_use_path_style" {
  description = "Whether to address buckets as <endpoint>/<bucket>, as emulators of S3 need it."
  type        = bool
  default     = false
  nullable    = false
}

variable "bucket_name" {
  description = "Name of the bucket that holds inputs, outputs and completions."
  type        = string
  default     = "data-repository"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "The bucket's name must have 3 to 63 lower-case letters, digits, dots and hyphens, and start and end with a letter or digit."
  }

  validation {
    condition     = !strcontains(var.bucket_name, "..") && !can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$", var.bucket_name))
    error_message = "The bucket's name must not hold two dots in a row, nor look like an IP address."
  }

  validation {
    condition = (
      !can(regex("^(?:xn--|sthree-|amzn-s3-demo-)", var.bucket_name)) &&
      !can(regex("(?:-s3alias|--ol-s3|\\.mrap|--x-s3|--table-s3)$", var.bucket_name))
    )
    error_message = "The bucket's name uses what S3 keeps for itself: it must not start with xn--, sthree- or amzn-s3-demo-, nor end with -s3alias, --ol-s3, .mrap, --x-s3 or --table-s3."
  }
}

variable "create_bucket" {
  description = "Whether to create the bucket. False takes an existing one by its name and leaves its settings alone; its policy must not deny the functions' roles, and its EventBridge notifications must be on."
  type        = bool
  default     = true
  nullable    = false
}

variable "manage_bucket_notifications" {
  description = "Whether to switch on the bucket's EventBridge notifications. Null means the same as `create_bucket`. S3 keeps all notifications of a bucket in one document, which this replaces: true with an existing bucket removes its SNS, SQS and Lambda notifications."
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

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,256}$", var.bus_name))
    error_message = "The event bus's name must have 1 to 256 letters, digits, dots, hyphens and underscores."
  }

  validation {
    condition     = var.bus_name != "default" && !startswith(var.bus_name, "aws.")
    error_message = "The event bus's name must not be \"default\", nor start with \"aws.\": these are AWS's own buses."
  }
}

variable "name_prefix" {
  description = "Start of the names of rules, queues, functions and roles: `<name_prefix>-<ruleset>`. Must differ between all stacks of one account, whatever their region, as names of IAM roles do."
  type        = string
  default     = "dibbs-ecr"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,55}$", var.name_prefix))
    error_message = "name_prefix must have 1 to 56 letters, digits, hyphens and underscores and start with a letter or digit; with the ruleset's name it must stay within the 64 characters of a function's name."
  }
}

variable "output_prefix" {
  description = "Prefix below which the functions write their outputs. They receive it as `REFINER_OUTPUT_PREFIX`, with leading slash; keys have none."
  type        = string
  default     = "/RefinerOutput/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.output_prefix))
    error_message = "output_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }

  validation {
    condition     = length(var.output_prefix) <= 512
    error_message = "output_prefix must have at most 512 characters; S3 allows 1,024 bytes for a whole key."
  }
}

variable "complete_prefix" {
  description = "Prefix below which the functions write their completions. They receive it as `REFINER_COMPLETE_PREFIX`, with leading slash; keys have none."
  type        = string
  default     = "/RefinerComplete/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.complete_prefix))
    error_message = "complete_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }

  validation {
    condition     = length(var.complete_prefix) <= 512
    error_message = "complete_prefix must have at most 512 characters; S3 allows 1,024 bytes for a whole key."
  }
}

variable "rulesets" {
  description = <<-EOT
    Rulesets by name, one for each prefix of the bucket:

    - `prefix`: prefix of the keys, such as `RefinerInput/`; a leading slash is allowed and ignored.
    - `image_uri`: container image of the function: `<registry>/<repository>` or a bare `<repository>` in this account's own
      ECR registry, either with `:tag`, with `@sha256:…`, or without, which takes `release_tag`. Null makes a completion
      ruleset: queues without a function.
    - `memory_mb`, `timeout_s`, `architecture`, `environment`, `vpc`: settings of the function. `environment` is for what is
      not secret, and wins over `function_environment`.
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
    condition     = alltrue([for name in keys(var.rulesets) : can(regex("^[A-Za-z0-9_-]{1,62}$", name))])
    error_message = "A ruleset's name must have letters, digits, hyphens and underscores only, and with name_prefix at most 64 characters; refused: ${join(", ", [for name in keys(var.rulesets) : jsonencode(name) if !can(regex("^[A-Za-z0-9_-]{1,62}$", name))])}."
  }

  # X-dlq would be the dead-letter queue of X, X-delivery-dlq both the delivery one of X and the one of X-delivery.
  validation {
    condition     = alltrue([for name in keys(var.rulesets) : !can(regex("(?i)(?:-dlq|-delivery)$|^forward$", name))])
    error_message = "A ruleset must not be named \"forward\", nor end in \"-dlq\" or \"-delivery\": such names are those of the stack's own queues."
  }

  validation {
    condition     = length(distinct([for name in keys(var.rulesets) : lower(name)])) == length(var.rulesets)
    error_message = "Two rulesets have names that differ in upper and lower case only, which IAM takes for the same role."
  }

  validation {
    condition     = alltrue([for ruleset in values(var.rulesets) : can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", ruleset.prefix)) && length(ruleset.prefix) <= 512])
    error_message = "A ruleset's prefix must name at least one folder and end in one slash, in at most 512 characters, with no empty part (\"//\") and none of * ? $ or control characters; one leading slash is allowed. Refused: ${join(", ", [for name, ruleset in var.rulesets : name if !can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", ruleset.prefix)) || length(ruleset.prefix) > 512])}."
  }

  validation {
    condition = alltrue(flatten([
      for a, first in var.rulesets : [
        for b, second in var.rulesets :
        a == b || !startswith(trimprefix(first.prefix, "/"), trimprefix(second.prefix, "/"))
      ]
    ]))
    error_message = "Two rulesets have overlapping prefixes and would process an object twice; one prefix must not be the start of another: ${join(", ", flatten([for a, first in var.rulesets : [for b, second in var.rulesets : "${a} (${first.prefix}) lies in ${b} (${second.prefix})" if a != b && startswith(trimprefix(first.prefix, "/"), trimprefix(second.prefix, "/"))]]))}."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) : ruleset.image_uri == null || can(regex(
        "^(?:(?:[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost)/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})?$",
        ruleset.image_uri
      ))
    ])
    error_message = "A ruleset's image_uri must be [<registry>/]<repository> in lower case, followed by \":tag\", \"@sha256:<64 hexadecimal digits>\" or neither, without a scheme such as https://."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) :
      ruleset.memory_mb >= 128 && ruleset.memory_mb <= 10240 && ruleset.memory_mb == floor(ruleset.memory_mb)
    ])
    error_message = "A ruleset's memory_mb must be a whole number from 128 to 10240."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) :
      ruleset.timeout_s >= 1 && ruleset.timeout_s <= 900 && ruleset.timeout_s == floor(ruleset.timeout_s)
    ])
    error_message = "A ruleset's timeout_s must be a whole number of seconds from 1 to 900."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) : ruleset.visibility_timeout_s == null ? true : (
        ruleset.visibility_timeout_s >= ruleset.timeout_s && ruleset.visibility_timeout_s <= 43200 &&
        ruleset.visibility_timeout_s == floor(ruleset.visibility_timeout_s)
      )
    ])
    error_message = "A ruleset's visibility_timeout_s must be a whole number of seconds, at least its timeout_s and at most 43200, or null for six times timeout_s."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) :
      ruleset.max_receive_count >= 1 && ruleset.max_receive_count <= 1000 && ruleset.max_receive_count == floor(ruleset.max_receive_count)
    ])
    error_message = "A ruleset's max_receive_count must be a whole number from 1 to 1000."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) :
      ruleset.batch_size >= 1 && ruleset.batch_size <= 10000 && ruleset.batch_size == floor(ruleset.batch_size)
    ])
    error_message = "A ruleset's batch_size must be a whole number from 1 to 10000."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) : ruleset.max_concurrency == null ? true : (
        ruleset.max_concurrency >= 2 && ruleset.max_concurrency <= 1000 && ruleset.max_concurrency == floor(ruleset.max_concurrency)
      )
    ])
    error_message = "A ruleset's max_concurrency must be a whole number from 2 to 1000, or null for no limit."
  }

  validation {
    condition     = alltrue([for ruleset in values(var.rulesets) : contains(["x86_64", "arm64"], ruleset.architecture)])
    error_message = "A ruleset's architecture must be x86_64 or arm64, Lambda's names for amd64 and aarch64."
  }

  validation {
    condition = alltrue(flatten([
      for ruleset in values(var.rulesets) : [for name in keys(ruleset.environment) : can(regex("^[A-Za-z][A-Za-z0-9_]+$", name))]
    ]))
    error_message = "A name in a ruleset's environment is not one that Lambda accepts: it must start with a letter and have at least two letters, digits and underscores."
  }

  validation {
    condition = length(setintersection(flatten([for ruleset in values(var.rulesets) : keys(ruleset.environment)]), [
      "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
      "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
      "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION",
      "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
    ])) == 0
    error_message = "A name in a ruleset's environment is reserved: Lambda sets its region, credentials, AWS_LAMBDA_FUNCTION_* and other runtime variables itself."
  }

  validation {
    condition = length(setintersection(flatten([for ruleset in values(var.rulesets) : keys(ruleset.environment)]), [
      "REFINER_INPUT_PREFIX", "REFINER_OUTPUT_PREFIX", "REFINER_COMPLETE_PREFIX",
    ])) == 0
    error_message = "A ruleset's environment must not set REFINER_INPUT_PREFIX, REFINER_OUTPUT_PREFIX or REFINER_COMPLETE_PREFIX: they follow from the prefixes, as the policies do."
  }

  validation {
    condition = alltrue([
      for ruleset in values(var.rulesets) : ruleset.vpc == null ? true : (
        length(ruleset.vpc.subnet_ids) >= 1 && length(ruleset.vpc.subnet_ids) <= 16 &&
        alltrue([for id in ruleset.vpc.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))]) &&
        length(ruleset.vpc.security_group_ids) >= 1 && length(ruleset.vpc.security_group_ids) <= 5 &&
        alltrue([for id in ruleset.vpc.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
      )
    ])
    error_message = "A ruleset's vpc must hold 1 to 16 subnet IDs (subnet-…) and 1 to 5 security group IDs (sg-…), or be null."
  }
}

variable "release_tag" {
  description = "Tag that completes every `image_uri` without tag or digest."
  type        = string
  default     = null

  validation {
    condition     = var.release_tag == null || can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.release_tag))
    error_message = "release_tag must be an OCI tag: 1 to 128 letters, digits, dots, hyphens and underscores, not starting with a dot or hyphen."
  }
}

variable "pinned_images" {
  description = "Images by digest, by ruleset, which win over the rulesets' `image_uri`: `[<registry>/]<repository>@sha256:…`. `refinerctl plan` resolves tags to them, as a tag that was moved makes no difference that Terraform could see."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for uri in values(var.pinned_images) : can(regex("^[a-zA-Z0-9.:_/-]+@sha256:[0-9a-f]{64}$", uri))])
    error_message = "A pinned image must be [<registry>/]<repository>@sha256:<64 hexadecimal digits>, without a tag."
  }
}

variable "function_environment" {
  description = "Environment variables of every function; a ruleset's own `environment` wins. Anyone who may read a function's configuration sees them: not for secrets."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.function_environment) : can(regex("^[A-Za-z][A-Za-z0-9_]+$", name))])
    error_message = "A name in function_environment is not one that Lambda accepts: it must start with a letter and have at least two letters, digits and underscores."
  }

  validation {
    condition = length(setintersection(keys(var.function_environment), [
      "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
      "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
      "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION",
      "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
    ])) == 0
    error_message = "A name in function_environment is reserved: Lambda sets its region, credentials, AWS_LAMBDA_FUNCTION_* and other runtime variables itself."
  }

  validation {
    condition = length(setintersection(keys(var.function_environment), [
      "REFINER_INPUT_PREFIX", "REFINER_OUTPUT_PREFIX", "REFINER_COMPLETE_PREFIX",
    ])) == 0
    error_message = "function_environment must not set REFINER_INPUT_PREFIX, REFINER_OUTPUT_PREFIX or REFINER_COMPLETE_PREFIX: they follow from the prefixes, as the policies do."
  }
}

variable "log_retention_days" {
  description = "Days for which CloudWatch Logs keeps the functions' logs."
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

variable "message_retention_s" {
  description = "Seconds for which the queues keep a message that nobody deletes. Dead-letter queues keep theirs for 14 days."
  type        = number
  default     = 345600
  nullable    = false

  validation {
    condition     = var.message_retention_s >= 60 && var.message_retention_s <= 1209600 && var.message_retention_s == floor(var.message_retention_s)
    error_message = "message_retention_s must be a whole number of seconds from 60 (a minute) to 1209600 (14 days)."
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
    error_message = "A tag is not one that AWS accepts: keys have 1 to 128 characters and do not start with \"aws:\", values have at most 256, both of letters, digits, spaces and _ . : / = + - @."
  }
}
