# Only the inputs: tftest/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  env               = "test"
  vpc_id            = "vpc-1"
  subnet_ids        = ["subnet-1"]
  input_bucket_name = "forecasts"
  release_tag       = "v1"
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "wrong_characters" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    permissions_boundary        = "boundary"
    region                      = "Ireland"
    allowed_account_ids         = ["12345678901"]
    env                         = "test_1"
    https_egress_cidrs          = ["10.0.0.0"]
    operator_security_group_ids = ["operators"]
    input_prefix                = "rnr/input"
    output_prefix               = "//rnr/"
    complete_prefix             = "rnr//complete/"
    merged_prefix               = "/"
    release_tag                 = "a/b"
    kms_key_arns                = { buckets = ["alias/x"] }
    tags                        = { "aws:x" = "1" }
  }

  expect_failures = [
    var.permissions_boundary,
    var.region,
    var.allowed_account_ids,
    var.env,
    var.https_egress_cidrs,
    var.operator_security_group_ids,
    var.input_prefix,
    var.output_prefix,
    var.complete_prefix,
    var.merged_prefix,
    var.release_tag,
    var.kms_key_arns,
    var.tags,
  ]
}

run "wrong_characters_of_ids_and_images" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    app_name   = "RnR"
    vpc_id     = "subnet-1"
    subnet_ids = ["vpc-1"]
    images     = { worker = "https://example.com/worker:v1" }
  }

  expect_failures = [
    var.app_name,
    var.vpc_id,
    var.subnet_ids,
    var.images,
  ]
}

run "pinned_image_by_tag" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    pinned_images = { worker = "rnr/worker:v1" }
  }

  expect_failures = [var.pinned_images]
}

run "hyphen_at_the_start" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    env = "-test"
  }

  expect_failures = [
    var.env,
  ]
}

run "name_that_is_too_long" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    env = join("", [for i in range(31) : "a"])
  }

  expect_failures = [
    var.env,
  ]
}

run "vpc_by_id_and_by_name" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    vpc_id       = "vpc-1"
    subnet_ids   = ["subnet-1"]
    vpc_name     = "example"
    subnet_names = ["private-*"]
  }

  expect_failures = [
    var.vpc_id,
    var.subnet_ids,
  ]
}

run "no_vpc_and_no_subnets" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    vpc_id     = null
    subnet_ids = []
  }

  expect_failures = [
    var.vpc_id,
    var.subnet_ids,
  ]
}

run "image_without_a_tag" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    images      = { worker = "rnr/worker", producer = "rnr/producer:v1", autoscaler = "localhost:5000/autoscaler" }
    release_tag = null
  }

  expect_failures = [
    var.images,
  ]
}

run "pinned_image_of_an_unknown_name" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    pinned_images = { refiner = "refiner@sha256:${join("", [for i in range(64) : "a"])}" }
  }

  expect_failures = [
    var.pinned_images,
  ]
}

run "endpoints_without_route_tables" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    vpc_endpoints = { enabled = true }
  }

  expect_failures = [
    var.vpc_endpoints,
  ]
}

run "settings_of_components" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    producer   = { feed_url = "http://example.com", lookback_hours = 24 }
    worker     = { processor = "a:b", processor_command = "c" }
    autoscaler = { min_tasks = 5, max_tasks = 4 }
  }

  expect_failures = [
    var.producer,
    var.worker,
    var.autoscaler,
  ]
}

run "times_and_numbers_of_components" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    producer   = { lookback_hours = 48, claim_hours = 48 }
    worker     = { prefetch = 0 }
    autoscaler = { target_backlog = 0 }
  }

  expect_failures = [
    var.producer,
    var.worker,
    var.autoscaler,
  ]
}
