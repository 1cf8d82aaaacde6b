s3_use_path_style = true
force_destroy     = true
release_tag       = "local"

# TF_VAR_function_environment sets function_environment: it contains the function host's address, which differs
# from run to run.

rulesets = {
  RefinerInput = {
    prefix    = "RefinerInput/"
    image_uri = "dibbs-ecr-refiner/lambda"
    timeout_s = 60

    # The minimum, so that a failed message becomes visible again within a minute.
    visibility_timeout_s = 60
  }

  # No image_uri: a completion ruleset, whose queue belongs to downstream consumers.
  RefinerComplete = {
    prefix = "RefinerComplete/"
  }
}

# Nobody is notified by alarms on this machine.
alarms = {
  enabled = false
}
