variable "name" {
  description = "Name of the replication group, its subnet group, its security group and its secret."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z](?:-?[a-z0-9]){0,39}$", var.name)) && length(var.name) <= 40
    error_message = "The cache's name must have 1 to 40 lower-case letters, digits and single hyphens, start with a letter and not end with a hyphen, which are the limits of ElastiCache."
  }
}

variable "engine" {
  description = "`valkey` or `redis`."
  type        = string
  default     = "valkey"
  nullable    = false

  validation {
    condition     = contains(["valkey", "redis"], var.engine)
    error_message = "engine must be valkey or redis."
  }
}

variable "engine_version" {
  description = "Version of the engine. Null means 8.0 of Valkey, and 7.1 of Redis."
  type        = string
  default     = null

  validation {
    condition     = var.engine_version == null ? true : can(regex("^[678]\\.[0-9x]+$", var.engine_version))
    error_message = "engine_version must be a version such as 8.0 (Valkey) or 7.1 (Redis); TLS and tokens are used, so 6.x is the oldest."
  }
}

variable "node_type" {
  description = "Node type."
  type        = string
  default     = "cache.t4g.micro"
  nullable    = false

  validation {
    condition     = can(regex("^cache\\.[a-z0-9]+\\.[a-z0-9]+$", var.node_type))
    error_message = "node_type must be a node type of ElastiCache, such as cache.t4g.micro."
  }
}

variable "nodes" {
  description = "Number of nodes. From 2 on, ElastiCache replaces a failed primary by a replica in another Availability Zone."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.nodes >= 1 && var.nodes <= 6 && var.nodes == floor(var.nodes)
    error_message = "nodes must be a whole number from 1 to 6: a primary and at most five replicas."
  }
}

variable "vpc_id" {
  description = "VPC of the cache's security group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "vpc_id must be a VPC's ID, such as vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the nodes, in at least two Availability Zones for more than one node."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) >= 1 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "subnet_ids must contain at least one subnet ID, such as subnet-0123456789abcdef0."
  }
}

variable "clients" {
  description = "Security groups that may connect, by a key of your own."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the data. Null uses a key that AWS owns. A change replaces the replication group, with its data."
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
