data "aws_partition" "current" {}
data "aws_region" "current" {}

# Data source: an existing bucket that does not exist or is in another region is an error at plan time.
data "aws_s3_bucket" "existing" {
  count = var.create ? 0 : 1

  bucket = var.bucket

  lifecycle {
    postcondition {
      # Not by attribute region: from version 6 of the provider on, that is the provider's region.
      condition     = strcontains(self.bucket_regional_domain_name, ".s3.${data.aws_region.current.id}.")
      error_message = "Bucket ${var.bucket} (${self.bucket_regional_domain_name}) is not in ${data.aws_region.current.id}. S3 sends its events to EventBridge in the bucket's own region, so the rules must be created there."
    }
  }
}

locals {
  manage_notifications = coalesce(var.manage_notifications, var.create)
  bucket_arn           = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket}"

  deny_insecure_transport = {
    Sid       = "DenyInsecureTransport"
    Effect    = "Deny"
    Principal = "*"
    Action    = "s3:*"
    Resource  = [local.bucket_arn, "${local.bucket_arn}/*"]
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }

  # One statement for each role, so that no role has access to the inputs of another one.
  allow_objects = [
    for name in sort(keys(var.access)) : {
      Effect    = "Allow"
      Principal = { AWS = var.access[name].role_arn }
      Action    = ["s3:GetObject", "s3:PutObject"]
      Resource  = [for prefix in var.access[name].prefixes : "${local.bucket_arn}/${prefix}*"]
    }
  ]

  allow_list_bucket = [
    for name in sort(keys(var.access)) : {
      Effect    = "Allow"
      Principal = { AWS = var.access[name].role_arn }
      Action    = ["s3:ListBucket"]
      Resource  = [local.bucket_arn]
    }
  ]

  bucket_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat([local.deny_insecure_transport], local.allow_objects, local.allow_list_bucket)
  })
}

resource "aws_s3_bucket" "this" {
  #checkov:skip=CKV_AWS_144: a copy in another region is for the owner of the data to decide

  count = var.create ? 1 : 0

  bucket        = var.bucket
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  count = var.create ? 1 : 0

  bucket                  = aws_s3_bucket.this[0].bucket
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  count = var.create ? 1 : 0

  bucket = aws_s3_bucket.this[0].bucket

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  count = var.create ? 1 : 0

  bucket = aws_s3_bucket.this[0].bucket

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }

    # A key for the bucket: S3 asks KMS for each of a few keys instead of for each object.
    bucket_key_enabled = var.kms_key_arn == null ? null : true
  }
}

resource "aws_s3_bucket_versioning" "this" {
  count = var.create ? 1 : 0

  bucket = aws_s3_bucket.this[0].bucket

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  count = var.create && var.abort_incomplete_uploads ? 1 : 0

  bucket = aws_s3_bucket.this[0].bucket

  rule {
    id     = "abort-incomplete-multipart-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_logging" "this" {
  count = var.create && var.access_log != null ? 1 : 0

  bucket        = aws_s3_bucket.this[0].bucket
  target_bucket = var.access_log.bucket
  target_prefix = var.access_log.prefix

  lifecycle {
    precondition {
      condition     = var.access_log.bucket != var.bucket
      error_message = "access_log.bucket is the bucket itself: each log that S3 writes there would be logged again, without end."
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  count = var.create ? 1 : 0

  bucket = aws_s3_bucket.this[0].bucket
  policy = local.bucket_policy

  # S3 rejects concurrent changes of a bucket's access settings.
  depends_on = [aws_s3_bucket_public_access_block.this]

  lifecycle {
    precondition {
      condition     = length(local.bucket_policy) <= 20480
      error_message = "The bucket policy would have ${length(local.bucket_policy)} characters; S3 allows 20,480. ${length(var.access)} roles are too many for one bucket."
    }
  }
}

# The whole notification configuration of the bucket: all other notifications are removed.
resource "aws_s3_bucket_notification" "this" {
  count = local.manage_notifications ? 1 : 0

  bucket      = var.create ? aws_s3_bucket.this[0].bucket : data.aws_s3_bucket.existing[0].bucket
  eventbridge = true
}
