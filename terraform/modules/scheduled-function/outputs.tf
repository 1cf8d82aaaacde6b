output "image_uri" {
  description = "URI of the function's image."
  value       = var.image_uri
}

output "function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.this.function_name
}

output "function_arn" {
  description = "ARN of the function."
  value       = aws_lambda_function.this.arn
}

output "role_arn" {
  description = "ARN of the function's execution role."
  value       = aws_iam_role.function.arn
}

output "log_group" {
  description = "Name of the function's log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "security_group_id" {
  description = "Security group of the function."
  value       = aws_security_group.this.id
}

output "schedule_name" {
  description = "Name of the schedule."
  value       = aws_scheduler_schedule.this.name
}

output "schedule_arn" {
  description = "ARN of the schedule."
  value       = aws_scheduler_schedule.this.arn
}

output "schedule_group" {
  description = "Name of the schedule's group."
  value       = aws_scheduler_schedule.this.group_name
}

output "schedule_role_arn" {
  description = "ARN of the role with which EventBridge Scheduler invokes the function."
  value       = aws_iam_role.scheduler.arn
}

output "dlq_name" {
  description = "Name of the dead-letter queue for runs that failed."
  value       = aws_sqs_queue.dlq.name
}

output "dlq_url" {
  description = "URL of the dead-letter queue for runs that failed."
  value       = aws_sqs_queue.dlq.url
}

output "dlq_arn" {
  description = "ARN of the dead-letter queue for runs that failed."
  value       = aws_sqs_queue.dlq.arn
}

output "delivery_dlq_name" {
  description = "Name of the dead-letter queue for occurrences of the schedule that could not be delivered."
  value       = aws_sqs_queue.delivery_dlq.name
}

output "delivery_dlq_url" {
  description = "URL of the dead-letter queue for occurrences of the schedule that could not be delivered."
  value       = aws_sqs_queue.delivery_dlq.url
}

output "delivery_dlq_arn" {
  description = "ARN of the dead-letter queue for occurrences of the schedule that could not be delivered."
  value       = aws_sqs_queue.delivery_dlq.arn
}
