# Only what is computed from the variables: tests/locals has links to variables.tf and locals.tf, and without a provider
# a run takes milliseconds. ruleset.tftest.hcl and preconditions.tftest.hcl test that the resources use these values.

variables {
  name     = "dibbs-ecr-RefinerInput"
  prefix   = "RefinerInput/"
  bucket   = "data-repository"
  bus_name = "data-repository-bus"
}

run "bare_repository_takes_registry_and_release_tag" {
  command = plan

  module {
    source = "./tests/locals"
  }

  variables {
    image_uri   = "dibbs-ecr-refiner/lambda"
    release_tag = "v9"
  }

  assert {
    condition     = local.image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9"
    error_message = "The image is ${local.image_uri}."
  }
}

run "full_repository_takes_release_tag" {
  command = plan

  module {
    source = "./tests/locals"
  }

  variables {
    image_uri   = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda"
    release_tag = "v9"
  }

  assert {
    condition     = local.image_uri == "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9"
    error_message = "The image is ${local.image_uri}."
  }
}

run "inputs_that_are_completions" {
  command = plan

  module {
    source = "./tests/locals"
  }

  variables {
    prefix = "/RefinerComplete/"
  }

  assert {
    condition     = local.loops == ["RefinerComplete/"]
    error_message = "The loops are ${jsonencode(local.loops)}."
  }
}

run "inputs_that_are_a_part_of_the_outputs" {
  command = plan

  module {
    source = "./tests/locals"
  }

  variables {
    prefix = "RefinerOutput/part/"
  }

  assert {
    condition     = local.loops == ["RefinerOutput/"]
    error_message = "The loops are ${jsonencode(local.loops)}."
  }
}

run "inputs_that_are_more_than_the_outputs" {
  command = plan

  module {
    source = "./tests/locals"
  }

  variables {
    prefix        = "Data/"
    output_prefix = "/Data/Output/"
  }

  assert {
    condition     = local.loops == ["Data/Output/"]
    error_message = "The loops are ${jsonencode(local.loops)}."
  }
}

run "environment_with_outputs_below_the_inputs" {
  command = plan

  module {
    source = "./tests/locals"
  }

  variables {
    environment = { REFINER_OUTPUT_PREFIX = "RefinerInput/Output/" }
  }

  assert {
    condition     = local.loops == ["RefinerInput/Output/"]
    error_message = "The loops are ${jsonencode(local.loops)}."
  }
}
