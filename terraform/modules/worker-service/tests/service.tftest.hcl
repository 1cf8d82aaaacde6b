mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan # computed attributes are known without an apply

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }

  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-west-1:123456789012:cluster/rnr-test" }
  }

  mock_resource "aws_ecs_task_definition" {
    defaults = { arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/rnr-test-worker:1" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/ecs/rnr-test-worker" }
  }

  mock_resource "aws_security_group" {
    defaults = { id = "sg-2" }
  }

  mock_resource "aws_ecs_service" {
    defaults = { id = "arn:aws:ecs:eu-west-1:123456789012:service/rnr-test/rnr-test-worker" }
  }
}

variables {
  permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
  cluster_name         = "rnr-test"
  name                 = "rnr-test-worker"
  task_role_name       = "rnr-test-ecs-task-role"
  execution_role_name  = "rnr-test-ecs-execution-role"
  image_uri            = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/rnr/worker:v1"
  log_group            = "/aws/ecs/rnr-test-worker"
  vpc_id               = "vpc-1"
  subnet_ids           = ["subnet-1", "subnet-2"]
  environment          = { B = "2", A = "1" }
  egress               = { broker = { port = 5671, security_group_id = "sg-1" } }
  policy_statements    = [{ Action = ["s3:GetObject"], Resource = ["arn:aws:s3:::data/in/*"] }]
}

run "service_and_task" {
  command = plan

  assert {
    condition     = aws_iam_role.task.permissions_boundary == var.permissions_boundary && aws_iam_role.execution.permissions_boundary == var.permissions_boundary
    error_message = "A role has no permissions boundary."
  }

  assert {
    condition = (
      aws_ecs_cluster.this.name == "rnr-test" &&
      aws_ecs_service.this.name == "rnr-test-worker" &&
      aws_ecs_service.this.launch_type == "FARGATE" &&
      aws_ecs_service.this.desired_count == 0 &&
      aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback &&
      aws_ecs_service.this.availability_zone_rebalancing == "DISABLED" &&
      aws_ecs_service.this.network_configuration[0].assign_public_ip == false &&
      aws_ecs_service.this.network_configuration[0].subnets == toset(["subnet-1", "subnet-2"]) &&
      aws_ecs_service.this.network_configuration[0].security_groups == toset([aws_security_group.this.id])
    )
    error_message = "The service differs."
  }

  assert {
    condition = jsondecode(aws_ecs_task_definition.this.container_definitions) == [{
      name                   = "worker"
      image                  = "999999999999.dkr.ecr.eu-west-1.amazonaws.com/rnr/worker:v1"
      essential              = true
      environment            = [{ name = "A", value = "1" }, { name = "B", value = "2" }]
      stopTimeout            = 120
      readonlyRootFilesystem = true
      mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
      linuxParameters        = { initProcessEnabled = true }
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = "/aws/ecs/rnr-test-worker"
          awslogs-region        = "eu-west-1"
          awslogs-stream-prefix = "worker"
        }
      }
    }]
    error_message = "The container differs: ${aws_ecs_task_definition.this.container_definitions}"
  }

  assert {
    condition = (
      aws_ecs_task_definition.this.family == "rnr-test-worker" &&
      aws_ecs_task_definition.this.requires_compatibilities == toset(["FARGATE"]) &&
      aws_ecs_task_definition.this.network_mode == "awsvpc" &&
      aws_ecs_task_definition.this.cpu == "1024" && aws_ecs_task_definition.this.memory == "4096" &&
      aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "X86_64" &&
      [for volume in aws_ecs_task_definition.this.volume : volume.name] == ["tmp"]
    )
    error_message = "The task definition differs."
  }

  assert {
    condition = alltrue([
      for role in [aws_iam_role.task, aws_iam_role.execution] : jsondecode(role.assume_role_policy).Statement == [{
        Effect    = "Allow"
        Principal = { Service = "ecs-tasks.amazonaws.com" }
        Action    = "sts:AssumeRole"
        Condition = {
          StringEquals = { "aws:SourceAccount" = "123456789012" }
          ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:eu-west-1:123456789012:*" }
        }
      }]
    ]) && aws_iam_role.task.name == "rnr-test-ecs-task-role" && aws_iam_role.execution.name == "rnr-test-ecs-execution-role"
    error_message = "Something else may assume a role."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.task.policy).Statement == [
      {
        Effect   = "Allow"
        Action   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
        Resource = ["arn:aws:ecs:eu-west-1:123456789012:task/rnr-test/*"]
      },
      { Effect = "Allow", Action = ["s3:GetObject"], Resource = ["arn:aws:s3:::data/in/*"] },
    ]
    error_message = "The task role differs: ${aws_iam_role_policy.task.policy}"
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.execution.policy).Statement == [
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["arn:aws:logs:eu-west-1:123456789012:log-group:/aws/ecs/rnr-test-worker:*"]
      },
      {
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = ["arn:aws:ecr:eu-west-1:999999999999:repository/rnr/worker"]
      },
      { Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] },
    ]
    error_message = "The execution role differs: ${aws_iam_role_policy.execution.policy}"
  }

  assert {
    condition = {
      for name, rule in aws_vpc_security_group_egress_rule.this :
      name => "${rule.ip_protocol} ${rule.from_port}-${rule.to_port} ${rule.referenced_security_group_id}"
    } == { broker = "tcp 5671-5671 sg-1" }
    error_message = "The security group lets out something else."
  }

  assert {
    condition = (
      output.cluster_name == "rnr-test" && output.cluster_arn == aws_ecs_cluster.this.arn &&
      output.service_name == "rnr-test-worker" && output.service_arn == aws_ecs_service.this.id &&
      output.container_name == "worker" && output.log_group == "/aws/ecs/rnr-test-worker" &&
      output.image_uri == var.image_uri && output.task_definition_arn == aws_ecs_task_definition.this.arn &&
      output.task_role_arn == aws_iam_role.task.arn && output.execution_role_arn == aws_iam_role.execution.arn &&
      output.security_group_id == aws_security_group.this.id
    )
    error_message = "An output differs."
  }
}

run "image_outside_of_ecr" {
  command = plan

  variables {
    image_uri          = "ghcr.io/example/rnr/worker:v1"
    architecture       = "arm64"
    container_insights = false
    stop_timeout_s     = 10
  }

  assert {
    condition     = [for setting in aws_ecs_cluster.this.setting : setting.value] == ["disabled"] && aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64"
    error_message = "A setting has no effect."
  }
}

run "size_that_fargate_does_not_have" {
  command = plan

  variables {
    cpu       = 1024
    memory_mb = 16384
  }

  expect_failures = [aws_ecs_task_definition.this]
}
