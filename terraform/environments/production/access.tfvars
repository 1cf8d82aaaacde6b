# An example: replace the values by your own. Applied by an administrator, not by a job: `refinerctl deploy --stack access`.
# The other stacks then set permissions_boundary to what `refinerctl outputs --stack access` prints.

region = "us-east-1"

# Roles ci-production-sync, -plan, -deploy and -operate.
name         = "ci-production"
project_path = "example-group/refiner"

# On gitlab.com, the project's ID: the roles then also require that the ref is protected.
# project_id = "12345678"

# For GitLab Self-Managed, which AWS must be able to reach:
# gitlab_url = "https://gitlab.example.com"

# Each of these must be protected in the project's settings.
protected_branches = ["main"]
protected_tags     = ["v*"]

# As in backend.hcl.
state = { bucket = "example-refiner-terraform-state" }

# As in registry.tfvars.
repositories = [
  "dibbs-ecr-refiner/lambda",
  "rnr/producer",
  "rnr/worker",
  "rnr/autoscaler",
  "rnr/postprocess",
]

# As in refiner.tfvars and rnr.tfvars. Leave out a stack that the account does not have.
refiner = { bucket_name = "example-data-repository" }
rnr = {
  name               = "rnr-production"
  vpc_id             = "vpc-0123456789abcdef0"
  input_bucket_name  = "example-forecasts"
  output_bucket_name = "example-routed"
}

tags = {
  Service     = "ci-access"
  Environment = "production"
}
