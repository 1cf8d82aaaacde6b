# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name                = "rnr-test-producer"
  description         = "Publishes new inputs"
  role_name           = "rnr-test-lambda-producer-role"
  scheduler_role_name = "rnr-test-scheduler-producer-role"
  image_uri           = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/producer:v1"
  schedule_group      = "rnr-test"
  schedule_expression = "rate(5 minutes)"
  vpc_id              = "vpc-1"
  subnet_ids          = ["subnet-1"]
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "too_small" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    permissions_boundary = "boundary"
    name                 = ""
    role_name            = ""
    scheduler_role_name  = ""
    memory_mb            = 127
    ephemeral_storage_mb = 511
    timeout_s            = 0
    reserved_concurrency = 0
    max_event_age_s      = 59
    max_retries          = -1
    subnet_ids           = []
    log_retention_days   = 2
    egress               = { x = { port = 0, cidr = "0.0.0.0/0" } }
  }

  expect_failures = [
    var.permissions_boundary,
    var.name,
    var.role_name,
    var.scheduler_role_name,
    var.memory_mb,
    var.ephemeral_storage_mb,
    var.timeout_s,
    var.reserved_concurrency,
    var.max_event_age_s,
    var.max_retries,
    var.subnet_ids,
    var.log_retention_days,
    var.egress,
  ]
}

run "too_large_or_long" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name                = join("", [for i in range(65) : "a"])
    role_name           = join("", [for i in range(65) : "a"])
    scheduler_role_name = join("", [for i in range(65) : "a"])
    memory_mb           = 10241
    timeout_s           = 901
    max_event_age_s     = 21601
    max_retries         = 3
    tags                = { for i in range(51) : "t${i}" => "x" }
    egress              = { x = { port = 65536, cidr = "0.0.0.0/0" } }
  }

  expect_failures = [
    var.name,
    var.role_name,
    var.scheduler_role_name,
    var.memory_mb,
    var.timeout_s,
    var.max_event_age_s,
    var.max_retries,
    var.tags,
    var.egress,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name                = "a.b"
    role_name           = "a/b"
    scheduler_role_name = "a b"
    image_uri           = "rnr/producer:v1"
    architecture        = "amd64"
    environment         = { "A-B" = "x" }
    schedule_expression = "every minute"
    vpc_id              = "subnet-1"
    subnet_ids          = ["vpc-1"]
    queue_kms_key_arn   = "arn:aws:kms:eu-west-1:123456789012:alias/x"
    log_kms_key_arn     = "*"
    tags                = { "aws:x" = "1" }
  }

  expect_failures = [
    var.name,
    var.role_name,
    var.scheduler_role_name,
    var.image_uri,
    var.architecture,
    var.environment,
    var.schedule_expression,
    var.vpc_id,
    var.subnet_ids,
    var.queue_kms_key_arn,
    var.log_kms_key_arn,
    var.tags,
  ]
}

run "image_without_tag_and_reserved_names" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    image_uri   = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/producer"
    environment = { AWS_REGION = "x" }
  }

  expect_failures = [
    var.image_uri,
    var.environment,
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
    reserved_concurrency = 1.5
    max_event_age_s      = 60.5
    max_retries          = 0.5
    egress               = { x = { port = 1.5, cidr = "0.0.0.0/0" } }
    schedule_expression  = "cron(0 6 * * ?)"
  }

  expect_failures = [
    var.memory_mb,
    var.timeout_s,
    var.reserved_concurrency,
    var.max_event_age_s,
    var.max_retries,
    var.egress,
    var.schedule_expression,
  ]
}
