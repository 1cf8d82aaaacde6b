terraform {
  required_version = ">= 1.11" # secret_string_wo is a write-only argument

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}
