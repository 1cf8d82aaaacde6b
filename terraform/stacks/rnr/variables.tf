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

variable "app_name" {
  description = "Name of the application. All names begin with `<app_name>-<env>`, which must be unique in the account, in all regions, because names of IAM roles are."
  type        = string
  default     = "rnr"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z](?:-?[a-z0-9])*$", var.app_name))
    error_message = "app_name must have lower-case letters, digits and single hyphens, start with a letter and not end with a hyphen, as ElastiCache demands."
  }
}

variable "env" {
  description = "Environment, such as `test`; see `app_name`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9](?:-?[a-z0-9])*$", var.env))
    error_message = "env must have lower-case letters, digits and single hyphens, and not start or end with a hyphen, as ElastiCache demands."
  }

  validation {
    condition     = length("${var.app_name}-${var.env}") <= 34
    error_message = "<app_name>-<env> must have at most 34 characters: ElastiCache allows 40 for <app_name>-<env>-cache."
  }
}

variable "vpc_id" {
  description = "ID of the VPC; or set `vpc_name`."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be a VPC's ID, such as vpc-0123456789abcdef0."
  }

  validation {
    condition     = (var.vpc_id == null) != (var.vpc_name == null)
    error_message = "Set either vpc_id or vpc_name."
  }
}

variable "vpc_name" {
  description = "Tag `Name` of the VPC; or set `vpc_id`."
  type        = string
  default     = null
}

variable "subnet_ids" {
  description = "IDs of the private subnets, each in another Availability Zone; or set `subnet_names`. A single broker is in the first one."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "subnet_ids must contain subnet IDs, such as subnet-0123456789abcdef0."
  }

  validation {
    condition     = (length(var.subnet_ids) > 0) != (length(var.subnet_names) > 0)
    error_message = "Set either subnet_ids or subnet_names."
  }
}

variable "subnet_names" {
  description = "Tags `Name` of the private subnets, in which `*` is a wildcard; or set `subnet_ids`."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "https_egress_cidrs" {
  description = "Addresses to which functions and workers may connect at port 443, for AWS's APIs and the feed. With VPC endpoints and without a feed, set it to an empty list."
  type        = list(string)
  default     = ["0.0.0.0/0"]
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.https_egress_cidrs : can(cidrhost(cidr, 0))])
    error_message = "https_egress_cidrs must contain CIDR blocks, such as 10.0.0.0/16."
  }
}

variable "vpc_endpoints" {
  description = <<-EOT
    VPC endpoints for AWS's APIs, for a VPC that has neither them nor a NAT gateway:

    - `enabled`: whether to create them.
    - `route_table_ids`: route tables of the private subnets, for the endpoint of S3.
  EOT
  type = object({
    enabled         = optional(bool, false)
    route_table_ids = optional(list(string), [])
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.vpc_endpoints.enabled == (length(var.vpc_endpoints.route_table_ids) > 0)
    error_message = "vpc_endpoints.route_table_ids must name the private subnets' route tables if vpc_endpoints.enabled is true, and be empty otherwise."
  }
}

variable "operator_security_group_ids" {
  description = "Security groups of runners in the VPC that may connect to the broker, at AMQP and the management API, for `refinerctl dlq` and `refinerctl rnr`."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.operator_security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "operator_security_group_ids must contain security group IDs, such as sg-0123456789abcdef0."
  }
}

variable "input_bucket_name" {
  description = "Name of the existing bucket that holds the inputs."
  type        = string
  nullable    = false
}

variable "output_bucket_name" {
  description = "Name of the existing bucket that holds outputs, completions and merged files. Null means the bucket of the inputs."
  type        = string
  default     = null
}

variable "create_buckets" {
  description = "Whether to create the two buckets. False uses existing ones and does not change their settings: their owner grants access to the roles of producer, workers and post-processing."
  type        = bool
  default     = false
  nullable    = false
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes created buckets with all object versions in them. An existing bucket is never deleted."
  type        = bool
  default     = false
  nullable    = false
}

variable "abort_incomplete_uploads" {
  description = "Whether S3 deletes multipart uploads in the created buckets that are not complete after a day. Terraform waits about a minute for this lifecycle rule."
  type        = bool
  default     = true
  nullable    = false
}

variable "input_prefix" {
  description = "Prefix of the inputs. Keys have no leading slash."
  type        = string
  default     = "rnr/input/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.input_prefix))
    error_message = "input_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }
}

variable "output_prefix" {
  description = "Prefix below which workers write their outputs."
  type        = string
  default     = "rnr/output/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.output_prefix))
    error_message = "output_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }
}

variable "complete_prefix" {
  description = "Prefix below which workers write a completion for each input."
  type        = string
  default     = "rnr/complete/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.complete_prefix))
    error_message = "complete_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }
}

variable "merged_prefix" {
  description = "Prefix below which post-processing writes merged files, their manifests and what it has merged."
  type        = string
  default     = "rnr/merged/"
  nullable    = false

  validation {
    condition     = can(regex("^/?(?:[^/*?$\\p{Cc}]+/)+$", var.merged_prefix))
    error_message = "merged_prefix must name at least one folder and end in one slash, with no empty part (\"//\") and none of * ? $ or control characters. One leading slash is allowed."
  }
}

variable "images" {
  description = "Container images: `<registry>/<repository>` or a bare `<repository>` in this account's own ECR registry, either with `:tag`, with `@sha256:…`, or without both, which uses `release_tag`."
  type = object({
    producer    = optional(string, "rnr/producer")
    worker      = optional(string, "rnr/worker")
    autoscaler  = optional(string, "rnr/autoscaler")
    postprocess = optional(string, "rnr/postprocess")
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([for uri in values(var.images) : can(regex(
      "^(?:(?:[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost)/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})?$", uri
    ))])
    error_message = "Each of images must be [<registry>/]<repository> in lower case, followed by \":tag\", \"@sha256:<64 hexadecimal digits>\" or neither, without a scheme such as https://."
  }

  validation {
    condition = var.release_tag != null || alltrue([
      for name, uri in var.images : can(regex("(?::[^/]+|@.+)$", uri)) || contains(keys(var.pinned_images), name)
    ])
    error_message = "One of images has neither tag nor digest: add \":tag\" or \"@sha256:…\" to it, or set release_tag."
  }
}

variable "architecture" {
  description = "Processor architecture of the images: `x86_64` or `arm64`."
  type        = string
  default     = "x86_64"
  nullable    = false
}

variable "release_tag" {
  description = "Tag that completes each of `images` without tag or digest."
  type        = string
  default     = null

  validation {
    condition     = var.release_tag == null || can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.release_tag))
    error_message = "release_tag must be an OCI tag: 1 to 128 letters, digits, dots, hyphens and underscores, not starting with a dot or hyphen."
  }
}

variable "pinned_images" {
  description = "Images by digest, by the names of `images`, over which they take precedence: `[<registry>/]<repository>@sha256:…`. `refinerctl plan` resolves tags to digests, because Terraform does not detect that a tag was moved."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for uri in values(var.pinned_images) : can(regex("^[a-zA-Z0-9.:_/-]+@sha256:[0-9a-f]{64}$", uri))])
    error_message = "A pinned image must be [<registry>/]<repository>@sha256:<64 hexadecimal digits>, without a tag."
  }

  validation {
    condition     = length(setsubtract(keys(var.pinned_images), ["producer", "worker", "autoscaler", "postprocess"])) == 0
    error_message = "pinned_images has only the names producer, worker, autoscaler and postprocess."
  }
}

variable "function_environment" {
  description = "Environment variables of all functions and of the workers; their own `environment` takes precedence. Not for secrets: everyone who can read a function's configuration can read them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "producer" {
  description = <<-EOT
    The function that publishes a message for each new input:

    - `schedule`, `schedule_enabled`: when the function runs, as an expression of EventBridge Scheduler.
    - `memory_mb`, `timeout_s`, `environment`: settings of the function. `environment` takes precedence over
      `function_environment` and over what the stack sets; do not put secrets into it.
    - `reserved_concurrency`: concurrent invocations that are reserved for the function; 1 keeps runs from overlapping.
    - `feed_url`: HTTP JSON-LD feed of products, which are written below `input_prefix`; null only looks there.
    - `lookback_hours`: age at which an object is no input any more.
    - `claim_hours`: how long the cache remembers that an input was published; longer than `lookback_hours`.
  EOT
  type = object({
    schedule             = optional(string, "rate(5 minutes)")
    schedule_enabled     = optional(bool, true)
    memory_mb            = optional(number, 512)
    timeout_s            = optional(number, 240)
    reserved_concurrency = optional(number)
    environment          = optional(map(string), {})
    feed_url             = optional(string)
    lookback_hours       = optional(number, 24)
    claim_hours          = optional(number, 48)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.producer.feed_url == null || can(regex("^https://[^/\\s]+", var.producer.feed_url))
    error_message = "producer.feed_url must be an https:// URL, or null for no feed."
  }

  validation {
    condition     = var.producer.lookback_hours > 0 && var.producer.claim_hours > var.producer.lookback_hours
    error_message = "producer.claim_hours must be longer than producer.lookback_hours: otherwise an input is published again while the producer still looks at it."
  }
}

variable "worker" {
  description = <<-EOT
    The Fargate service that processes messages:

    - `cpu`, `memory_mb`, `ephemeral_storage_gb`: size of a task, one of Fargate's.
    - `processor`, `processor_command`: the work, as `module:function` of the image, or as a command. Null is the image's own.
    - `prefetch`: messages that a worker holds at a time.
    - `job_timeout_s`: seconds after which a job has failed.
    - `stop_timeout_s`: seconds for which a worker may finish its job after SIGTERM, at most 120.
    - `environment`: environment variables, above `function_environment` and what the stack sets; do not put secrets into it.
    - `container_insights`: whether CloudWatch collects the cluster's metrics, for a charge.
  EOT
  type = object({
    cpu                  = optional(number, 1024)
    memory_mb            = optional(number, 4096)
    ephemeral_storage_gb = optional(number, 21)
    processor            = optional(string)
    processor_command    = optional(string)
    prefetch             = optional(number, 1)
    job_timeout_s        = optional(number, 3600)
    stop_timeout_s       = optional(number, 120)
    environment          = optional(map(string), {})
    container_insights   = optional(bool, true)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.worker.processor == null || var.worker.processor_command == null
    error_message = "Set either worker.processor or worker.processor_command."
  }

  validation {
    condition     = var.worker.prefetch >= 1 && var.worker.prefetch == floor(var.worker.prefetch) && var.worker.job_timeout_s >= 1
    error_message = "worker.prefetch must be a whole number, at least 1, and worker.job_timeout_s at least 1."
  }
}

variable "autoscaler" {
  description = <<-EOT
    The function that sets the number of workers:

    - `schedule`, `schedule_enabled`: when the function runs, as an expression of EventBridge Scheduler.
    - `memory_mb`, `timeout_s`, `environment`: settings of the function. `environment` takes precedence over
      `function_environment` and over what the stack sets; do not put secrets into it.
    - `reserved_concurrency`: concurrent invocations that are reserved for the function; 1 keeps runs from overlapping.
    - `min_tasks`, `max_tasks`: limits of the number of workers.
    - `target_backlog`: messages for each worker.
  EOT
  type = object({
    schedule             = optional(string, "rate(1 minute)")
    schedule_enabled     = optional(bool, true)
    memory_mb            = optional(number, 256)
    timeout_s            = optional(number, 60)
    reserved_concurrency = optional(number)
    environment          = optional(map(string), {})
    min_tasks            = optional(number, 0)
    max_tasks            = optional(number, 10)
    target_backlog       = optional(number, 5)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.autoscaler.min_tasks >= 0 && var.autoscaler.max_tasks >= max(1, var.autoscaler.min_tasks)
    error_message = "autoscaler.min_tasks must be at least 0, and autoscaler.max_tasks at least 1 and not below min_tasks."
  }

  validation {
    condition     = var.autoscaler.target_backlog >= 1
    error_message = "autoscaler.target_backlog must be at least 1."
  }
}

variable "postprocess" {
  description = <<-EOT
    The function that merges new outputs:

    - `schedule`, `schedule_enabled`: when the function runs, as an expression of EventBridge Scheduler.
    - `memory_mb`, `ephemeral_storage_mb`, `timeout_s`, `environment`: settings of the function. A run has its outputs and
      merged files at /tmp, on the ephemeral storage. `environment` takes precedence over
      `function_environment` and over what the stack sets; do not put secrets into it.
    - `reserved_concurrency`: concurrent invocations that are reserved for the function; 1 keeps runs from overlapping.
  EOT
  type = object({
    schedule             = optional(string, "rate(10 minutes)")
    schedule_enabled     = optional(bool, true)
    memory_mb            = optional(number, 1024)
    ephemeral_storage_mb = optional(number, 2048)
    timeout_s            = optional(number, 540)
    reserved_concurrency = optional(number)
    environment          = optional(map(string), {})
  })
  default  = {}
  nullable = false
}

variable "broker" {
  description = <<-EOT
    Amazon MQ for RabbitMQ, as module message-broker has it:

    - `engine_version`: 3.13, 4.2 or later. `instance_type`: RabbitMQ 4 runs on mq.m7g only.
    - `deployment_mode`: SINGLE_INSTANCE or CLUSTER_MULTI_AZ.
    - `username`: name of the first user.
  EOT
  type = object({
    engine_version  = optional(string, "4.2")
    instance_type   = optional(string, "mq.m7g.medium")
    deployment_mode = optional(string, "SINGLE_INSTANCE")
    username        = optional(string, "rnr")
  })
  default  = {}
  nullable = false
}

variable "cache" {
  description = <<-EOT
    ElastiCache, as module cache has it:

    - `engine`, `engine_version`: valkey or redis. Null is 8.0 of Valkey, 7.1 of Redis.
    - `node_type`, `nodes`: size and number of nodes.
  EOT
  type = object({
    engine         = optional(string, "valkey")
    engine_version = optional(string)
    node_type      = optional(string, "cache.t4g.micro")
    nodes          = optional(number, 1)
  })
  default  = {}
  nullable = false
}

variable "secret_recovery_days" {
  description = "Days for which deleted secrets can be restored, 7 to 30; their names are in use until then. 0 deletes them at once."
  type        = number
  default     = 30
  nullable    = false
}

variable "log_retention_days" {
  description = "Retention of the log groups of functions and workers in days."
  type        = number
  default     = 30
  nullable    = false
}

variable "kms_key_arns" {
  description = <<-EOT
    ARNs of KMS keys, whose policies must allow the services that use them; null uses the service's own key:

    - `buckets`: keys that the objects of existing buckets are encrypted with; for created buckets, at most one.
    - `queues`: encrypts the messages of the SQS dead-letter queues.
    - `logs`: encrypts log groups.
    - `broker`, `cache`: encrypt their data. A change replaces them.
    - `secrets`: encrypts the secrets of broker and cache.
  EOT
  type = object({
    buckets = optional(list(string), [])
    queues  = optional(string)
    logs    = optional(string)
    broker  = optional(string)
    cache   = optional(string)
    secrets = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for arn in var.kms_key_arns.buckets : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))
    ])
    error_message = "Each of kms_key_arns.buckets must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "alarms" {
  description = <<-EOT
    CloudWatch alarms, of which docs/runbook.md says what each means and what to do:

    - `enabled`: whether to create them.
    - `sns_topic_arns`: SNS topics to notify when an alarm starts and when it ends. Without a topic, alarms notify nobody.
    - `dlq_messages`: number of messages in a dead-letter queue, of SQS or RabbitMQ.
    - `dlq_age_s`: age in seconds of a message in a dead-letter queue of SQS, which deletes messages after 14 days at most.
    - `function_errors`, `function_throttles`: failed and throttled invocations of a function within five minutes.
    - `backlog_age_s`: age in seconds of the workers' backlog.
    - `broker_memory_percent`: memory of the broker in use, in percent of RabbitMQ's limit.
    - `broker_disk_percent`: RabbitMQ's limit of free disk space, in percent of what is free.
  EOT
  type = object({
    enabled               = optional(bool, true)
    sns_topic_arns        = optional(list(string), [])
    dlq_messages          = optional(number, 1)
    dlq_age_s             = optional(number, 604800)
    function_errors       = optional(number, 1)
    function_throttles    = optional(number, 1)
    backlog_age_s         = optional(number, 3600)
    broker_memory_percent = optional(number, 80)
    broker_disk_percent   = optional(number, 50)
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
