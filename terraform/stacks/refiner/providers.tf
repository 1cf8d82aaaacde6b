# Credentials, profile and endpoints come from the environment (AWS_PROFILE, AWS_ENDPOINT_URL, …).
provider "aws" {
  region              = var.region
  allowed_account_ids = var.allowed_account_ids
  s3_use_path_style   = var.s3_use_path_style

  default_tags {
    tags = var.tags
  }
}
