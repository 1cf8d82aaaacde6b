output "name" {
  description = "Name of the event bus."
  value       = aws_cloudwatch_event_bus.this.name
}

output "arn" {
  description = "ARN of the event bus."
  value       = aws_cloudwatch_event_bus.this.arn
}

output "forward_rule_name" {
  description = "Name of the rule on the default bus that forwards the bucket's events."
  value       = aws_cloudwatch_event_rule.forward.name
}

output "forward_rule_arn" {
  description = "ARN of the forwarding rule."
  value       = aws_cloudwatch_event_rule.forward.arn
}

output "delivery_dlq_name" {
  description = "Name of the dead-letter queue for events that could not be forwarded."
  value       = aws_sqs_queue.delivery_dlq.name
}

output "delivery_dlq_url" {
  description = "URL of the dead-letter queue for events that could not be forwarded."
  value       = aws_sqs_queue.delivery_dlq.url
}

output "delivery_dlq_arn" {
  description = "ARN of the dead-letter queue for events that could not be forwarded."
  value       = aws_sqs_queue.delivery_dlq.arn
}
