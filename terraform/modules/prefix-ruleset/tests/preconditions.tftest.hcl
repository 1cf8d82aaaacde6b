mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = {
      partition  = "aws"
      dns_suffix = "amazonaws.com"
    }
  }

  mock_data "aws_region" {
    defaults = { id = "eu-west-1" }
  }
}

variables {
  name     = "dibbs-ecr-RefinerInput"
  prefix   = "RefinerInput/"
  bucket   = "data-repository"
  bus_name = "data-repository-bus"
}

run "visibility_timeout_below_timeout" {
  command = plan

  variables {
    timeout_s            = 60
    visibility_timeout_s = 59
  }

  expect_failures = [aws_sqs_queue.this]
}

run "image_without_version" {
  command = plan

  variables {
    image_uri = "dibbs-ecr-refiner/lambda"
  }

  expect_failures = [aws_lambda_function.this]
}

run "function_reading_outputs" {
  command = plan

  variables {
    prefix    = "RefinerOutput/"
    image_uri = "refiner:v1"
  }

  expect_failures = [aws_lambda_function.this]
}

run "function_reading_completions" {
  command = plan

  variables {
    prefix    = "/RefinerComplete/"
    image_uri = "refiner:v1"
  }

  expect_failures = [aws_lambda_function.this]
}

run "function_reading_a_part_of_the_outputs" {
  command = plan

  variables {
    prefix    = "RefinerOutput/part/"
    image_uri = "refiner:v1"
  }

  expect_failures = [aws_lambda_function.this]
}

run "function_reading_more_than_the_outputs" {
  command = plan

  variables {
    prefix        = "Data/"
    output_prefix = "/Data/Output/"
    image_uri     = "refiner:v1"
  }

  expect_failures = [aws_lambda_function.this]
}

run "environment_with_outputs_below_the_inputs" {
  command = plan

  variables {
    image_uri   = "refiner:v1"
    environment = { REFINER_OUTPUT_PREFIX = "RefinerInput/Output/" }
  }

  expect_failures = [aws_lambda_function.this]
}

run "environment_with_another_input_prefix" {
  command = plan

  variables {
    image_uri   = "refiner:v1"
    environment = { REFINER_INPUT_PREFIX = "Other/" }
  }

  expect_failures = [aws_lambda_function.this]
}

run "environment_too_large" {
  command = plan

  variables {
    image_uri   = "refiner:v1"
    environment = { LARGE = join("", [for i in range(1024) : "aaaa"]) }
  }

  expect_failures = [aws_lambda_function.this]
}
