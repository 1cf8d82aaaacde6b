# Credentials, profile and endpoints come from the environment (AWS_PROFILE, AWS_ENDPOINT_URL, …).
provider "aws" {
  region              = var.region
  allowed_account_ids = var.allowed_account_ids

  default_tags {
    tags = var.tags
  }
}
