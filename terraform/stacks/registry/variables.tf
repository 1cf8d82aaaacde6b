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

variable "repositories" {
  description = "Names of the ECR repositories."
  type        = set(string)
  default     = ["dibbs-ecr-refiner/lambda"]
  nullable    = false

  validation {
    condition = alltrue([
      for name in var.repositories :
      length(name) >= 2 && length(name) <= 256 &&
      can(regex("^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$", name))
    ])
    error_message = "ECR does not accept one of the names in repositories: each must have 2 to 256 characters and be path components joined by \"/\", of lower-case letters and digits, with single \".\", \"_\" or \"-\" between them only."
  }
}

variable "untagged_expiry_days" {
  description = "Days after the push until an untagged image is removed. Tagged images are never removed."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.untagged_expiry_days >= 1 && var.untagged_expiry_days == floor(var.untagged_expiry_days)
    error_message = "untagged_expiry_days must be a whole number of days, at least 1."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the images. Null encrypts with AES-256. A change replaces the repositories, with all their images."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z0-9-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.kms_key_arn))
    error_message = "kms_key_arn must be a key's ARN (arn:aws:kms:<region>:<account>:key/<id>), or null for AES-256; an alias is not accepted."
  }
}

variable "force_delete" {
  description = "Whether `terraform destroy` deletes repositories even if they contain images."
  type        = bool
  default     = false
  nullable    = false
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
