# Only the inputs: tftest/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  release_tag = "v1.2.3"
}

# Each of these runs sets variables to invalid values: all of them must be rejected. The validations of a
# module are tested there.

run "empty" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    permissions_boundary = "boundary"
    name_prefix          = ""
    allowed_account_ids  = ["123456789012", "12345678901"]
  }

  expect_failures = [
    var.permissions_boundary,
    var.name_prefix,
    var.allowed_account_ids,
  ]
}

run "too_large_or_long" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    name_prefix = join("", [for i in range(57) : "a"])
    tags        = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.name_prefix,
    var.tags,
  ]
}

run "fractions" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    tags = { x = join("", [for i in range(257) : "a"]) }
  }

  expect_failures = [
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    region      = "Ireland"
    name_prefix = "a.b"
    tags        = { "x" = "a,b" }
  }

  expect_failures = [
    var.region,
    var.name_prefix,
    var.tags,
  ]
}

run "wrong_start" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    name_prefix  = "-a"
    input_prefix = "//a/"
  }

  expect_failures = [
    var.name_prefix,
    var.input_prefix,
  ]
}

run "wrong_end" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    region       = "eu-west-1a"
    input_prefix = "RefinerInput"
  }

  expect_failures = [
    var.region,
    var.input_prefix,
  ]
}

run "reserved_names" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    tags = { "aws:x" = "1" }
  }

  expect_failures = [
    var.tags,
  ]
}

run "ruleset_name_of_a_dlq" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A-dlq" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_name_of_a_delivery_dlq" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A-delivery" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_name_of_the_forwarding_rule" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "Forward" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_names_that_differ_in_case" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A/" }, "a" = { "prefix" = "B/" } }
  }

  expect_failures = [var.rulesets]
}

run "equal_prefixes" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A/" }, "B" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "equal_but_for_the_leading_slash_prefixes" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "/A/" }, "B" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "nested_prefixes" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A/" }, "B" = { "prefix" = "A/B/" } }
  }

  expect_failures = [var.rulesets]
}

run "nested_the_other_way_prefixes" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A/B/" }, "B" = { "prefix" = "/A/" } }
  }

  expect_failures = [var.rulesets]
}

run "pinned_image_by_tag" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    pinned_images = { "RefinerInput" = "refiner:v1" }
  }

  expect_failures = [var.pinned_images]
}
