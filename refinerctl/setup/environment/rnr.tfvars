# Stack rnr in environment $name.
# All variables are in terraform/stacks/rnr/variables.tf. release_tag is not set here: every deployment passes its own.

region = "$region"

# Names begin with <app_name>-<env>.
app_name = "rnr"
env      = "$name"
$boundary
# Private subnets, each in another Availability Zone.
$vpc

$subnets

# For a VPC with neither NAT gateway nor endpoints:
# vpc_endpoints      = { enabled = true, route_table_ids = ["rtb-0123456789abcdef0"] }
# https_egress_cidrs = []

# The runners that `refinerctl dlq` and `refinerctl rnr` run on, which need a route to the broker:
# operator_security_group_ids = ["sg-0123456789abcdef0"]

input_bucket_name = "$rnr_bucket"

# False for a bucket that exists already: its owner grants access with `refinerctl rnr bucket-policy`.
create_buckets = $create_buckets

# In this account's registry, with release_tag.
images = {
  producer    = "rnr/producer"
  worker      = "rnr/worker"
  autoscaler  = "rnr/autoscaler"
  postprocess = "rnr/postprocess"
}

postprocess = {
  # The columns of the merged files: those of the bundled routing. Files with others are set aside.
  environment = { RNR_MERGED_COLUMNS = "time:string,inflow:double,outflow:double" }
}

log_retention_days = 365

# Alarms notify nobody without a topic that has a confirmed subscription.
alarms = {
  # sns_topic_arns = ["arn:aws:sns:$region:$account:operators"]
}

tags = {
  Service     = "rnr"
  Environment = "$name"
}
