s3_use_path_style = true
force_destroy     = true
release_tag       = "local"

# function_environment comes in through TF_VAR_function_environment: it holds the function host's address, which differs
# from run to run.

rulesets = {
  RefinerInput = {
    prefix    = "RefinerInput/"
    image_uri = "dibbs-ecr-refiner/lambda"
    timeout_s = 60

    # As short as allowed, so that a failed message comes back within the minute.
    visibility_timeout_s = 60
  }

  # No image_uri: a completion ruleset, whose queue belongs to whoever comes downstream.
  RefinerComplete = {
    prefix = "RefinerComplete/"
  }
}
