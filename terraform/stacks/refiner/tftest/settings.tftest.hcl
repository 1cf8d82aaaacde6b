# Without an apply, and without values for computed attributes: a plan must not depend on them.
mock_provider "aws" {
  source = "../../mocks"
}

run "names_prefixes_and_forms_of_image_uri" {
  command = plan

  variables {
    name_prefix     = "team"
    bucket_name     = "team-data"
    bus_name        = "team-bus"
    output_prefix   = "Out/"
    complete_prefix = "Done/"
    release_tag     = "v9"
    alarms          = { enabled = false }
    rulesets = {
      Labs            = { prefix = "/Labs/In/", image_uri = "team/labs:1" }
      Done            = { prefix = "Done/" }
      Bare            = { prefix = "Bare/", image_uri = "dibbs-ecr-refiner/lambda" }
      BareTag         = { prefix = "BareTag/", image_uri = "dibbs-ecr-refiner/lambda:v1.2.3" }
      BareDigest      = { prefix = "BareDigest/", image_uri = "dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
      OneComponent    = { prefix = "OneComponent/", image_uri = "refiner" }
      OneComponentTag = { prefix = "OneComponentTag/", image_uri = "refiner:v1.2" }
      Full            = { prefix = "Full/", image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda" }
      FullTag         = { prefix = "FullTag/", image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/lambda:V_1" }
      FullDigest      = { prefix = "FullDigest/", image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
      Port            = { prefix = "Port/", image_uri = "localhost:5000/refiner/lambda" }
      Localhost       = { prefix = "Localhost/", image_uri = "localhost/refiner" }
    }
  }

  # Two of the images are outside of ECR.
  expect_failures = [check.images_are_in_ecr]

  assert {
    condition = (
      output.bucket == "team-data" && output.bus_name == "team-bus" &&
      output.forward_rule_name == "team-forward" && output.forward_dlq_name == "team-forward-delivery-dlq" &&
      output.output_prefix == "Out/" && output.complete_prefix == "Done/" &&
      output.rulesets.Labs.prefix == "Labs/In/" && output.rulesets.Labs.function_name == "team-Labs" &&
      output.rulesets.Labs.complete_prefix == "Done/Labs/In/" && output.rulesets.Labs.complete_suffix == ".completion" &&
      output.rulesets.Labs.image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/labs:1"
    )
    error_message = "A name or prefix does not reach its module."
  }

  assert {
    condition = { for name, ruleset in output.rulesets : name => ruleset.image_uri } == {
      Bare            = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9"
      BareTag         = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v1.2.3"
      BareDigest      = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      OneComponent    = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/refiner:v9"
      OneComponentTag = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/refiner:v1.2"
      Full            = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9"
      FullTag         = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/lambda:V_1"
      FullDigest      = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      Port            = "localhost:5000/refiner/lambda:v9"
      Localhost       = "localhost/refiner:v9"
      Labs            = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/labs:1"
      Done            = null
    }
    error_message = "An image differs: ${jsonencode({ for name, ruleset in output.rulesets : name => ruleset.image_uri })}"
  }

  assert {
    condition     = length(module.alarms) == 0
    error_message = "Alarms were created."
  }
}

run "all_settings_and_completion_keys_of_rulesets" {
  command = plan

  variables {
    function_environment = { LEVEL = "info", AWS_ENDPOINT_URL = "http://localhost:4566" }
    log_retention_days   = 7
    message_retention_s  = 60
    tags                 = { Team = "Data Exchange", "cost:centre" = "a+b@c" }
    input_prefix         = "Labs/In/"
    rulesets = {
      Labs  = { prefix = "/Labs/In/", image_uri = "refiner:v1" }
      Other = { prefix = "Other/", image_uri = "refiner:v1" }
      Own = {
        prefix    = "Own/"
        image_uri = "refiner:v1"
        environment = {
          REFINER_COMPLETE_PREFIX = "OwnComplete/"
          REFINER_COMPLETE_SUFFIX = ".json"
        }
      }
      All = {
        prefix               = "Labs/Süd 1+2/"
        image_uri            = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/team/labs:1"
        memory_mb            = 10240
        timeout_s            = 1
        visibility_timeout_s = 43200
        max_receive_count    = 1000
        batch_size           = 10000
        max_concurrency      = 1000
        environment          = { LEVEL = "debug", REFINER_OUTPUT_PREFIX = "Labs/Out/" }
        read_access          = ["eICR/", "s3://config/"]
        read_kms_key_arns    = ["arn:aws:kms:eu-west-1:123456789012:key/1"]
        vpc                  = { subnet_ids = ["subnet-0a"], security_group_ids = ["sg-0a"] }
        architecture         = "arm64"
      }
      RefinerComplete = { prefix = "RefinerComplete/" }
      OwnComplete     = { prefix = "OwnComplete/" }
      # The start of the name, not of the prefix: a folder of its own.
      RefinerCompleteOld = { prefix = "RefinerCompleteOld/" }
    }
  }

  assert {
    condition     = length(output.rulesets) == 7 && output.rulesets.All.prefix == "Labs/Süd 1+2/"
    error_message = "The rulesets differ: ${jsonencode(keys(output.rulesets))}"
  }

  assert {
    condition = (
      output.rulesets.All.output_prefix == "Labs/Out/" &&
      output.rulesets.All.read_access == ["s3://data-repository/eICR/", "s3://config/"] &&
      output.rulesets.All.read_kms_key_arns == ["arn:aws:kms:eu-west-1:123456789012:key/1"]
    )
    error_message = "A setting does not reach the ruleset: ${jsonencode(output.rulesets.All)}"
  }

  assert {
    condition = { for name, ruleset in output.rulesets : name => [ruleset.complete_prefix, ruleset.complete_suffix] if ruleset.function_name != null } == {
      Labs  = ["RefinerComplete/", ".json"]
      All   = ["RefinerComplete/Labs/Süd 1+2/", ".completion"]
      Other = ["RefinerComplete/Other/", ".completion"]
      Own   = ["OwnComplete/", ".json"]
    }
    error_message = "Completion keys differ: ${jsonencode(output.rulesets)}"
  }
}

run "no_rulesets" {
  command = plan

  variables {
    rulesets = {}
  }

  assert {
    condition     = length(output.rulesets) == 0 && output.bucket == "data-repository"
    error_message = "Without rulesets the bucket and the bus are left."
  }

  expect_failures = [check.completions_are_queued]
}

run "outputs_are_inputs_of_another_function_and_completions_without_a_queue" {
  command = plan

  variables {
    rulesets = {
      A               = { prefix = "A/", image_uri = "refiner:v1", environment = { REFINER_OUTPUT_PREFIX = "B/Out/" } }
      B               = { prefix = "B/", image_uri = "refiner:v1" }
      Lab             = { prefix = "Lab/", image_uri = "refiner:v1", environment = { REFINER_COMPLETE_PREFIX = "LabComplete/" } }
      RefinerComplete = { prefix = "RefinerComplete/" }
    }
  }

  expect_failures = [output.rulesets, check.completions_are_queued]
}

run "completion_prefix_below_another_one_and_image_outside_of_ecr" {
  command = plan

  variables {
    rulesets = {
      RefinerInput = { prefix = "RefinerInput/", image_uri = "refiner:v1" }
      Lab = {
        prefix      = "Lab/"
        image_uri   = "ghcr.io/example/refiner:v1"
        environment = { REFINER_COMPLETE_SUFFIX = ".a.json" }
      }
      RefinerComplete = { prefix = "RefinerComplete/" }
    }
  }

  expect_failures = [output.rulesets, check.images_are_in_ecr]
}

run "same_completion_prefix_twice_and_missing_completion_ruleset" {
  command = plan

  variables {
    rulesets = {
      RefinerInput = { prefix = "RefinerInput/", image_uri = "refiner:v1" }
      Lab          = { prefix = "Lab/", image_uri = "refiner:v1", environment = { REFINER_COMPLETE_PREFIX = "RefinerComplete/" } }
    }
  }

  expect_failures = [output.rulesets, check.completions_are_queued]
}
