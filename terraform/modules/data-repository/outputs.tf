output "bucket" {
  description = "Name of the bucket, known at plan time."
  value       = var.create ? aws_s3_bucket.this[0].bucket : data.aws_s3_bucket.existing[0].id
}

output "arn" {
  description = "ARN of the bucket."
  value       = local.bucket_arn
}
