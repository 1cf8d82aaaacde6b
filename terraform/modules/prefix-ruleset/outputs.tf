output "prefix" {
  description = "Prefix of the keys that the ruleset handles, without leading slash."
  value       = local.prefix
}

output "output_prefix" {
  description = "Prefix below which the function writes its outputs, without leading slash. Null in a completion ruleset."
  value       = local.has_function ? local.output_prefix : null
}

output "complete_prefix" {
  description = "Prefix below which the function writes its completions, without leading slash. Null in a completion ruleset."
  value       = local.has_function ? local.complete_prefix : null
}

output "complete_suffix" {
  description = "What the function appends to the name of an input to get the key of its completion. Null in a completion ruleset."
  value       = local.has_function ? lookup(local.environment, "REFINER_COMPLETE_SUFFIX", ".json") : null
}

output "read_access" {
  description = "What else the function may read, each as `s3://<bucket>/<prefix>`."
  value       = [for path in local.read_access : "s3://${path}" if local.has_function]
}

output "read_kms_key_arns" {
  description = "ARNs of the KMS keys that the function may decrypt with."
  value       = [for arn in var.read_kms_key_arns : arn if local.has_function]
}

output "image_uri" {
  description = "Full URI of the function's image, with tag or digest. Null in a completion ruleset."
  value       = local.image_uri
}

output "rule_name" {
  description = "Name of the rule on the event bus."
  value       = aws_cloudwatch_event_rule.this.name
}

output "rule_arn" {
  description = "ARN of the rule."
  value       = aws_cloudwatch_event_rule.this.arn
}

output "queue_name" {
  description = "Name of the queue."
  value       = aws_sqs_queue.this.name
}

output "queue_url" {
  description = "URL of the queue."
  value       = aws_sqs_queue.this.url
}

output "queue_arn" {
  description = "ARN of the queue."
  value       = aws_sqs_queue.this.arn
}

output "dlq_name" {
  description = "Name of the dead-letter queue for messages that could not be processed."
  value       = aws_sqs_queue.dlq.name
}

output "dlq_url" {
  description = "URL of the dead-letter queue for messages that could not be processed."
  value       = aws_sqs_queue.dlq.url
}

output "dlq_arn" {
  description = "ARN of the dead-letter queue for messages that could not be processed."
  value       = aws_sqs_queue.dlq.arn
}

output "delivery_dlq_name" {
  description = "Name of the dead-letter queue for events that could not be delivered to the queue."
  value       = aws_sqs_queue.delivery_dlq.name
}

output "delivery_dlq_url" {
  description = "URL of the dead-letter queue for events that could not be delivered to the queue."
  value       = aws_sqs_queue.delivery_dlq.url
}

output "delivery_dlq_arn" {
  description = "ARN of the dead-letter queue for events that could not be delivered to the queue."
  value       = aws_sqs_queue.delivery_dlq.arn
}

output "function_name" {
  description = "Name of the function. Null in a completion ruleset."
  value       = one(aws_lambda_function.this[*].function_name)
}

output "function_arn" {
  description = "ARN of the function. Null in a completion ruleset."
  value       = one(aws_lambda_function.this[*].arn)
}

output "role_arn" {
  description = "ARN of the function's execution role. Null in a completion ruleset."
  value       = one(aws_iam_role.this[*].arn)
}

output "log_group" {
  description = "Name of the function's log group. Null in a completion ruleset."
  value       = one(aws_cloudwatch_log_group.this[*].name)
}

output "event_source_mapping_id" {
  description = "UUID of the event source mapping from queue to function. Null in a completion ruleset."
  value       = one(aws_lambda_event_source_mapping.this[*].uuid)
}
