# An example: replace the values by your own. release_tag is not set here: every deployment passes its own, with
# `terraform apply -var-file=… -var release_tag=v1.2.3`.

region = "us-east-1"

# Bucket names are globally unique: "data-repository" is in use.
bucket_name = "example-data-repository"

# To use an existing bucket that already sends its events to EventBridge:
# create_bucket = false
# To enable EventBridge notifications as well. This removes the bucket's other notifications:
# manage_bucket_notifications = true

rulesets = {
  RefinerInput = {
    prefix = "RefinerInput/"

    # In this account's registry, with release_tag. To pin one image, by digest:
    # image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:…"
    image_uri = "dibbs-ecr-refiner/lambda"

    memory_mb = 2048
    timeout_s = 300

    # Six times timeout_s, which is the default. A shorter visibility timeout retries sooner; the minimum is timeout_s.
    visibility_timeout_s = 1800

    # Keeps concurrency of the account for other functions.
    max_concurrency = 50

    environment = {
      LOG_LEVEL = "INFO"
    }

    # What the function reads besides its inputs: prefixes of the bucket, and of other buckets.
    # read_access = ["Other/", "s3://example-refiner-config/configurations/"]

    # Only if the function needs resources in a VPC. The subnets need endpoints for S3, SQS and CloudWatch
    # Logs, or a NAT gateway.
    # vpc = {
    #   subnet_ids         = ["subnet-0123456789abcdef0", "subnet-0fedcba9876543210"]
    #   security_group_ids = ["sg-0123456789abcdef0"]
    # }
  }

  # No image_uri: a completion ruleset, whose queue belongs to downstream consumers.
  RefinerComplete = {
    prefix = "RefinerComplete/"
  }
}

log_retention_days = 365

# Enough time to detect and repair a long outage of the function before messages are lost.
message_retention_s = 1209600 # 14 days

# Alarms notify nobody without a topic that has a confirmed subscription.
alarms = {
  # sns_topic_arns = ["arn:aws:sns:us-east-1:123456789012:operators"]

  # Only if inputs arrive every day, on weekends too.
  # no_completion_hours = 24
}

tags = {
  Service     = "dibbs-ecr-refiner"
  Environment = "production"
}
