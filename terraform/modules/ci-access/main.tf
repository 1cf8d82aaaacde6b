data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id
  dns_suffix = data.aws_partition.current.dns_suffix

  # GitLab's address without scheme: IAM's condition keys begin with it.
  issuer       = trimprefix(trimsuffix(var.gitlab_url, "/"), "https://")
  provider_arn = var.oidc_provider_arn != null ? var.oidc_provider_arn : aws_iam_openid_connect_provider.gitlab[0].arn
  audience     = coalesce(var.audience, "https://${local.issuer}")

  any_ref = ["project_path:${var.project_path}:*"]
  protected_refs = concat(
    [for branch in sort(var.protected_branches) : "project_path:${var.project_path}:ref_type:branch:ref:${branch}"],
    [for tag in sort(var.protected_tags) : "project_path:${var.project_path}:ref_type:tag:ref:${tag}"],
  )
  protected = { sub = local.protected_refs, claims = { ref_protected = "true" } }
  trusted = {
    sync    = local.protected
    plan    = var.plan_from_any_ref ? { sub = local.any_ref, claims = {} } : local.protected
    deploy  = local.protected
    operate = local.protected
  }

  trust_policies = {
    for role, trusted in local.trusted : role => {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { Federated = local.provider_arn }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = merge(
            { "${local.issuer}:aud" = local.audience },
            # IAM has these two claims of gitlab.com only.
            { for id in var.project_id[*] : "${local.issuer}:project_id" => id },
            { for name, value in trusted.claims : "${local.issuer}:${name}" => value if var.project_id != null },
          )
          StringLike = { "${local.issuer}:sub" = trusted.sub }
        }
      }]
    }
  }

  role_policies = {
    sync    = local.sync_statements
    plan    = concat(local.state_read_statements, local.state_lock_statements, local.secret_statements)
    deploy  = concat(local.state_read_statements, local.state_lock_statements, local.state_write_statements, local.secret_statements)
    operate = concat(local.state_read_statements, local.operate_statements)
  }

  # More than fits into the inline policies of a role.
  managed_policies = {
    read        = { roles = ["plan", "deploy", "operate"], statements = local.read_statements }
    read-rnr    = { roles = ["plan", "deploy", "operate"], statements = local.read_rnr_statements }
    deploy      = { roles = ["deploy"], statements = local.deploy_statements }
    deploy-data = { roles = ["deploy"], statements = local.deploy_data_statements }
    deploy-rnr  = { roles = ["deploy"], statements = local.deploy_rnr_statements }
    deploy-role = { roles = ["deploy"], statements = local.deploy_role_statements }
  }
  attachments = merge([
    for name, policy in local.managed_policies : {
      for role in policy.roles : "${role} ${name}" => { role = role, policy = name } if length(policy.statements) > 0
    }
  ]...)
}

# Without thumbprints: AWS trusts the certificate authorities, and asks for a thumbprint itself where it needs one.
resource "aws_iam_openid_connect_provider" "gitlab" {
  count = var.oidc_provider_arn == null ? 1 : 0

  url            = "https://${local.issuer}"
  client_id_list = [local.audience]
  tags           = var.tags
}

resource "aws_iam_role" "this" {
  for_each = local.trust_policies

  name                 = "${var.name}-${each.key}"
  description          = "Jobs \"${each.key}\" of the GitLab project ${var.project_path}"
  assume_role_policy   = jsonencode(each.value)
  max_session_duration = var.max_session_s
  tags                 = var.tags

  lifecycle {
    precondition {
      condition     = !anytrue([for prefix in local.name_prefixes : startswith("${var.name}-", "${prefix}-")])
      error_message = "The roles' name ${var.name} begins as the names of a stack (${join(", ", local.name_prefixes)}): role ${var.name}-deploy could change itself. Choose another name."
    }

    precondition {
      condition     = var.project_id == null || local.issuer == "gitlab.com"
      error_message = "project_id is for https://gitlab.com only: IAM has no key for the project's ID of another GitLab, and no token would be accepted."
    }

    precondition {
      condition     = endswith(local.provider_arn, ":oidc-provider/${local.issuer}")
      error_message = "oidc_provider_arn (${local.provider_arn}) is the provider of another address than gitlab_url, ${local.issuer}."
    }
  }
}

resource "aws_iam_role_policy" "this" {
  for_each = local.role_policies

  name   = each.key
  role   = aws_iam_role.this[each.key].name
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
}

resource "aws_iam_policy" "this" {
  #checkov:skip=CKV_AWS_355: actions without resources, and resources whose ID is known after the creation only
  #checkov:skip=CKV_AWS_290: as above; security groups are limited to the VPC, mappings to the stacks' functions

  for_each = { for name, policy in local.managed_policies : name => policy.statements if length(policy.statements) > 0 }

  name        = "${var.name}-${each.key}"
  description = "Part of what jobs of the GitLab project ${var.project_path} may do"
  policy      = jsonencode({ Version = "2012-10-17", Statement = each.value })
  tags        = var.tags

  lifecycle {
    precondition {
      condition     = length(jsonencode({ Version = "2012-10-17", Statement = each.value })) <= 6144
      error_message = "Policy ${var.name}-${each.key} is longer than the 6,144 characters that IAM allows: name fewer repositories, buckets or keys."
    }
  }
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.attachments

  role       = aws_iam_role.this[each.value.role].name
  policy_arn = aws_iam_policy.this[each.value.policy].arn
}

# The most that a role of the stacks may do, whatever its own policies say.
resource "aws_iam_policy" "boundary" {
  name        = "${var.name}-boundary"
  description = "Permissions boundary of the roles that ${var.name}-deploy creates"
  policy      = jsonencode({ Version = "2012-10-17", Statement = local.boundary_statements })
  tags        = var.tags

  lifecycle {
    precondition {
      condition     = length(jsonencode({ Version = "2012-10-17", Statement = local.boundary_statements })) <= 6144
      error_message = "Policy ${var.name}-boundary is longer than the 6,144 characters that IAM allows: name fewer repositories, buckets or keys."
    }
  }
}
