# Only the inputs: tftest/inputs has a link to variables.tf, and without a provider a run takes milliseconds. The other
# validations are those of the module, and are tested there.

run "account_region_and_tags" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    name                = "ci"
    project_path        = "a/b"
    state               = { bucket = "state" }
    repositories        = ["a/b"]
    allowed_account_ids = ["12345678901"]
    region              = "Ireland"
    tags                = { "AWS:x" = "1" }
  }

  expect_failures = [
    var.allowed_account_ids,
    var.region,
    var.tags,
  ]
}

run "too_many_tags" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    name         = "ci"
    project_path = "a/b"
    state        = { bucket = "state" }
    repositories = ["a/b"]
    tags         = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.tags,
  ]
}
