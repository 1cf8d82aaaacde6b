mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "000000000000" }
  }

  mock_data "aws_partition" {
    defaults = {
      partition  = "aws"
      dns_suffix = "amazonaws.com"
    }
  }

  mock_data "aws_region" {
    defaults = { id = "us-east-1" }
  }

  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::000000000000:oidc-provider/gitlab.com" }
  }

  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::000000000000:policy/mocked" }
  }
}

variables {
  name         = "ci-local"
  project_path = "example-group/refiner"
  state        = { bucket = "terraform-state" }
  repositories = ["dibbs-ecr-refiner/lambda"]
  refiner      = { bucket_name = "data-repository" }
}

run "access" {
  assert {
    condition     = toset(keys(output.role_arns)) == toset(["sync", "plan", "deploy", "operate"])
    error_message = "There must be the four roles: ${jsonencode(output.role_arns)}"
  }

  assert {
    condition     = output.permissions_boundary_arn == "arn:aws:iam::000000000000:policy/ci-local-boundary"
    error_message = "The permissions boundary is ${output.permissions_boundary_arn}."
  }

  assert {
    condition     = output.audience == "https://gitlab.com" && output.oidc_provider_arn == "arn:aws:iam::000000000000:oidc-provider/gitlab.com"
    error_message = "The provider of gitlab.com and its address as audience are the default."
  }
}
