output "role_arns" {
  description = "ARNs of the roles `sync`, `plan`, `deploy` and `operate`, by these names."
  value       = module.ci_access.role_arns
}

output "permissions_boundary_arn" {
  description = "ARN of the permissions boundary: `permissions_boundary` in refiner.tfvars and rnr.tfvars."
  value       = module.ci_access.permissions_boundary_arn
}

output "oidc_provider_arn" {
  description = "ARN of GitLab's OIDC provider, for `oidc_provider_arn` of a second environment in the account."
  value       = module.ci_access.oidc_provider_arn
}

output "audience" {
  description = "Audience that a job's token must have: `aud` of `id_tokens`."
  value       = module.ci_access.audience
}
