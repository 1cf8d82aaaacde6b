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

variable "name" {
  description = "First part of the names of roles and policies, such as `ci-production`: the roles are `<name>-sync`, `<name>-plan`, `<name>-deploy` and `<name>-operate`. Must not begin with a stack's `name_prefix` or `name`."
  type        = string
}

variable "project_path" {
  description = "Path of the GitLab project, `<group>/<project>`, as GitLab writes it: IAM compares upper and lower case."
  type        = string
}

variable "project_id" {
  description = "Only for gitlab.com: ID of the project. With it, IAM also requires the token's claims `project_id` and, for protected refs, `ref_protected`. For GitLab Self-Managed, IAM has no such keys."
  type        = string
  default     = null
}

variable "gitlab_url" {
  description = "Address of GitLab: the issuer of the tokens. AWS must be able to reach it, unless `oidc_provider_arn` has a provider with uploaded keys."
  type        = string
  default     = "https://gitlab.com"
  nullable    = false
}

variable "audience" {
  description = "Audience of the tokens, `aud` of `id_tokens`. Null is `gitlab_url`."
  type        = string
  default     = null
}

variable "oidc_provider_arn" {
  description = "ARN of an existing OIDC provider for `gitlab_url`, which must have the audience. Null creates one; an account has at most one for each address."
  type        = string
  default     = null
}

variable "protected_branches" {
  description = "Branches whose jobs may use the roles `sync`, `deploy` and `operate`. Each must be protected in GitLab. `*` matches any characters, as in GitLab."
  type        = set(string)
  default     = ["main"]
  nullable    = false
}

variable "protected_tags" {
  description = "Tags whose jobs may use the roles `sync`, `deploy` and `operate`. Each must be protected in GitLab. `*` matches any characters, as in GitLab."
  type        = set(string)
  default     = ["v*"]
  nullable    = false
}

variable "plan_from_any_ref" {
  description = "Whether any branch, tag or merge request of the project may use role `plan`. It reads the state, which has the first password of stack `rnr`'s broker. False: protected branches and tags only."
  type        = bool
  default     = true
  nullable    = false
}

variable "state" {
  description = "Where Terraform's state is: `bucket` of backend.hcl, and the KMS key that it is encrypted with, if not S3's own."
  type = object({
    bucket      = string
    kms_key_arn = optional(string)
  })
}

variable "repositories" {
  description = "Names of the ECR repositories: those of stack `registry`."
  type        = set(string)
}

variable "refiner" {
  description = "Stack `refiner`, by its variables; null if it is not in this account. `input_prefixes` are the prefixes that role `operate` uploads to, `read_buckets` the other buckets in `read_access` of rulesets."
  type = object({
    bucket_name    = string
    name_prefix    = optional(string, "dibbs-ecr")
    bus_name       = optional(string, "data-repository-bus")
    create_bucket  = optional(bool, true)
    input_prefixes = optional(set(string), ["RefinerInput/"])
    read_buckets   = optional(set(string), [])

    manage_bucket_notifications = optional(bool, false)
  })
  default = null
}

variable "rnr" {
  description = "Stack `rnr`, by its variables; null if it is not in this account. `name` is `<app_name>-<env>`, `vpc_endpoints` says whether the stack creates VPC endpoints."
  type = object({
    name               = string
    vpc_id             = string
    input_bucket_name  = string
    output_bucket_name = optional(string)
    create_buckets     = optional(bool, false)
    input_prefix       = optional(string, "rnr/input/")
    vpc_endpoints      = optional(bool, false)
  })
  default = null
}

variable "kms_key_arns" {
  description = "ARNs of the KMS keys in the stacks' variables, and of those that encrypt their buckets."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "allow_destroy" {
  description = "Whether role `deploy` may delete what holds data: buckets with their objects, ECR repositories, the broker and the cache. `refinerctl destroy` needs it, and so does every change that replaces one of them."
  type        = bool
  default     = false
  nullable    = false
}

variable "max_session_s" {
  description = "Longest session of the roles in seconds: at least the timeout of the longest job."
  type        = number
  default     = 3600
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
