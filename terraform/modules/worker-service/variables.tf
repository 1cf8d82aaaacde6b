variable "cluster_name" {
  description = "Name of the ECS cluster."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.cluster_name))
    error_message = "cluster_name must have 1 to 255 letters, digits, hyphens and underscores."
  }
}

variable "name" {
  description = "Name of the service, its task definition's family and its security group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.name))
    error_message = "The service's name must have 1 to 255 letters, digits, hyphens and underscores."
  }
}

variable "container_name" {
  description = "Name of the container."
  type        = string
  default     = "worker"
  nullable    = false
}

variable "task_role_name" {
  description = "Name of the role of the tasks' own code. Must be unique in the account, in all its regions."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.task_role_name))
    error_message = "task_role_name must have 1 to 64 characters that IAM allows: letters, digits and + = , . @ _ -."
  }
}

variable "execution_role_name" {
  description = "Name of the role with which ECS pulls the image and writes the log. Must be unique in the account, in all its regions."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", var.execution_role_name))
    error_message = "execution_role_name must have 1 to 64 characters that IAM allows: letters, digits and + = , . @ _ -."
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
    error_message = "architecture must be x86_64 or arm64, as for functions."
  }
}

variable "cpu" {
  description = "CPU units of a task: 1024 are one virtual CPU."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "cpu must be 256, 512, 1024, 2048, 4096, 8192 or 16384, which are Fargate's sizes."
  }
}

variable "memory_mb" {
  description = "Memory of a task in MB. Fargate allows certain values for each `cpu`, from 2 to 8 times as many MB in most sizes."
  type        = number
  default     = 4096
  nullable    = false

  validation {
    condition     = var.memory_mb >= 512 && var.memory_mb <= 122880 && (var.memory_mb == 512 || var.memory_mb % 1024 == 0)
    error_message = "memory_mb must be 512 or a multiple of 1024, up to 122880."
  }
}

variable "ephemeral_storage_gb" {
  description = "Ephemeral storage of a task in GB, which `/tmp` is on."
  type        = number
  default     = 21
  nullable    = false

  validation {
    condition     = var.ephemeral_storage_gb >= 21 && var.ephemeral_storage_gb <= 200 && var.ephemeral_storage_gb == floor(var.ephemeral_storage_gb)
    error_message = "ephemeral_storage_gb must be a whole number from 21 to 200."
  }
}

variable "stop_timeout_s" {
  description = "Seconds from SIGTERM to SIGKILL."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.stop_timeout_s >= 2 && var.stop_timeout_s <= 120 && var.stop_timeout_s == floor(var.stop_timeout_s)
    error_message = "stop_timeout_s must be a whole number of seconds from 2 to 120, which is Fargate's limit."
  }
}

variable "environment" {
  description = "Environment variables of the container. Not for secrets: everyone who can read the task definition can read them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name))])
    error_message = "A name in environment must start with a letter or underscore and have letters, digits and underscores only."
  }
}

variable "policy_statements" {
  description = "Statements of the role's policy, as in a policy document: what the task may do besides protecting itself from being stopped."
  type = list(object({
    Action    = list(string)
    Resource  = list(string)
    Condition = optional(map(map(list(string))))
  }))
  default  = []
  nullable = false
}

variable "vpc_id" {
  description = "VPC of the tasks' security group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be a VPC's ID, such as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the tasks."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) >= 1 && length(var.subnet_ids) <= 16 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "subnet_ids must contain 1 to 16 subnet IDs, such as subnet-0123456789abcdef0."
  }
}

variable "egress" {
  description = "What the tasks may connect to, by a key of your own: a TCP `port` of a `security_group_id`, a `prefix_list_id` or a `cidr`."
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

variable "container_insights" {
  description = "Whether CloudWatch collects the cluster's metrics (Container Insights), for a charge."
  type        = bool
  default     = true
  nullable    = false
}

variable "log_group" {
  description = "Name of the log group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_/.#-]{1,512}$", var.log_group))
    error_message = "log_group must have 1 to 512 letters, digits and _ / . # -."
  }
}

variable "log_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the log group. Null uses CloudWatch Logs' own key. The key's policy must allow `logs.<region>.amazonaws.com` to use it."
  type        = string
  default     = null

  validation {
    condition     = var.log_kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.log_kms_key_arn))
    error_message = "log_kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "log_retention_days" {
  description = "Retention of the log group in days."
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
