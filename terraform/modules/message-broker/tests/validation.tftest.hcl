# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name       = "rnr-test-broker"
  vpc_id     = "vpc-1"
  subnet_ids = ["subnet-1"]
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "too_small" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name                 = ""
    engine_version       = "3.12"
    username             = "a"
    subnet_ids           = []
    secret_recovery_days = 6
  }

  expect_failures = [
    var.name,
    var.engine_version,
    var.username,
    var.subnet_ids,
    var.secret_recovery_days,
  ]
}

run "too_large_or_long" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name                 = join("", [for i in range(51) : "a"])
    engine_version       = "5.0"
    username             = join("", [for i in range(101) : "a"])
    secret_recovery_days = 31
    tags                 = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.name,
    var.engine_version,
    var.username,
    var.secret_recovery_days,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name               = "a.b"
    engine_version     = "3.13.7"
    instance_type      = "mq.t3.micro"
    deployment_mode    = "ACTIVE_STANDBY_MULTI_AZ"
    username           = "a,b"
    vpc_id             = "subnet-1"
    subnet_ids         = ["vpc-1"]
    kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:alias/x"
    secret_kms_key_arn = "*"
    tags               = { "aws:x" = "1" }
  }

  expect_failures = [
    var.name,
    var.engine_version,
    var.instance_type,
    var.deployment_mode,
    var.username,
    var.vpc_id,
    var.subnet_ids,
    var.kms_key_arn,
    var.secret_kms_key_arn,
    var.tags,
  ]
}

run "fractions_and_reserved_names" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    engine_version       = "4.1"
    secret_recovery_days = 7.5
    username             = "guest"
  }

  expect_failures = [
    var.engine_version,
    var.secret_recovery_days,
    var.username,
  ]
}
