variable "name" {
  description = "Name of the rule, the queue, the function and its role. The dead-letter queues append `-dlq` and `-delivery-dlq`. The role's name must be unique in the account, in all its regions."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "The ruleset's full name must have 1 to 64 letters, digits, hyphens and underscores, which is the limit of the names of functions, rules and roles."
  }
}

variable "prefix" {
  description = "Prefix of the keys that the ruleset handles, such as `RefinerInput/`. A leading slash is allowed and ignored."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.prefix))
    error_message = "prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }

  validation {
    condition     = length(var.prefix) <= 512
    error_message = "prefix must have at most 512 characters; S3 allows 1,024 bytes for a whole key."
  }
}

variable "bucket" {
  description = "Name of the bucket whose events the ruleset handles."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "The bucket's name must have 3 to 63 lower-case letters, digits, dots and hyphens, and start and end with a letter or digit."
  }

  validation {
    condition     = !strcontains(var.bucket, "..") && !can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$", var.bucket))
    error_message = "The bucket's name must not contain two dots in a row or be formatted as an IP address."
  }

  validation {
    condition = (
      !can(regex("^(?:xn--|sthree-|amzn-s3-demo-)", var.bucket)) &&
      !can(regex("(?:-s3alias|--ol-s3|\\.mrap|--x-s3|--table-s3)$", var.bucket))
    )
    error_message = "The bucket's name has a prefix or suffix that S3 reserves: it must not start with xn--, sthree- or amzn-s3-demo-, or end with -s3alias, --ol-s3, .mrap, --x-s3 or --table-s3."
  }
}

variable "bus_name" {
  description = "Name of the custom event bus that carries the bucket's events."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,256}$", var.bus_name))
    error_message = "The event bus's name must have 1 to 256 letters, digits, dots, hyphens and underscores."
  }

  validation {
    condition     = var.bus_name != "default" && !startswith(var.bus_name, "aws.")
    error_message = "The event bus's name must not be \"default\" or start with \"aws.\": AWS reserves these names."
  }
}

variable "image_uri" {
  description = "Container image of the function: `<registry>/<repository>` or a bare `<repository>` in this account's own ECR registry, either with `:tag`, with `@sha256:…`, or without both, which uses `release_tag`. Null makes a completion ruleset: queues without a function."
  type        = string
  default     = null

  validation {
    condition = var.image_uri == null || can(regex(
      "^(?:(?:[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost)/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})?$",
      var.image_uri
    ))
    error_message = "image_uri must be [<registry>/]<repository> in lower case, followed by \":tag\", \"@sha256:<64 hexadecimal digits>\" or neither, without a scheme such as https://."
  }
}

variable "release_tag" {
  description = "Tag that completes an `image_uri` without tag or digest."
  type        = string
  default     = null

  validation {
    condition     = var.release_tag == null || can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.release_tag))
    error_message = "release_tag must be an OCI tag: 1 to 128 letters, digits, dots, hyphens and underscores, not starting with a dot or hyphen."
  }
}

variable "output_prefix" {
  description = "Prefix below which the function writes its outputs. The function receives it with a leading slash; policies have it without."
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
  description = "Prefix below which the function writes its completions. The function receives it with a leading slash; policies have it without."
  type        = string
  default     = "/RefinerComplete/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.complete_prefix))
    error_message = "complete_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }

  validation {
    condition     = length(var.complete_prefix) <= 960
    error_message = "complete_prefix must have at most 960 characters; S3 allows 1,024 bytes for a whole key."
  }
}

variable "complete_suffix" {
  description = "What the function appends to the name of an input to get the key of its completion. The function receives it as `REFINER_COMPLETE_SUFFIX` unless it is the default."
  type        = string
  default     = ".json"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,64}$", var.complete_suffix))
    error_message = "complete_suffix must have 1 to 64 letters, digits, dots, hyphens and underscores."
  }
}

variable "memory_mb" {
  description = "Memory of the function in MB."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240 && var.memory_mb == floor(var.memory_mb)
    error_message = "memory_mb must be a whole number from 128 to 10240."
  }
}

variable "timeout_s" {
  description = "Timeout of the function in seconds."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 900 && var.timeout_s == floor(var.timeout_s)
    error_message = "timeout_s must be a whole number of seconds from 1 to 900."
  }
}

variable "visibility_timeout_s" {
  description = "Visibility timeout of the queue in seconds; at least `timeout_s`. Null means six times `timeout_s`, as AWS recommends, and at most 43200."
  type        = number
  default     = null

  validation {
    condition = var.visibility_timeout_s == null ? true : (
      var.visibility_timeout_s >= 0 && var.visibility_timeout_s <= 43200 && var.visibility_timeout_s == floor(var.visibility_timeout_s)
    )
    error_message = "visibility_timeout_s must be a whole number of seconds, at most 43200, or null for six times timeout_s."
  }
}

variable "max_receive_count" {
  description = "Number of receives before a message moves to the dead-letter queue."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_receive_count >= 1 && var.max_receive_count <= 1000 && var.max_receive_count == floor(var.max_receive_count)
    error_message = "max_receive_count must be a whole number from 1 to 1000."
  }
}

variable "batch_size" {
  description = "Maximum number of messages in one invocation. Above 10, Lambda also waits up to one second for more messages."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= 10000 && var.batch_size == floor(var.batch_size)
    error_message = "batch_size must be a whole number from 1 to 10000."
  }
}

variable "max_concurrency" {
  description = "Maximum number of concurrent invocations from the queue. Null sets no limit."
  type        = number
  default     = null

  validation {
    condition = var.max_concurrency == null ? true : (
      var.max_concurrency >= 2 && var.max_concurrency <= 1000 && var.max_concurrency == floor(var.max_concurrency)
    )
    error_message = "max_concurrency must be a whole number from 2 to 1000, or null for no limit."
  }
}

variable "environment" {
  description = "Environment variables of the function. They take precedence over `REFINER_INPUT_PREFIX`, `REFINER_OUTPUT_PREFIX` and `REFINER_COMPLETE_PREFIX` as the module sets them, with leading slash; the role may write where the last two say. Not for secrets: everyone who can read the function's configuration can read them."
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

  validation {
    condition = alltrue([
      for name in ["REFINER_INPUT_PREFIX", "REFINER_OUTPUT_PREFIX", "REFINER_COMPLETE_PREFIX"] :
      can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", lookup(var.environment, name, "x/")))
    ])
    error_message = "REFINER_INPUT_PREFIX, REFINER_OUTPUT_PREFIX and REFINER_COMPLETE_PREFIX in environment must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,64}$", lookup(var.environment, "REFINER_COMPLETE_SUFFIX", ".json")))
    error_message = "REFINER_COMPLETE_SUFFIX in environment must have 1 to 64 letters, digits, dots, hyphens and underscores."
  }
}

variable "read_access" {
  description = "What the function may read besides the objects of the ruleset: prefixes of the bucket, such as `Other/`, and of other buckets, as `s3://<bucket>/<prefix>`; `s3://<bucket>/` is the whole bucket."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for item in var.read_access :
      can(regex("^(?:s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/(?:[^/*?$\\p{Cc}]+/)*|/?(?:[^/*?$\\p{Cc}]+/)+)$", item))
    ])
    error_message = "Each item of read_access must be a prefix of the bucket or s3://<bucket>/<prefix>, and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. s3://<bucket>/ is the whole bucket."
  }
}

variable "read_kms_key_arns" {
  description = "ARNs of the KMS keys that objects in `read_access` are encrypted with. The function may decrypt with them through S3 only; each key's policy must allow that, too."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for arn in var.read_kms_key_arns : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))
    ])
    error_message = "Each of read_kms_key_arns must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "bucket_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the bucket's objects. The function may encrypt and decrypt with it through S3 only. Null means S3's own key."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.bucket_kms_key_arn))
    error_message = "bucket_kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "queue_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the queues. Null uses SQS's own keys (SSE-SQS). The key's policy must allow events.amazonaws.com `kms:GenerateDataKey` and `kms:Decrypt`. The function may decrypt with it through SQS only."
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

variable "vpc" {
  description = "Subnets and security groups of the function. Null runs it outside of a VPC. The subnets need VPC endpoints or a NAT gateway for S3, SQS and CloudWatch Logs."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null

  validation {
    condition = var.vpc == null ? true : (
      length(var.vpc.subnet_ids) >= 1 && length(var.vpc.subnet_ids) <= 16 &&
      alltrue([for id in var.vpc.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    )
    error_message = "vpc.subnet_ids must contain 1 to 16 subnet IDs, such as subnet-0123456789abcdef0."
  }

  validation {
    condition = var.vpc == null ? true : (
      length(var.vpc.security_group_ids) >= 1 && length(var.vpc.security_group_ids) <= 5 &&
      alltrue([for id in var.vpc.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    )
    error_message = "vpc.security_group_ids must contain 1 to 5 security group IDs, such as sg-0123456789abcdef0."
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

variable "message_retention_s" {
  description = "Retention period of the queue in seconds. The retention period of the dead-letter queues is 14 days."
  type        = number
  default     = 345600
  nullable    = false

  validation {
    condition     = var.message_retention_s >= 60 && var.message_retention_s <= 1209600 && var.message_retention_s == floor(var.message_retention_s)
    error_message = "message_retention_s must be a whole number of seconds from 60 (a minute) to 1209600 (14 days)."
  }
}

variable "permissions_boundary" {
  description = "ARN of the IAM policy that is the permissions boundary of the function's role. Null sets none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null ? true : can(regex("^arn:aws[a-z-]*:iam::(?:[0-9]{12}|aws):policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy, arn:aws:iam::<account>:policy/<name>, or null."
  }
}

variable "tags" {
  description = "Tags of all resources except the event source mapping, in addition to the provider's default tags."
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
