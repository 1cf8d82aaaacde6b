# An example: replace the values by your own. release_tag is not set here: every deployment passes its own, with
# `terraform apply -var-file=… -var release_tag=v1.2.3`.

region = "us-east-1"

# Names begin with <app_name>-<env>. The buckets' owner grants access to the roles rnr-production-lambda-producer-role,
# rnr-production-ecs-task-role and rnr-production-lambda-postproc-role.
app_name = "rnr"
env      = "production"

# Private subnets in three Availability Zones. By ID instead: vpc_id and subnet_ids.
vpc_name     = "example-vpc"
subnet_names = ["example-private-*"]

# For a VPC with neither NAT gateway nor endpoints:
# vpc_endpoints      = { enabled = true, route_table_ids = ["rtb-0123456789abcdef0"] }
# https_egress_cidrs = []

# The runners that `refinerctl dlq` and `refinerctl rnr` run on, which need a route to the broker:
# operator_security_group_ids = ["sg-0123456789abcdef0"]

input_bucket_name  = "example-forecasts"
output_bucket_name = "example-routed"

# In this account's registry, with release_tag.
images = {
  producer    = "rnr/producer"
  worker      = "rnr/worker"
  autoscaler  = "rnr/autoscaler"
  postprocess = "rnr/postprocess"
}

producer = {
  # A feed of products instead of objects that others put below input_prefix:
  # feed_url = "https://api.weather.gov/products/types/HML"
}

postprocess = {
  # The columns of the merged files: those of the bundled routing. Files with others are set aside.
  environment = { RNR_MERGED_COLUMNS = "time:string,inflow:double,outflow:double" }
}

worker = {
  cpu           = 2048
  memory_mb     = 8192
  job_timeout_s = 3600
}

autoscaler = {
  max_tasks      = 20
  target_backlog = 5
}

# Three nodes in three Availability Zones.
broker = {
  engine_version  = "4.2"
  instance_type   = "mq.m7g.large"
  deployment_mode = "CLUSTER_MULTI_AZ"
}

cache = {
  node_type = "cache.t4g.small"
  nodes     = 2
}

log_retention_days = 365

# Alarms notify nobody without a topic that has a confirmed subscription.
alarms = {
  # sns_topic_arns = ["arn:aws:sns:us-east-1:123456789012:operators"]
}

tags = {
  Service     = "rnr"
  Environment = "production"
}
