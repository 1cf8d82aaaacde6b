# Stack refiner in environment $name.
# All variables are in terraform/stacks/refiner/variables.tf. release_tag is not set here: every deployment passes its own.

region = "$region"

bucket_name = "$bucket"
$existing_bucket$names$boundary
rulesets = {
  RefinerInput = {
    prefix = "RefinerInput/"

    # In this account's registry, with release_tag.
    image_uri = "dibbs-ecr-refiner/lambda"

    memory_mb = 2048
    timeout_s = 300

    # Keeps concurrency of the account for other functions:
    # max_concurrency = 50

    # What the function reads besides its inputs: prefixes of the bucket, and of other buckets.
    # read_access = ["Other/", "s3://example-refiner-config/configurations/"]
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
  # sns_topic_arns = ["arn:aws:sns:$region:$account:operators"]
}

tags = {
  Service     = "dibbs-ecr-refiner"
  Environment = "$name"
}
