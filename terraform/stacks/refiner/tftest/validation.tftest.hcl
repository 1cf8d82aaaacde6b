# The inputs alone: tftest/inputs holds a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  release_tag = "v1.2.3"
}

# Each of these runs breaks one rule of every variable that it sets: all of them must be refused.

run "empty" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    bucket_name     = ""
    bus_name        = ""
    name_prefix     = ""
    output_prefix   = ""
    complete_prefix = ""
    release_tag     = ""
  }

  expect_failures = [
    var.bucket_name,
    var.bus_name,
    var.name_prefix,
    var.output_prefix,
    var.complete_prefix,
    var.release_tag,
  ]
}

run "too_small" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    message_retention_s = 59
    log_retention_days  = 0
    bucket_name         = "ab"
  }

  expect_failures = [
    var.message_retention_s,
    var.log_retention_days,
    var.bucket_name,
  ]
}

run "too_large_or_long" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    message_retention_s = 1209601
    log_retention_days  = 3654
    bucket_name         = join("", [for i in range(64) : "a"])
    bus_name            = join("", [for i in range(257) : "a"])
    name_prefix         = join("", [for i in range(57) : "a"])
    output_prefix       = join("", concat([for i in range(512) : "a"], ["/"]))
    complete_prefix     = join("", concat([for i in range(512) : "a"], ["/"]))
    release_tag         = join("", [for i in range(129) : "a"])
    tags                = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.message_retention_s,
    var.log_retention_days,
    var.bucket_name,
    var.bus_name,
    var.name_prefix,
    var.output_prefix,
    var.complete_prefix,
    var.release_tag,
    var.tags,
  ]
}

run "fractions" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    message_retention_s = 60.5
    log_retention_days  = 1.5
    tags                = { x = join("", [for i in range(257) : "a"]) }
  }

  expect_failures = [
    var.message_retention_s,
    var.log_retention_days,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    region               = "Ireland"
    bucket_name          = "Data_Repository"
    bus_name             = "a/b"
    name_prefix          = "a.b"
    output_prefix        = "A*/"
    complete_prefix      = "$${aws:username}/"
    release_tag          = "a/b"
    function_environment = { "A-B" = "x" }
    tags                 = { "x" = "a,b" }
  }

  expect_failures = [
    var.region,
    var.bucket_name,
    var.bus_name,
    var.name_prefix,
    var.output_prefix,
    var.complete_prefix,
    var.release_tag,
    var.function_environment,
    var.tags,
  ]
}

run "wrong_start" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    bucket_name          = "-data"
    name_prefix          = "-a"
    output_prefix        = "//A/"
    complete_prefix      = "//A/"
    release_tag          = ".v1"
    function_environment = { "1A" = "x" }
  }

  expect_failures = [
    var.bucket_name,
    var.name_prefix,
    var.output_prefix,
    var.complete_prefix,
    var.release_tag,
    var.function_environment,
  ]
}

run "wrong_end" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    region          = "eu-west-1a"
    bucket_name     = "data-"
    output_prefix   = "A"
    complete_prefix = "A"
  }

  expect_failures = [
    var.region,
    var.bucket_name,
    var.output_prefix,
    var.complete_prefix,
  ]
}

run "slashes" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    bucket_name     = "a..b"
    output_prefix   = "A//"
    complete_prefix = "A//B/"
  }

  expect_failures = [
    var.bucket_name,
    var.output_prefix,
    var.complete_prefix,
  ]
}

run "only_a_slash" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    bucket_name     = "192.168.5.4"
    output_prefix   = "/"
    complete_prefix = "/"
  }

  expect_failures = [
    var.bucket_name,
    var.output_prefix,
    var.complete_prefix,
  ]
}

run "reserved_names" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    bucket_name          = "xn--data"
    bus_name             = "default"
    function_environment = { "AWS_REGION" = "x" }
    tags                 = { "aws:x" = "1" }
  }

  expect_failures = [
    var.bucket_name,
    var.bus_name,
    var.function_environment,
    var.tags,
  ]
}

run "own_variables" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    bucket_name          = "data--ol-s3"
    bus_name             = "aws.partner"
    function_environment = { "REFINER_INPUT_PREFIX" = "x" }
  }

  expect_failures = [
    var.bucket_name,
    var.bus_name,
    var.function_environment,
  ]
}

run "ruleset_name_with_dot" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "a.b" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_name_with_slash" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "a/b" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_name_empty" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "" = { "prefix" = "A/" } }
  }

  expect_failures = [var.rulesets]
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

run "ruleset_name_too_long" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { (join("", [for i in range(63) : "a"])) = { prefix = "A/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_empty" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_root" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_without_final_slash" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_two_final_slashes" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A//" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_two_leading_slashes" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "//A/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_empty_part" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A//B/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_star" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A*/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_question_mark" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A?/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_policy_variable" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A$${aws:username}/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_control_character" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "A" = { "prefix" = "A\t/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_prefix_too_long" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = join("", concat([for i in range(512) : "a"], ["/"])) } }
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

run "ruleset_image_uri_scheme" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "https://example.com/a:1" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_upper_case" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "Refiner/Lambda:v1" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_empty" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_empty_tag" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "refiner/lambda:" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_short_digest" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "refiner/lambda@sha256:abc" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_tag_and_digest" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "refiner/lambda:v1@sha256:${join("", [for i in range(64) : "0"])}" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_space" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "refiner/lambda v1" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_leading_slash" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "/refiner/lambda" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_image_uri_final_slash" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { A = { prefix = "A/", image_uri = "refiner/lambda/" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_memory_mb_too_small" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "memory_mb" = 127 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_memory_mb_too_large" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "memory_mb" = 10241 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_memory_mb_fraction" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "memory_mb" = 128.5 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_timeout_s_zero" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "timeout_s" = 0 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_timeout_s_too_large" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "timeout_s" = 901 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_timeout_s_fraction" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "timeout_s" = 1.5 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_visibility_timeout_s_too_large" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "visibility_timeout_s" = 43201 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_visibility_timeout_s_fraction" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "visibility_timeout_s" = 900.5 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_max_receive_count_zero" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "max_receive_count" = 0 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_max_receive_count_too_large" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "max_receive_count" = 1001 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_max_receive_count_fraction" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "max_receive_count" = 1.5 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_batch_size_zero" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "batch_size" = 0 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_batch_size_too_large" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "batch_size" = 10001 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_batch_size_fraction" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "batch_size" = 1.5 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_max_concurrency_too_small" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "max_concurrency" = 1 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_max_concurrency_too_large" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "max_concurrency" = 1001 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_max_concurrency_fraction" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "max_concurrency" = 2.5 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_architecture_amd64" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "architecture" = "amd64" } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_visibility_timeout_below_timeout" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "timeout_s" = 60, "visibility_timeout_s" = 59 } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_name_with_hyphen" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "A-B" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_name_with_leading_digit" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "1A" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_name_with_leading_underscore" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "_HANDLER" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_name_of_one_letter" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "A" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_region" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "AWS_REGION" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_credentials" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "AWS_SESSION_TOKEN" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_task_root" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "LAMBDA_TASK_ROOT" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_environment_own_prefix" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "environment" = { "REFINER_OUTPUT_PREFIX" = "x" } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_vpc_without_subnets" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "vpc" = { "subnet_ids" = [], "security_group_ids" = ["sg-1"] } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_vpc_without_security_groups" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "vpc" = { "subnet_ids" = ["subnet-1"], "security_group_ids" = [] } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_vpc_with_wrong_subnet" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "vpc" = { "subnet_ids" = ["vpc-1"], "security_group_ids" = ["sg-1"] } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_vpc_with_wrong_security_group" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "vpc" = { "subnet_ids" = ["subnet-1"], "security_group_ids" = ["default"] } } }
  }

  expect_failures = [var.rulesets]
}

run "ruleset_vpc_with_6_security_groups" {
  command = plan

  module {
    source = "./tftest/inputs"
  }

  variables {
    rulesets = { "RefinerInput" = { "prefix" = "RefinerInput/", "image_uri" = "refiner:v1", "vpc" = { "subnet_ids" = ["subnet-1"], "security_group_ids" = ["sg-0", "sg-1", "sg-2", "sg-3", "sg-4", "sg-5"] } } }
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
