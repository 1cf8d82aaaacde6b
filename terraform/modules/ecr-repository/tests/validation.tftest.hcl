# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  name = "dibbs-ecr-refiner/lambda"
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "too_short_or_small" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name                 = "a"
    untagged_expiry_days = 0
  }

  expect_failures = [
    var.name,
    var.untagged_expiry_days,
  ]
}

run "too_long_or_many" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name = join("", [for i in range(257) : "a"])
    tags = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.name,
    var.tags,
  ]
}

run "fraction_and_id" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name                 = "a--b"
    untagged_expiry_days = 1.5
    kms_key_arn          = "11111111-2222-3333-4444-555555555555"
    tags                 = { x = join("", [for i in range(257) : "a"]) }
  }

  expect_failures = [
    var.name,
    var.untagged_expiry_days,
    var.kms_key_arn,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name        = "Refiner"
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/images"
    tags        = { "x" = "a,b" }
  }

  expect_failures = [
    var.name,
    var.kms_key_arn,
    var.tags,
  ]
}

run "leading_slash_and_aws_tag" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name = "/refiner"
    tags = { "AWS:x" = "1" }
  }

  expect_failures = [
    var.name,
    var.tags,
  ]
}

run "final_slash" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name = "refiner/"
  }

  expect_failures = [
    var.name,
  ]
}

run "empty_part" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name = "a//b"
  }

  expect_failures = [
    var.name,
  ]
}

run "tag_in_the_name" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name = "refiner:v1"
  }

  expect_failures = [
    var.name,
  ]
}

run "leading_hyphen" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    name = "-refiner"
  }

  expect_failures = [
    var.name,
  ]
}
