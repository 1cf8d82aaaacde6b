# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name         = "data-repository-bus"
  bucket       = "data-repository"
  forward_name = "dibbs-ecr-forward"
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
    bucket               = ""
    forward_name         = ""
  }

  expect_failures = [
    var.permissions_boundary,
    var.name,
    var.bucket,
    var.forward_name,
  ]
}

run "too_long_or_many" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name         = join("", [for i in range(257) : "a"])
    bucket       = join("", [for i in range(64) : "a"])
    forward_name = join("", [for i in range(65) : "a"])
    tags         = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.name,
    var.bucket,
    var.forward_name,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name         = "a/b"
    bucket       = "Data_Repository"
    forward_name = "a.b"
    tags         = { "x" = "a,b" }
  }

  expect_failures = [
    var.name,
    var.bucket,
    var.forward_name,
    var.tags,
  ]
}

run "default_bus_and_aws_tag" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name   = "default"
    bucket = "192.168.5.4"
    tags   = { "aws:x" = "1" }
  }

  expect_failures = [
    var.name,
    var.bucket,
    var.tags,
  ]
}

run "partner_bus" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name   = "aws.partner"
    bucket = "xn--data"
    tags   = { x = join("", [for i in range(257) : "a"]) }
  }

  expect_failures = [
    var.name,
    var.bucket,
    var.tags,
  ]
}

run "aliases_of_keys" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    queue_kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/x"
  }

  expect_failures = [
    var.queue_kms_key_arn,
  ]
}
