# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name     = "dibbs-ecr-RefinerInput"
  prefix   = "RefinerInput/"
  bucket   = "data-repository"
  bus_name = "data-repository-bus"
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "empty" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    permissions_boundary = "boundary"
    name                 = ""
    prefix               = ""
    bucket               = ""
    bus_name             = ""
    image_uri            = ""
    release_tag          = ""
    output_prefix        = ""
    complete_prefix      = ""
    vpc                  = { "subnet_ids" = [], "security_group_ids" = ["sg-1"] }
  }

  expect_failures = [
    var.permissions_boundary,
    var.name,
    var.prefix,
    var.bucket,
    var.bus_name,
    var.image_uri,
    var.release_tag,
    var.output_prefix,
    var.complete_prefix,
    var.vpc,
  ]
}

run "too_small" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    memory_mb            = 127
    timeout_s            = 0
    visibility_timeout_s = -1
    max_receive_count    = 0
    batch_size           = 0
    max_concurrency      = 1
    message_retention_s  = 59
    log_retention_days   = 0
    vpc                  = { "subnet_ids" = ["subnet-1"], "security_group_ids" = [] }
  }

  expect_failures = [
    var.memory_mb,
    var.timeout_s,
    var.visibility_timeout_s,
    var.max_receive_count,
    var.batch_size,
    var.max_concurrency,
    var.message_retention_s,
    var.log_retention_days,
    var.vpc,
  ]
}

run "too_large" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    memory_mb            = 10241
    timeout_s            = 901
    visibility_timeout_s = 43201
    max_receive_count    = 1001
    batch_size           = 10001
    max_concurrency      = 1001
    message_retention_s  = 1209601
    log_retention_days   = 3654
    vpc                  = { "subnet_ids" = ["subnet-1"], "security_group_ids" = ["sg-0", "sg-1", "sg-2", "sg-3", "sg-4", "sg-5"] }
    tags                 = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.memory_mb,
    var.timeout_s,
    var.visibility_timeout_s,
    var.max_receive_count,
    var.batch_size,
    var.max_concurrency,
    var.message_retention_s,
    var.log_retention_days,
    var.vpc,
    var.tags,
  ]
}

run "too_long" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name            = join("", [for i in range(65) : "a"])
    prefix          = join("", concat([for i in range(512) : "a"], ["/"]))
    bucket          = join("", [for i in range(64) : "a"])
    bus_name        = join("", [for i in range(257) : "a"])
    release_tag     = join("", [for i in range(129) : "a"])
    output_prefix   = join("", concat([for i in range(512) : "a"], ["/"]))
    complete_prefix = join("", concat([for i in range(960) : "a"], ["/"]))
    tags            = { x = join("", [for i in range(257) : "a"]) }
  }

  expect_failures = [
    var.name,
    var.prefix,
    var.bucket,
    var.bus_name,
    var.release_tag,
    var.output_prefix,
    var.complete_prefix,
    var.tags,
  ]
}

run "fractions" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    memory_mb            = 128.5
    timeout_s            = 1.5
    visibility_timeout_s = 900.5
    max_receive_count    = 1.5
    batch_size           = 1.5
    max_concurrency      = 2.5
    message_retention_s  = 60.5
    log_retention_days   = 1.5
  }

  expect_failures = [
    var.memory_mb,
    var.timeout_s,
    var.visibility_timeout_s,
    var.max_receive_count,
    var.batch_size,
    var.max_concurrency,
    var.message_retention_s,
    var.log_retention_days,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name            = "a.b"
    prefix          = "A*/"
    bucket          = "data_repository"
    bus_name        = "a/b"
    image_uri       = "Refiner:v1"
    release_tag     = "a/b"
    output_prefix   = "A?/"
    complete_prefix = "$${aws:username}/"
    environment     = { "A-B" = "x" }
    vpc             = { "subnet_ids" = ["vpc-1"], "security_group_ids" = ["sg-1"] }
    architecture    = "amd64"
    tags            = { "x" = "a,b" }
  }

  expect_failures = [
    var.name,
    var.prefix,
    var.bucket,
    var.bus_name,
    var.image_uri,
    var.release_tag,
    var.output_prefix,
    var.complete_prefix,
    var.environment,
    var.vpc,
    var.architecture,
    var.tags,
  ]
}

run "wrong_start" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    prefix          = "//A/"
    image_uri       = "https://example.com/a:1"
    release_tag     = ".v1"
    output_prefix   = "//A/"
    complete_prefix = "//A/"
    environment     = { "1A" = "x" }
    vpc             = { "subnet_ids" = ["subnet-1"], "security_group_ids" = ["default"] }
  }

  expect_failures = [
    var.prefix,
    var.image_uri,
    var.release_tag,
    var.output_prefix,
    var.complete_prefix,
    var.environment,
    var.vpc,
  ]
}

run "wrong_end" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    prefix          = "A"
    bucket          = "data-"
    image_uri       = "refiner/lambda:"
    output_prefix   = "A"
    complete_prefix = "A"
  }

  expect_failures = [
    var.prefix,
    var.bucket,
    var.image_uri,
    var.output_prefix,
    var.complete_prefix,
  ]
}

run "two_final_slashes" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    prefix          = "A//"
    image_uri       = "refiner/lambda/"
    output_prefix   = "A//"
    complete_prefix = "A//"
  }

  expect_failures = [
    var.prefix,
    var.image_uri,
    var.output_prefix,
    var.complete_prefix,
  ]
}

run "empty_part" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    prefix          = "A//B/"
    image_uri       = "refiner//lambda:v1"
    output_prefix   = "A//B/"
    complete_prefix = "A//B/"
  }

  expect_failures = [
    var.prefix,
    var.image_uri,
    var.output_prefix,
    var.complete_prefix,
  ]
}

run "only_a_slash" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    prefix          = "/"
    image_uri       = "/refiner:v1"
    output_prefix   = "/"
    complete_prefix = "/"
    environment     = { "A" = "x" }
  }

  expect_failures = [
    var.prefix,
    var.image_uri,
    var.output_prefix,
    var.complete_prefix,
    var.environment,
  ]
}

run "tab_and_short_digest" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    prefix          = "A\t/"
    image_uri       = "refiner@sha256:abc"
    output_prefix   = "A\t/"
    complete_prefix = "A\t/"
  }

  expect_failures = [
    var.prefix,
    var.image_uri,
    var.output_prefix,
    var.complete_prefix,
  ]
}

run "tag_and_digest" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    image_uri   = "refiner:v1@sha256:${join("", [for i in range(64) : "0"])}"
    environment = { "_HANDLER" = "x" }
  }

  expect_failures = [
    var.image_uri,
    var.environment,
  ]
}

run "reserved_names" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket      = "xn--data"
    bus_name    = "default"
    environment = { "AWS_REGION" = "x" }
    tags        = { "aws:x" = "1" }
  }

  expect_failures = [
    var.bucket,
    var.bus_name,
    var.environment,
    var.tags,
  ]
}

run "own_variables" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bus_name    = "aws.partner"
    environment = { "REFINER_INPUT_PREFIX" = "x" }
    read_access = ["x"]
  }

  expect_failures = [
    var.bus_name,
    var.environment,
    var.read_access,
  ]
}

run "whole_bucket_as_output_prefix" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    complete_suffix   = ""
    environment       = { "REFINER_OUTPUT_PREFIX" = "/" }
    read_access       = ["/"]
    read_kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:alias/x"]
  }

  expect_failures = [
    var.complete_suffix,
    var.environment,
    var.read_access,
    var.read_kms_key_arns,
  ]
}

run "wildcard_as_completion_prefix" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    complete_suffix   = "/x"
    environment       = { "REFINER_COMPLETE_PREFIX" = "*/" }
    read_access       = ["s3://config/*/"]
    read_kms_key_arns = ["*"]
  }

  expect_failures = [
    var.complete_suffix,
    var.environment,
    var.read_access,
    var.read_kms_key_arns,
  ]
}

run "bucket_without_a_slash" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    environment = { "REFINER_COMPLETE_SUFFIX" = "/" }
    read_access = ["s3://config"]
  }

  expect_failures = [
    var.environment,
    var.read_access,
  ]
}

run "other_scheme" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    read_access = ["https://config/x/"]
  }

  expect_failures = [var.read_access]
}

run "aliases_of_keys" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket_kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/x"
    queue_kms_key_arn  = "alias/aws/sqs"
    log_kms_key_arn    = "*"
  }

  expect_failures = [
    var.bucket_kms_key_arn,
    var.queue_kms_key_arn,
    var.log_kms_key_arn,
  ]
}
