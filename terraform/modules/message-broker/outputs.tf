output "name" {
  description = "Name of the broker."
  value       = aws_mq_broker.this.broker_name
}

output "id" {
  description = "ID of the broker."
  value       = aws_mq_broker.this.id
}

output "arn" {
  description = "ARN of the broker."
  value       = aws_mq_broker.this.arn
}

output "amqp_url" {
  description = "URL of AMQP with TLS, without credentials."
  value       = local.instance.endpoints[0]
}

output "api_url" {
  description = "URL of the management API and console, without credentials."
  value       = local.instance.console_url
}

output "username" {
  description = "Name of the first user. Its password is not an output; the secret has the current one."
  value       = var.username
}

output "secret_name" {
  description = "Name of the secret with the credentials, `{\"username\",\"password\"}`."
  value       = aws_secretsmanager_secret.this.name
}

output "secret_arn" {
  description = "ARN of the secret."
  value       = aws_secretsmanager_secret.this.arn
}

output "security_group_id" {
  description = "Security group of the broker."
  value       = aws_security_group.this.id
}

output "log_group" {
  description = "Name of the log group that Amazon MQ creates for the broker's general log."
  value       = "/aws/amazonmq/broker/${aws_mq_broker.this.id}/general"
}
