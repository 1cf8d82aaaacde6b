mock_provider "aws" {
  source = "../../mocks"
}

variables {
  bucket = "data-repository"
  access = {
    RefinerInput = {
      role_arn = "arn:aws:iam::123456789012:role/dibbs-ecr-RefinerInput"
      prefixes = ["RefinerInput/", "RefinerOutput/", "RefinerComplete/"]
    }
    Other = {
      role_arn = "arn:aws:iam::123456789012:role/dibbs-ecr-Other"
      prefixes = ["Other/", "RefinerOutput/", "RefinerComplete/"]
    }
  }
}

run "created_bucket_and_its_policy" {
  command = plan

  assert {
    condition     = aws_s3_bucket.this[0].bucket == "data-repository" && aws_s3_bucket.this[0].force_destroy == false
    error_message = "The bucket has another name, or would be deleted with what is in it."
  }

  assert {
    condition     = aws_s3_bucket_notification.this[0].bucket == "data-repository" && aws_s3_bucket_notification.this[0].eventbridge
    error_message = "EventBridge notifications are not on."
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this[0].block_public_acls,
      aws_s3_bucket_public_access_block.this[0].block_public_policy,
      aws_s3_bucket_public_access_block.this[0].ignore_public_acls,
      aws_s3_bucket_public_access_block.this[0].restrict_public_buckets,
    ])
    error_message = "Public access is not blocked in all four ways."
  }

  assert {
    condition     = aws_s3_bucket_ownership_controls.this[0].rule[0].object_ownership == "BucketOwnerEnforced"
    error_message = "ACLs are still enabled."
  }

  assert {
    condition = [
      for rule in aws_s3_bucket_server_side_encryption_configuration.this[0].rule :
      rule.apply_server_side_encryption_by_default[0].sse_algorithm
    ] == ["AES256"]
    error_message = "Objects are not encrypted."
  }

  assert {
    condition     = length(aws_s3_bucket_logging.this) == 0
    error_message = "There is an access log although none was asked for."
  }

  assert {
    condition     = aws_s3_bucket_versioning.this[0].versioning_configuration[0].status == "Enabled"
    error_message = "Objects have no versions."
  }

  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.this[0].rule[0].status == "Enabled" &&
      aws_s3_bucket_lifecycle_configuration.this[0].rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 1 &&
      length(aws_s3_bucket_lifecycle_configuration.this[0].rule) == 1 &&
      length(aws_s3_bucket_lifecycle_configuration.this[0].rule[0].expiration) == 0 &&
      length(aws_s3_bucket_lifecycle_configuration.this[0].rule[0].noncurrent_version_expiration) == 0
    )
    error_message = "Incomplete uploads must be aborted after a day, and nothing else may expire."
  }

  assert {
    condition     = output.bucket == "data-repository" && output.arn == "arn:aws:s3:::data-repository"
    error_message = "The outputs are not those of the bucket."
  }

  assert {
    condition = jsondecode(aws_s3_bucket_policy.this[0].policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "DenyInsecureTransport"
          Effect    = "Deny"
          Principal = "*"
          Action    = "s3:*"
          Resource  = ["arn:aws:s3:::data-repository", "arn:aws:s3:::data-repository/*"]
          Condition = { Bool = { "aws:SecureTransport" = "false" } }
        },
        {
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::123456789012:role/dibbs-ecr-Other" }
          Action    = ["s3:GetObject", "s3:PutObject"]
          Resource = [
            "arn:aws:s3:::data-repository/Other/*",
            "arn:aws:s3:::data-repository/RefinerOutput/*",
            "arn:aws:s3:::data-repository/RefinerComplete/*",
          ]
        },
        {
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::123456789012:role/dibbs-ecr-RefinerInput" }
          Action    = ["s3:GetObject", "s3:PutObject"]
          Resource = [
            "arn:aws:s3:::data-repository/RefinerInput/*",
            "arn:aws:s3:::data-repository/RefinerOutput/*",
            "arn:aws:s3:::data-repository/RefinerComplete/*",
          ]
        },
        {
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::123456789012:role/dibbs-ecr-Other" }
          Action    = ["s3:ListBucket"]
          Resource  = ["arn:aws:s3:::data-repository"]
        },
        {
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::123456789012:role/dibbs-ecr-RefinerInput" }
          Action    = ["s3:ListBucket"]
          Resource  = ["arn:aws:s3:::data-repository"]
        },
      ]
    }
    error_message = "The bucket policy differs: ${aws_s3_bucket_policy.this[0].policy}"
  }
}

run "settings_of_a_created_bucket" {
  command = plan

  variables {
    access                   = {}
    abort_incomplete_uploads = false
    manage_notifications     = false
    kms_key_arn              = "arn:aws:kms:eu-west-1:123456789012:key/1"
    access_log               = { bucket = "logs", prefix = "data-repository/" }
  }

  assert {
    condition = jsondecode(aws_s3_bucket_policy.this[0].policy).Statement == [{
      Sid       = "DenyInsecureTransport"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = ["arn:aws:s3:::data-repository", "arn:aws:s3:::data-repository/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
    error_message = "Without roles only the denial must be left: ${aws_s3_bucket_policy.this[0].policy}"
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this) == 0
    error_message = "There is a lifecycle rule although none was asked for."
  }

  assert {
    condition     = length(aws_s3_bucket.this) == 1 && length(aws_s3_bucket_notification.this) == 0
    error_message = "The notifications of the created bucket are managed, although manage_notifications is false."
  }

  assert {
    condition = [
      for rule in aws_s3_bucket_server_side_encryption_configuration.this[0].rule :
      "${rule.apply_server_side_encryption_by_default[0].sse_algorithm} ${rule.apply_server_side_encryption_by_default[0].kms_master_key_id} ${rule.bucket_key_enabled}"
    ] == ["aws:kms arn:aws:kms:eu-west-1:123456789012:key/1 true"]
    error_message = "Objects are not encrypted with the key."
  }

  assert {
    condition     = aws_s3_bucket_logging.this[0].bucket == "data-repository" && aws_s3_bucket_logging.this[0].target_bucket == "logs" && aws_s3_bucket_logging.this[0].target_prefix == "data-repository/"
    error_message = "The access log goes elsewhere."
  }
}

run "existing_bucket_is_left_alone" {
  command = plan

  variables {
    create        = false
    force_destroy = true
    kms_key_arn   = "arn:aws:kms:eu-west-1:123456789012:key/1"
    access_log    = { bucket = "logs" }
  }

  override_data {
    target = data.aws_s3_bucket.existing[0]
    values = { bucket_regional_domain_name = "data-repository.s3.eu-west-1.amazonaws.com", id = "looked-up" }
  }

  assert {
    condition = sum([
      length(aws_s3_bucket.this),
      length(aws_s3_bucket_lifecycle_configuration.this),
      length(aws_s3_bucket_logging.this),
      length(aws_s3_bucket_notification.this),
      length(aws_s3_bucket_ownership_controls.this),
      length(aws_s3_bucket_policy.this),
      length(aws_s3_bucket_public_access_block.this),
      length(aws_s3_bucket_server_side_encryption_configuration.this),
      length(aws_s3_bucket_versioning.this),
    ]) == 0
    error_message = "An existing bucket would be changed."
  }

  assert {
    condition     = output.bucket == "looked-up" && output.arn == "arn:aws:s3:::data-repository"
    error_message = "The outputs are not those of the existing bucket."
  }
}

run "notifications_of_an_existing_bucket" {
  command = plan

  variables {
    create               = false
    manage_notifications = true
  }

  override_data {
    target = data.aws_s3_bucket.existing[0]
    values = { bucket_regional_domain_name = "data-repository.s3.eu-west-1.amazonaws.com" }
  }

  assert {
    condition     = aws_s3_bucket_notification.this[0].bucket == "data-repository" && aws_s3_bucket_notification.this[0].eventbridge
    error_message = "EventBridge notifications are not enabled, although manage_notifications is true."
  }

  assert {
    condition     = length(aws_s3_bucket.this) + length(aws_s3_bucket_policy.this) == 0
    error_message = "More than the notifications would be changed."
  }
}

run "existing_bucket_in_another_region" {
  command = plan

  variables {
    create = false
  }

  override_data {
    target = data.aws_s3_bucket.existing[0]
    values = { bucket_regional_domain_name = "data-repository.s3.us-east-1.amazonaws.com" }
  }

  expect_failures = [data.aws_s3_bucket.existing[0]]
}

run "bucket_policy_too_long_and_access_log_of_itself" {
  command = plan

  variables {
    access_log = { bucket = "data-repository" }
    access = {
      for i in range(60) : "r${i}" => {
        role_arn = "arn:aws:iam::123456789012:role/a-role-with-a-long-name-number-${i}"
        prefixes = ["RefinerInput${i}/", "RefinerOutput/", "RefinerComplete/"]
      }
    }
  }

  expect_failures = [aws_s3_bucket_policy.this, aws_s3_bucket_logging.this]
}
