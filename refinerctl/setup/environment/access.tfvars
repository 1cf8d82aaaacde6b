# Stack access in environment $name.
# The roles of the GitLab project's jobs. Applied by an administrator, not by a job: `refinerctl deploy --stack access`.
# All variables are in terraform/stacks/access/variables.tf.

region = "$region"

# Roles ci-$name-sync, -plan, -deploy and -operate.
name         = "ci-$name"
project_path = "$gitlab_project"

# On gitlab.com, the project's ID: the roles then also require that the ref is protected.
# project_id = "12345678"

# For GitLab Self-Managed, which AWS must be able to reach:
# gitlab_url = "https://gitlab.example.com"
$oidc_provider
# Each of these must be protected in the project's settings.
protected_branches = ["main"]
protected_tags     = ["v*"]

# As in backend.hcl.
state = { bucket = "$state_bucket" }

# As in registry.tfvars.
repositories = [
$repositories
]

# As in refiner.tfvars and rnr.tfvars.
$access_refiner
$access_rnr
tags = {
  Service     = "ci-access"
  Environment = "$name"
}
