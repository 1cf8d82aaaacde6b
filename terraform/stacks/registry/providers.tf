# Credentials, profile and endpoints come from the environment (AWS_PROFILE, AWS_ENDPOINT_URL, …).
provider "aws" {
  region = var.region

  default_tags {
    tags = var.tags
  }
}
