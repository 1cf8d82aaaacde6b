module "ci_access" {
  source = "../../modules/ci-access"

  name               = var.name
  project_path       = var.project_path
  project_id         = var.project_id
  gitlab_url         = var.gitlab_url
  audience           = var.audience
  oidc_provider_arn  = var.oidc_provider_arn
  protected_branches = var.protected_branches
  protected_tags     = var.protected_tags
  plan_from_any_ref  = var.plan_from_any_ref
  max_session_s      = var.max_session_s
  allow_destroy      = var.allow_destroy

  state        = var.state
  repositories = var.repositories
  refiner      = var.refiner
  rnr          = var.rnr
  kms_key_arns = var.kms_key_arns
}
