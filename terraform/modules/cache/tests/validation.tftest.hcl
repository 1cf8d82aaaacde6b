# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name       = "rnr-test-cache"
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
    nodes                = 0
    subnet_ids           = []
    secret_recovery_days = 6
    engine_version       = "5.0"
  }

  expect_failures = [
    var.name,
    var.nodes,
    var.subnet_ids,
    var.secret_recovery_days,
    var.engine_version,
  ]
}

run "too_large_or_long" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name                 = join("", [for i in range(41) : "a"])
    nodes                = 7
    secret_recovery_days = 31
    tags                 = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.name,
    var.nodes,
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
    name               = "a--b"
    engine             = "memcached"
    engine_version     = "eight"
    node_type          = "t4g.micro"
    nodes              = 1.5
    vpc_id             = "subnet-1"
    subnet_ids         = ["vpc-1"]
    kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:alias/x"
    secret_kms_key_arn = "*"
    tags               = { "aws:x" = "1" }
  }

  expect_failures = [
    var.name,
    var.engine,
    var.engine_version,
    var.node_type,
    var.nodes,
    var.vpc_id,
    var.subnet_ids,
    var.kms_key_arn,
    var.secret_kms_key_arn,
    var.tags,
  ]
}
