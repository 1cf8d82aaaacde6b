variable "name" {
  description = "First part of the names of roles and policies, such as `ci-production`: the roles are `<name>-sync`, `<name>-plan`, `<name>-deploy` and `<name>-operate`. Must not begin with a stack's `name_prefix` or `name`."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_+=,.@-]{1,52}$", var.name))
    error_message = "name must have 1 to 52 letters, digits or _+=,.@-; the roles' names, which may have 64, begin with it."
  }
}

variable "project_path" {
  description = "Path of the GitLab project, `<group>/<project>`, as GitLab writes it: IAM compares upper and lower case."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_.][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+$", var.project_path))
    error_message = "project_path must be <group>/<project>, of letters, digits, \"_\", \".\" and \"-\", without \"*\"."
  }
}

variable "project_id" {
  description = "Only for gitlab.com: ID of the project. With it, IAM also requires the token's claims `project_id` and, for protected refs, `ref_protected`. For GitLab Self-Managed, IAM has no such keys."
  type        = string
  default     = null

  validation {
    condition     = var.project_id == null ? true : can(regex("^[0-9]+$", var.project_id))
    error_message = "project_id must be a number, which GitLab shows on the project's page, or null."
  }
}

variable "gitlab_url" {
  description = "Address of GitLab: the issuer of the tokens. AWS must be able to reach it, unless `oidc_provider_arn` has a provider with uploaded keys."
  type        = string
  default     = "https://gitlab.com"
  nullable    = false

  validation {
    condition     = can(regex("^https://[a-z0-9][a-z0-9.-]*(?:/[A-Za-z0-9_./-]*)?$", var.gitlab_url))
    error_message = "gitlab_url must be an https:// address without port, query or fragment."
  }
}

variable "audience" {
  description = "Audience of the tokens, `aud` of `id_tokens`. Null is `gitlab_url`."
  type        = string
  default     = null

  validation {
    condition     = var.audience == null ? true : can(regex("^[^*?[:space:]]{1,255}$", var.audience))
    error_message = "audience must have 1 to 255 characters, without white space, \"*\" and \"?\"."
  }
}

variable "oidc_provider_arn" {
  description = "ARN of an existing OIDC provider for `gitlab_url`, which must have the audience. Null creates one; an account has at most one for each address."
  type        = string
  default     = null

  validation {
    condition     = var.oidc_provider_arn == null ? true : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/.+$", var.oidc_provider_arn))
    error_message = "oidc_provider_arn must be arn:aws:iam::<account>:oidc-provider/<address>, or null."
  }
}

variable "protected_branches" {
  description = "Branches whose jobs may use the roles `sync`, `deploy` and `operate`. Each must be protected in GitLab. `*` matches any characters, as in GitLab."
  type        = set(string)
  default     = ["main"]
  nullable    = false

  validation {
    condition     = alltrue([for ref in var.protected_branches : can(regex("^[^\\s:?~^\\\\\\[]+$", ref)) && !can(regex("^[*/]+$", ref))])
    error_message = "protected_branches must be names of branches, or patterns such as \"release/*\"; \"*\" alone would trust every branch."
  }
}

variable "protected_tags" {
  description = "Tags whose jobs may use the roles `sync`, `deploy` and `operate`. Each must be protected in GitLab. `*` matches any characters, as in GitLab."
  type        = set(string)
  default     = ["v*"]
  nullable    = false

  validation {
    condition     = alltrue([for ref in var.protected_tags : can(regex("^[^\\s:?~^\\\\\\[]+$", ref)) && !can(regex("^[*/]+$", ref))])
    error_message = "protected_tags must be names of tags, or patterns such as \"v*\"; \"*\" alone would trust every tag."
  }
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

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.state.bucket))
    error_message = "state.bucket must be the name of an S3 bucket."
  }
}

variable "repositories" {
  description = "Names of the ECR repositories: those of stack `registry`."
  type        = set(string)

  validation {
    condition     = length(var.repositories) > 0 && alltrue([for name in var.repositories : can(regex("^[a-z0-9][a-z0-9._/-]+$", name))])
    error_message = "repositories must be names of ECR repositories, at least one, without \"*\"."
  }
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

  validation {
    condition = var.refiner == null ? true : alltrue([
      for name in concat([var.refiner.bucket_name, var.refiner.name_prefix, var.refiner.bus_name], tolist(var.refiner.input_prefixes), tolist(var.refiner.read_buckets)) :
      name != "" && !can(regex("[*?]", name))
    ])
    error_message = "refiner has a name that is empty, or has \"*\" or \"?\"."
  }
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

  validation {
    condition = var.rnr == null ? true : alltrue([
      for name in compact([var.rnr.name, var.rnr.input_bucket_name, var.rnr.output_bucket_name, var.rnr.input_prefix]) : !can(regex("[*?]", name))
    ]) && var.rnr.name != "" && can(regex("^vpc-[0-9a-f]+$", var.rnr.vpc_id))
    error_message = "rnr needs a name and a vpc_id (vpc-…), and no name may have \"*\" or \"?\"."
  }
}

variable "kms_key_arns" {
  description = "ARNs of the KMS keys in the stacks' variables, and of those that encrypt their buckets."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.kms_key_arns : can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "kms_key_arns must be ARNs of keys, arn:aws:kms:<region>:<account>:key/<id>. Policies ignore aliases."
  }
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

  validation {
    condition     = var.max_session_s >= 3600 && var.max_session_s <= 43200
    error_message = "max_session_s must be from 3600 to 43200 (1 to 12 hours)."
  }
}

variable "tags" {
  description = "Tags of every resource, in addition to the provider's default tags."
  type        = map(string)
  default     = {}
  nullable    = false
}
