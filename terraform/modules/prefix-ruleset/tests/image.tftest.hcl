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
  name        = "dibbs-ecr-RefinerInput"
  prefix      = "RefinerInput/"
  bucket      = "data-repository"
  bus_name    = "data-repository-bus"
  release_tag = "v9"
}

run "bare_repository_takes_registry_and_release_tag" {
  command = plan

  variables {
    image_uri = "dibbs-ecr-refiner/lambda"
  }

  assert {
    condition     = aws_lambda_function.this[0].image_uri == "123456789012.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9" && output.image_uri == aws_lambda_function.this[0].image_uri
    error_message = "The image is ${aws_lambda_function.this[0].image_uri}."
  }
}

run "full_repository_takes_release_tag" {
  command = plan

  variables {
    image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda"
  }

  assert {
    condition     = aws_lambda_function.this[0].image_uri == "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda:v9" && output.image_uri == aws_lambda_function.this[0].image_uri
    error_message = "The image is ${aws_lambda_function.this[0].image_uri}."
  }
}

run "full_with_digest" {
  command = plan

  variables {
    image_uri = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = aws_lambda_function.this[0].image_uri == "999999999999.dkr.ecr.eu-west-1.amazonaws.com/dibbs-ecr-refiner/lambda@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" && output.image_uri == aws_lambda_function.this[0].image_uri
    error_message = "The image is ${aws_lambda_function.this[0].image_uri}."
  }
}

run "dns_suffix_of_the_partition" {
  command = plan

  variables {
    image_uri = "dibbs-ecr-refiner/lambda"
  }

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-cn", dns_suffix = "amazonaws.com.cn" }
  }

  override_data {
    target = data.aws_region.current
    values = { id = "cn-north-1" }
  }

  assert {
    condition     = aws_lambda_function.this[0].image_uri == "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/dibbs-ecr-refiner/lambda:v9"
    error_message = "The image is ${aws_lambda_function.this[0].image_uri}."
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.this[0].policy).Statement[1].Resource == ["arn:aws-cn:s3:::data-repository"]
    error_message = "The policy is of another partition."
  }
}
