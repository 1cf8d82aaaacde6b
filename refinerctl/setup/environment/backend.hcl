# Where the states of environment $name are.
# A bucket with versioning and encryption, which no stack manages. Each stack adds its own key, <stack>/terraform.tfstate.
bucket       = "$state_bucket"
region       = "$state_region"
encrypt      = true
use_lockfile = true
