mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com" }
  }

  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/mocked" }
  }
}

variables {
  name         = "ci-production"
  project_path = "example-group/refiner"
  state        = { bucket = "example-terraform-state" }
  repositories = ["dibbs-ecr-refiner/lambda"]
  refiner      = { bucket_name = "data-repository" }
}

run "trust" {
  command = plan

  assert {
    condition = jsondecode(aws_iam_role.this["deploy"].assume_role_policy) == {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/gitlab.com" }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = { "gitlab.com:aud" = "https://gitlab.com" }
          StringLike = {
            "gitlab.com:sub" = [
              "project_path:example-group/refiner:ref_type:branch:ref:main",
              "project_path:example-group/refiner:ref_type:tag:ref:v*",
            ]
          }
        }
      }]
    }
    error_message = "The trust policy differs: ${aws_iam_role.this["deploy"].assume_role_policy}"
  }

  assert {
    condition     = jsondecode(aws_iam_role.this["plan"].assume_role_policy).Statement[0].Condition.StringLike["gitlab.com:sub"] == ["project_path:example-group/refiner:*"]
    error_message = "Role plan must be for every ref of the project: ${aws_iam_role.this["plan"].assume_role_policy}"
  }

  assert {
    condition = aws_iam_openid_connect_provider.gitlab[0].url == "https://gitlab.com" && (
      aws_iam_openid_connect_provider.gitlab[0].client_id_list == toset(["https://gitlab.com"])
    )
    error_message = "The provider has another address or audience."
  }

  assert {
    condition     = !can(regex("DeleteBucket\"|DeleteRepository\"", aws_iam_policy.this["deploy-data"].policy))
    error_message = "Role deploy may delete data, although allow_destroy is false: ${aws_iam_policy.this["deploy-data"].policy}"
  }

  assert {
    condition     = toset(keys(aws_iam_role_policy_attachment.this)) == toset(["plan read", "deploy read", "operate read", "deploy deploy", "deploy deploy-data", "deploy deploy-role"])
    error_message = "Policies are attached to other roles: ${jsonencode(keys(aws_iam_role_policy_attachment.this))}"
  }
}

run "gitlab_com_with_project_id_and_all_stacks_with_long_names" {
  command = plan

  variables {
    project_id         = "4711"
    plan_from_any_ref  = false
    protected_branches = []
    allow_destroy      = true
    oidc_provider_arn  = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
    repositories       = [for i in range(8) : "a-team-with-a-long-name/a-service-with-a-long-name/${i}"]
    kms_key_arns       = [for i in range(4) : "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-55555555555${i}"]
    refiner = {
      bucket_name  = "a-data-repository-with-a-name-of-sixty-three-characters-0123456"
      name_prefix  = "a-prefix-of-twenty-four-"
      read_buckets = ["another-bucket-with-a-name-of-sixty-three-characters-0123456789"]
    }
    rnr = {
      name               = "forecasts-production-eu"
      vpc_id             = "vpc-0123456789abcdef0"
      input_bucket_name  = "an-input-bucket-with-a-name-of-sixty-three-characters-012345678"
      output_bucket_name = "an-output-bucket-with-a-name-of-sixty-three-characters-01234567"
      create_buckets     = true
      vpc_endpoints      = true
    }
  }

  assert {
    condition = alltrue([
      for role in aws_iam_role.this : jsondecode(role.assume_role_policy).Statement[0].Condition == {
        StringEquals = {
          "gitlab.com:aud"           = "https://gitlab.com"
          "gitlab.com:project_id"    = "4711"
          "gitlab.com:ref_protected" = "true"
        }
        StringLike = { "gitlab.com:sub" = ["project_path:example-group/refiner:ref_type:tag:ref:v*"] }
      }
    ])
    error_message = "A role does not ask for the project's ID and a protected tag."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.gitlab) == 0
    error_message = "The provider exists, and must not be created."
  }

  assert {
    condition = (
      can(regex("s3:DeleteBucket\".*ecr:DeleteRepository\"", aws_iam_policy.this["deploy-data"].policy)) &&
      can(regex("mq:DeleteBroker.*elasticache:DeleteReplicationGroup", aws_iam_policy.this["deploy-rnr"].policy))
    )
    error_message = "Role deploy may not delete what holds data, although allow_destroy is true."
  }

  # IAM allows 10,240 characters for all inline policies of a role.
  assert {
    condition     = alltrue([for policy in aws_iam_role_policy.this : length(policy.policy) <= 10240])
    error_message = "An inline policy is too long: ${jsonencode({ for name, policy in aws_iam_role_policy.this : name => length(policy.policy) })}"
  }
}

run "own_gitlab" {
  command = plan

  # With an existing bucket.
  variables {
    refiner           = { bucket_name = "data-repository", create_bucket = false, manage_bucket_notifications = true }
    gitlab_url        = "https://gitlab.example.com/"
    audience          = "aws"
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com"
  }

  assert {
    condition     = jsondecode(aws_iam_role.this["sync"].assume_role_policy).Statement[0].Condition.StringEquals == { "gitlab.example.com:aud" = "aws" }
    error_message = "The condition is on another key: ${aws_iam_role.this["sync"].assume_role_policy}"
  }

  assert {
    condition = [
      for statement in jsondecode(aws_iam_policy.this["deploy-data"].policy).Statement : statement.Action
      if anytrue([for action in flatten([statement.Action]) : startswith(action, "s3:")])
    ] == [["s3:PutBucketNotification"]]
    error_message = "Of an existing bucket, only the notifications may be changed: ${aws_iam_policy.this["deploy-data"].policy}"
  }
}

run "project_id_of_own_gitlab_and_policies_too_long" {
  command = plan

  variables {
    gitlab_url        = "https://gitlab.example.com"
    project_id        = "4711"
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com"
    repositories      = [for i in range(99) : "a-team-with-a-long-name/a-service-with-a-long-name/${i}"]
  }

  expect_failures = [aws_iam_role.this, aws_iam_policy.this, aws_iam_policy.boundary]
}

run "provider_of_another_address" {
  command = plan

  variables {
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.example.com"
  }

  expect_failures = [aws_iam_role.this]
}

# Otherwise a deployment could change the role that it runs as.
run "roles_named_as_those_of_a_stack" {
  command = plan

  variables {
    name              = "dibbs-ecr-ci"
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/gitlab.com"
  }

  expect_failures = [aws_iam_role.this]
}
