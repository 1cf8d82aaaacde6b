mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name     = "dibbs-ecr-RefinerInput"
  prefix   = "RefinerInput/"
  bucket   = "data-repository"
  bus_name = "data-repository-bus"
}

run "visibility_timeout_below_timeout_and_image_without_version" {
  command = plan

  variables {
    timeout_s            = 60
    visibility_timeout_s = 59
    image_uri            = "dibbs-ecr-refiner/lambda"
  }

  expect_failures = [aws_sqs_queue.this, aws_lambda_function.this]
}

# The other overlaps are in locals.tftest.hcl.
run "function_reading_outputs" {
  command = plan

  variables {
    prefix    = "RefinerOutput/"
    image_uri = "refiner:v1"
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
