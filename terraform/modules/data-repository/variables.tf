variable "bucket" {
  description = "Name of the bucket."
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

variable "create" {
  description = "Whether to create the bucket. False uses the existing bucket of that name and does not change its settings: policy, encryption, versioning, ownership, public access, lifecycle and, unless `manage_notifications` is true, notifications."
  type        = bool
  default     = true
  nullable    = false
}

variable "manage_notifications" {
  description = "Whether to enable the bucket's EventBridge notifications. Null means the same as `create`. This replaces the whole notification configuration of the bucket: true with an existing bucket removes its SNS, SQS and Lambda notifications."
  type        = bool
  default     = null
}

variable "force_destroy" {
  description = "Whether to delete the created bucket with all object versions in it. An existing bucket is never deleted."
  type        = bool
  default     = false
  nullable    = false
}

variable "abort_incomplete_uploads" {
  description = "Whether S3 deletes multipart uploads in the created bucket that are not complete after a day. Terraform waits about a minute for this lifecycle rule."
  type        = bool
  default     = true
  nullable    = false
}

variable "access" {
  description = "Roles that the created bucket's policy allows to read and write objects below their prefixes, and to list the bucket. The map's keys can be any names. Prefixes have no leading slash and end in a slash."
  type = map(object({
    role_arn = string
    prefixes = list(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for entry in values(var.access) : length(entry.prefixes) > 0])
    error_message = "Every role in access needs at least one prefix; a statement without resources is not a valid policy."
  }

  validation {
    condition = alltrue(flatten([
      for entry in values(var.access) : [for prefix in entry.prefixes : can(regex("^(?:[^/*?$\\p{Cc}]+/)+$", prefix))]
    ]))
    error_message = "Every prefix in access must have no leading slash, end in one slash, and contain no empty part (\"//\") and none of * ? $ or control characters."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the created bucket's objects. Null uses S3's own key (AES-256). Existing objects stay as they are."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null ? true : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a key, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
}

variable "access_log" {
  description = "Bucket, and prefix of the keys, to which S3 writes the created bucket's access log. That bucket's policy must allow `logging.s3.amazonaws.com` to put objects there. Null writes no access log."
  type = object({
    bucket = string
    prefix = optional(string, "")
  })
  default = null

  validation {
    condition     = var.access_log == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_log.bucket))
    error_message = "access_log.bucket must be the name of a bucket, not an ARN or URL."
  }
}

variable "tags" {
  description = "Tags of the created bucket, in addition to the provider's default tags."
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
