# Only the inputs: tftest/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "too_short_or_small" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    repositories         = ["a"]
    untagged_expiry_days = 0
    allowed_account_ids  = ["123456789012", "12345678901"]
  }

  expect_failures = [
    var.allowed_account_ids,
    var.repositories,
    var.untagged_expiry_days,
  ]
}

run "too_long_or_many" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    repositories = [join("", [for i in range(257) : "a"])]
    tags         = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.repositories,
    var.tags,
  ]
}

run "fraction_and_id" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    repositories         = ["a--b"]
    untagged_expiry_days = 1.5
    kms_key_arn          = "11111111-2222-3333-4444-555555555555"
    tags                 = { x = join("", [for i in range(257) : "a"]) }
  }

  expect_failures = [
    var.repositories,
    var.untagged_expiry_days,
    var.kms_key_arn,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    repositories = ["Refiner"]
    region       = "Ireland"
    kms_key_arn  = "arn:aws:kms:eu-west-1:123456789012:alias/images"
    tags         = { "x" = "a,b" }
  }

  expect_failures = [
    var.repositories,
    var.region,
    var.kms_key_arn,
    var.tags,
  ]
}

run "slash_zone_and_aws_tag" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    repositories = ["/refiner"]
    region       = "eu-west-1a"
    tags         = { "AWS:x" = "1" }
  }

  expect_failures = [
    var.repositories,
    var.region,
    var.tags,
  ]
}

run "one_of_two_names" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    repositories = ["dibbs-ecr-refiner/lambda", "refiner:v1"]
  }

  expect_failures = [
    var.repositories,
  ]
}
