terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }

  # The rest comes from environments/<env>/backend.hcl at `terraform init -backend-config=…`.
  backend "s3" {
    key = "access/terraform.tfstate"
  }
}
