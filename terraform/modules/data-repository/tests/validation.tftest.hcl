# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  bucket = "data-repository"
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "too_short_or_few" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "ab"
    access = { "A" = { "role_arn" = "arn:aws:iam::123456789012:role/a", "prefixes" = [] } }
  }

  expect_failures = [
    var.bucket,
    var.access,
  ]
}

run "too_long_or_many" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = join("", [for i in range(64) : "a"])
    tags   = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.bucket,
    var.tags,
  ]
}

run "upper_case_and_whole_bucket" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "Data"
    access = { "A" = { "role_arn" = "arn:aws:iam::123456789012:role/a", "prefixes" = [""] } }
    tags   = { x = join("", [for i in range(257) : "a"]) }
  }

  expect_failures = [
    var.bucket,
    var.access,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "data_repository"
    access = { "A" = { "role_arn" = "arn:aws:iam::123456789012:role/a", "prefixes" = ["A*/"] } }
    tags   = { "x" = "a,b" }
  }

  expect_failures = [
    var.bucket,
    var.access,
    var.tags,
  ]
}

run "slashes" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "a/b/c"
    access = { "A" = { "role_arn" = "arn:aws:iam::123456789012:role/a", "prefixes" = ["/A/"] } }
  }

  expect_failures = [
    var.bucket,
    var.access,
  ]
}

run "two_dots_and_no_final_slash" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "a..b"
    access = { "A" = { "role_arn" = "arn:aws:iam::123456789012:role/a", "prefixes" = ["A"] } }
  }

  expect_failures = [
    var.bucket,
    var.access,
  ]
}

run "ip_address_and_policy_variable" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "192.168.5.4"
    access = { "A" = { "role_arn" = "arn:aws:iam::123456789012:role/a", "prefixes" = ["$${aws:username}/"] } }
  }

  expect_failures = [
    var.bucket,
    var.access,
  ]
}

run "final_hyphen_and_empty_part" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "data-"
    access = { "A" = { "role_arn" = "arn:aws:iam::123456789012:role/a", "prefixes" = ["A//B/"] } }
  }

  expect_failures = [
    var.bucket,
    var.access,
  ]
}

run "reserved_start" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "xn--data"
    tags   = { "aws:x" = "1" }
  }

  expect_failures = [
    var.bucket,
    var.tags,
  ]
}

run "reserved_end" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    bucket = "data-s3alias"
  }

  expect_failures = [
    var.bucket,
  ]
}

run "aliases_of_keys" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/x"
    access_log  = { bucket = "arn:aws:s3:::logs" }
  }

  expect_failures = [
    var.kms_key_arn,
    var.access_log,
  ]
}
