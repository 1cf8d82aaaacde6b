app_name = "rnr"
env      = "local"

# The emulator's default VPC; it has the same IDs on each start.
vpc_id     = "vpc-00000001"
subnet_ids = ["subnet-00000001", "subnet-00000002"]

input_bucket_name = "rnr-data"
create_buckets    = true
s3_use_path_style = true
force_destroy     = true
release_tag       = "local"

# Terraform waits a minute for this lifecycle rule, longer than for all other resources.
abort_incomplete_uploads = false

# The names must be free for the next `local up`.
secret_recovery_days = 0

# TF_VAR_function_environment sets function_environment: it contains the function host's address, which differs
# from run to run.

images = {
  producer    = "rnr/producer"
  worker      = "rnr/worker"
  autoscaler  = "rnr/autoscaler"
  postprocess = "rnr/postprocess"
}

# Each minute, the shortest time of a schedule, so that nobody has to wait.
producer = { schedule = "rate(1 minute)", timeout_s = 60 }
postprocess = {
  schedule    = "rate(1 minute)"
  timeout_s   = 60
  environment = { RNR_MERGED_COLUMNS = "time:string,inflow:double,outflow:double" }
}
worker = { job_timeout_s = 60, stop_timeout_s = 10, container_insights = false }
autoscaler = {
  max_tasks   = 4
  environment = { RNR_SCALE_IN_COOLDOWN_S = "30", RNR_ZERO_COOLDOWN_S = "30" }
}

# What the local RabbitMQ is closest to.
broker = { engine_version = "3.13", instance_type = "mq.m7g.medium" }

# Nobody is notified by alarms on this machine.
alarms = {
  enabled = false
}
