# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name         = "ci"
  project_path = "group/project"
  state        = { bucket = "state" }
  repositories = ["a/b"]
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "wildcards" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name               = "ci-*"
    project_path       = "group/*"
    project_id         = "*"
    gitlab_url         = "https://*.example.com"
    audience           = "*"
    oidc_provider_arn  = "*"
    protected_branches = ["main", "*"]
    protected_tags     = ["*/*"]
    state              = { bucket = "*" }
    repositories       = ["*"]
    refiner            = { bucket_name = "*" }
    rnr                = { name = "*", vpc_id = "vpc-1", input_bucket_name = "in" }
    kms_key_arns       = ["*"]
    max_session_s      = 60
  }

  expect_failures = [
    var.name,
    var.project_path,
    var.project_id,
    var.gitlab_url,
    var.audience,
    var.oidc_provider_arn,
    var.protected_branches,
    var.protected_tags,
    var.state,
    var.repositories,
    var.refiner,
    var.rnr,
    var.kms_key_arns,
    var.max_session_s,
  ]
}

run "other_forms" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name               = join("", [for i in range(53) : "a"])
    project_path       = "project"
    gitlab_url         = "http://gitlab.example.com"
    audience           = "two words"
    oidc_provider_arn  = "arn:aws:iam::123456789012:saml-provider/gitlab.com"
    protected_branches = ["main:ref_type:branch"]
    protected_tags     = ["v?"]
    repositories       = []
    refiner            = { bucket_name = "data", input_prefixes = ["*"] }
    rnr                = { name = "rnr-a", vpc_id = "default", input_bucket_name = "in" }
    kms_key_arns       = ["arn:aws:kms:eu-west-1:123456789012:alias/a"]
    max_session_s      = 43201
  }

  expect_failures = [
    var.name,
    var.project_path,
    var.gitlab_url,
    var.audience,
    var.oidc_provider_arn,
    var.protected_branches,
    var.protected_tags,
    var.repositories,
    var.refiner,
    var.rnr,
    var.kms_key_arns,
    var.max_session_s,
  ]
}
