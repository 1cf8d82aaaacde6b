# State in the emulator's own S3, at AWS_ENDPOINT_URL.
bucket         = "terraform-state"
region         = "us-east-1"
encrypt        = true
use_lockfile   = true # Terraform 1.10 or newer
use_path_style = true
