variable "name" {
  description = "Name of the event bus."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,256}$", var.name))
    error_message = "The event bus's name must have 1 to 256 letters, digits, dots, hyphens and underscores."
  }

  validation {
    condition     = var.name != "default" && !startswith(var.name, "aws.")
    error_message = "The event bus's name must not be \"default\" or start with \"aws.\": AWS reserves these names."
  }
}

variable "bucket" {
  description = "Name of the bucket whose `Object Created` events are forwarded to the bus."
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

variable "forward_name" {
  description = "Name of the forwarding rule on the default bus and of its role; its dead-letter queue is named `<forward_name>-delivery-dlq`. The role's name must be unique in the account, in all its regions."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.forward_name))
    error_message = "forward_name must have 1 to 64 letters, digits, hyphens and underscores, which is the limit of the names of rules and roles."
  }
}

variable "queue_kms_key_arn" {
  description = "ARN of the KMS key that encrypts the dead-letter queue. Null uses SQS's own keys (SSE-SQS). The key's policy must allow events.amazonaws.com `kms:GenerateDataKey` and `kms:Decrypt`."
  type        = string
  default     = null

  validation {
    condition     = var.queue_kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.queue_kms_key_arn))
    error_message = "queue_kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "permissions_boundary" {
  description = "ARN of the IAM policy that is the permissions boundary of the forwarding role. Null sets none."
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
