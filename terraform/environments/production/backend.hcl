# Where the state is kept: a bucket with versioning, encryption and access for deployers only, which exists already and is
# not managed by these stacks. Each stack adds its own key, <stack>/terraform.tfstate.
bucket       = "example-refiner-terraform-state"
region       = "us-east-1"
encrypt      = true
use_lockfile = true # Terraform 1.10 or newer
