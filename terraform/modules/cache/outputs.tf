output "name" {
  description = "ID of the replication group."
  value       = aws_elasticache_replication_group.this.replication_group_id
}

output "arn" {
  description = "ARN of the replication group."
  value       = aws_elasticache_replication_group.this.arn
}

output "url" {
  description = "URL of the primary node, with TLS and without the token."
  value       = "${local.scheme}://${local.host}:${local.port}"
}

output "secret_name" {
  description = "Name of the secret with the token, `{\"token\"}`."
  value       = aws_secretsmanager_secret.this.name
}

output "secret_arn" {
  description = "ARN of the secret."
  value       = aws_secretsmanager_secret.this.arn
}

output "security_group_id" {
  description = "Security group of the cache."
  value       = aws_security_group.this.id
}
