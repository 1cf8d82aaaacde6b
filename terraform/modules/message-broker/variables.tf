variable "name" {
  description = "Name of the broker, its security group and its secret."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,50}$", var.name))
    error_message = "The broker's name must have 1 to 50 letters, digits, hyphens and underscores, which is the limit of Amazon MQ."
  }
}

variable "engine_version" {
  description = "Version of RabbitMQ: `3.13`, `4.2` or later. A change between 3 and 4 needs a new broker: Amazon MQ does not upgrade across them."
  type        = string
  default     = "4.2"
  nullable    = false

  validation {
    condition     = can(regex("^(?:3\\.13|4\\.(?:[2-9]|[1-9][0-9]+))$", var.engine_version))
    error_message = "engine_version must be 3.13, 4.2 or a later 4.x, without a patch level: Amazon MQ offers these, and applies patches itself."
  }
}

variable "instance_type" {
  description = "Instance type. RabbitMQ 4 runs on `mq.m7g` only, 3.13 on `mq.m5`, too."
  type        = string
  default     = "mq.m7g.medium"
  nullable    = false

  validation {
    condition     = can(regex("^mq\\.(?:m5\\.(?:large|[24]?xlarge)|m7g\\.(?:medium|large|(?:2|4|8|12|16)?xlarge))$", var.instance_type))
    error_message = "instance_type must be a type that Amazon MQ offers for RabbitMQ: mq.m7g.medium to mq.m7g.16xlarge, or mq.m5.large to mq.m5.4xlarge."
  }
}

variable "deployment_mode" {
  description = "`SINGLE_INSTANCE`, or `CLUSTER_MULTI_AZ`: three nodes in three Availability Zones, which survive the loss of one. A change replaces the broker, with its messages."
  type        = string
  default     = "SINGLE_INSTANCE"
  nullable    = false

  validation {
    condition     = contains(["SINGLE_INSTANCE", "CLUSTER_MULTI_AZ"], var.deployment_mode)
    error_message = "deployment_mode must be SINGLE_INSTANCE or CLUSTER_MULTI_AZ, which are Amazon MQ's modes for RabbitMQ."
  }
}

variable "username" {
  description = "Name of the broker's first user, its administrator. A later change has no effect: Amazon MQ would replace the broker."
  type        = string
  default     = "rnr"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._~-]{1,99}$", var.username)) && var.username != "guest"
    error_message = "username must have 2 to 100 letters, digits, and - . _ ~, and must not be \"guest\", which Amazon MQ deletes."
  }
}

variable "vpc_id" {
  description = "VPC of the broker's security group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be a VPC's ID, such as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the broker, each in another Availability Zone: a single instance uses the first one, a cluster all, at most three."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) >= 1 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "subnet_ids must contain at least one subnet ID, such as subnet-0123456789abcdef0."
  }
}

variable "amqp_clients" {
  description = "Security groups that may connect to AMQP (port 5671), by a key of your own."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "api_clients" {
  description = "Security groups that may connect to the management API (port 443), by a key of your own."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the broker's data. Null uses a key that AWS owns. A change replaces the broker, with its messages."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>."
  }
}

variable "secret_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the secret. Null uses the AWS managed key of Secrets Manager."
  type        = string
  default     = null

  validation {
    condition     = var.secret_kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.secret_kms_key_arn))
    error_message = "secret_kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>."
  }
}

variable "secret_recovery_days" {
  description = "Days for which a deleted secret can be restored; its name is in use until then. 0 deletes it at once."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.secret_recovery_days == 0 || (var.secret_recovery_days >= 7 && var.secret_recovery_days <= 30 && var.secret_recovery_days == floor(var.secret_recovery_days))
    error_message = "secret_recovery_days must be a whole number of days from 7 to 30, or 0."
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
