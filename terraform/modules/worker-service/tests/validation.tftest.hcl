# Only the inputs: tests/inputs has a link to variables.tf, and without a provider a run takes milliseconds.

variables {
  cluster_name        = "rnr-test"
  name                = "rnr-test-worker"
  task_role_name      = "rnr-test-ecs-task-role"
  execution_role_name = "rnr-test-ecs-execution-role"
  image_uri           = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/rnr/worker:v1"
  log_group           = "/aws/ecs/rnr-test-worker"
  vpc_id              = "vpc-1"
  subnet_ids          = ["subnet-1"]
}

# Each of these runs sets variables to invalid values: all of them must be rejected.

run "too_small" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    permissions_boundary = "boundary"
    cluster_name         = ""
    name                 = ""
    task_role_name       = ""
    execution_role_name  = ""
    cpu                  = 128
    memory_mb            = 511
    ephemeral_storage_gb = 20
    stop_timeout_s       = 1
    subnet_ids           = []
    log_group            = ""
    log_retention_days   = 2
    egress               = { x = { port = 0, cidr = "0.0.0.0/0" } }
  }

  expect_failures = [
    var.permissions_boundary,
    var.cluster_name,
    var.name,
    var.task_role_name,
    var.execution_role_name,
    var.cpu,
    var.memory_mb,
    var.ephemeral_storage_gb,
    var.stop_timeout_s,
    var.subnet_ids,
    var.log_group,
    var.log_retention_days,
    var.egress,
  ]
}

run "too_large_or_long" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    task_role_name       = join("", [for i in range(65) : "a"])
    execution_role_name  = join("", [for i in range(65) : "a"])
    cpu                  = 32768
    memory_mb            = 123904
    ephemeral_storage_gb = 201
    stop_timeout_s       = 121
    log_group            = join("", [for i in range(513) : "a"])
    tags                 = { for i in range(51) : "t${i}" => "x" }
  }

  expect_failures = [
    var.task_role_name,
    var.execution_role_name,
    var.cpu,
    var.memory_mb,
    var.ephemeral_storage_gb,
    var.stop_timeout_s,
    var.log_group,
    var.tags,
  ]
}

run "wrong_characters" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    cluster_name        = "a b"
    name                = "a.b"
    task_role_name      = "a/b"
    execution_role_name = "a b"
    image_uri           = "rnr/worker"
    architecture        = "amd64"
    environment         = { "A-B" = "x" }
    vpc_id              = "subnet-1"
    subnet_ids          = ["vpc-1"]
    log_group           = "a b"
    log_kms_key_arn     = "arn:aws:kms:eu-west-1:123456789012:alias/x"
    tags                = { "aws:x" = "1" }
  }

  expect_failures = [
    var.cluster_name,
    var.name,
    var.task_role_name,
    var.execution_role_name,
    var.image_uri,
    var.architecture,
    var.environment,
    var.vpc_id,
    var.subnet_ids,
    var.log_group,
    var.log_kms_key_arn,
    var.tags,
  ]
}

run "fractions" {
  command = plan

  module {
    source = "./tests/inputs"
  }

  variables {
    cpu                  = 1024.5
    memory_mb            = 1500
    ephemeral_storage_gb = 21.5
    stop_timeout_s       = 2.5
  }

  expect_failures = [
    var.cpu,
    var.memory_mb,
    var.ephemeral_storage_gb,
    var.stop_timeout_s,
  ]
}
