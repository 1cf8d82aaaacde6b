output "role_arns" {
  description = "ARNs of the roles `sync`, `plan`, `deploy` and `operate`, by these names."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "permissions_boundary_arn" {
  description = "ARN of the permissions boundary: `permissions_boundary` of stacks `refiner` and `rnr`."
  value       = local.boundary_arn
}

output "oidc_provider_arn" {
  description = "ARN of GitLab's OIDC provider."
  value       = local.provider_arn
}

output "audience" {
  description = "Audience that a job's token must have: `aud` of `id_tokens`."
  value       = local.audience
}
