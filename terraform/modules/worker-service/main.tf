data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  # Null unless the image is in ECR: nothing else needs permissions to pull.
  ecr = one([
    for match in regexall("^([0-9]{12})\\.dkr[.-]ecr\\.([a-z0-9-]+)\\.[^/]+/([^:@]+)", var.image_uri) : {
      repository_arn = "arn:${local.partition}:ecr:${match[1]}:${match[0]}:repository/${match[2]}"
    }
  ])

  assume_role_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account_id }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ecs:${local.region}:${local.account_id}:*" }
      }
    }]
  }

  # A busy task protects itself from scale-in and deployments.
  protection_statement = {
    Effect   = "Allow"
    Action   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
    Resource = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:task/${var.cluster_name}/*"]
  }

  task_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [local.protection_statement],
      [
        for statement in var.policy_statements : merge(
          { Effect = "Allow", Action = statement.Action, Resource = statement.Resource },
          { for condition in statement.Condition[*] : "Condition" => condition },
        )
      ],
    )
  }

  execution_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [{
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.this.arn}:*"]
      }],
      [
        for ecr in local.ecr[*] : {
          Effect   = "Allow"
          Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
          Resource = [ecr.repository_arn]
        }
      ],
      [
        for ecr in local.ecr[*] : {
          Effect   = "Allow"
          Action   = ["ecr:GetAuthorizationToken"] # has no resources
          Resource = ["*"]
        }
      ],
    )
  }

  container = {
    name      = var.container_name
    image     = var.image_uri
    essential = true

    environment = [for name in sort(keys(var.environment)) : { name = name, value = var.environment[name] }]
    stopTimeout = var.stop_timeout_s

    # What the worker writes goes to /tmp.
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]

    # Passes signals on, and ends what a job's program left behind.
    linuxParameters = { initProcessEnabled = true }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = var.log_group
        awslogs-region        = local.region
        awslogs-stream-prefix = var.container_name
      }
    }
  }
}

resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65: container_insights decides; it is on unless a local environment turns it off

  name = var.cluster_name
  tags = var.tags

  setting {
    name  = "containerInsights"
    value = var.container_insights ? "enabled" : "disabled"
  }
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory_mb
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode([local.container])
  skip_destroy             = true # the circuit breaker goes back to the previous revision, which must be active
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = upper(var.architecture)
  }

  ephemeral_storage {
    size_in_gib = var.ephemeral_storage_gb
  }

  volume {
    name = "tmp"
  }

  lifecycle {
    precondition {
      condition     = var.memory_mb == 512 ? var.cpu == 256 : var.memory_mb >= 2 * var.cpu && var.memory_mb <= 8 * var.cpu
      error_message = "Fargate has no size with ${var.cpu} CPU units and ${var.memory_mb} MB: memory_mb must be from ${2 * var.cpu} to ${8 * var.cpu} (512 is also allowed for 256 CPU units)."
    }
  }
}

resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = aws_ecs_cluster.this.arn
  task_definition = aws_ecs_task_definition.this.arn
  launch_type     = "FARGATE"
  desired_count   = 0
  propagate_tags  = "SERVICE"
  tags            = var.tags

  # New tasks start first. Busy tasks are protected: a deployment waits for them.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  # Rebalancing would stop tasks.
  availability_zone_rebalancing = "DISABLED"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.this.id]
    assign_public_ip = false
  }

  # The first tasks need their permissions.
  depends_on = [aws_iam_role_policy.task, aws_iam_role_policy.execution]

  lifecycle {
    ignore_changes = [desired_count] # the autoscaler's
  }
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338: log_retention_days decides

  name              = var.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.tags
}

resource "aws_iam_role" "task" {
  name                 = var.task_role_name
  description          = "Tasks of the service ${var.name}"
  assume_role_policy   = jsonencode(local.assume_role_policy)
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "task" {
  name   = "work"
  role   = aws_iam_role.task.name
  policy = jsonencode(local.task_policy)
}

resource "aws_iam_role" "execution" {
  name                 = var.execution_role_name
  description          = "Lets ECS pull the image and write the log of the service ${var.name}"
  assume_role_policy   = jsonencode(local.assume_role_policy)
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.name
  policy = jsonencode(local.execution_policy)
}

# No ingress: a worker fetches its work.
resource "aws_security_group" "this" {
  name        = var.name
  description = "Tasks of the service ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_egress_rule" "this" {
  for_each = var.egress

  security_group_id            = aws_security_group.this.id
  description                  = "To ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  referenced_security_group_id = each.value.security_group_id
  prefix_list_id               = each.value.prefix_list_id
  cidr_ipv4                    = each.value.cidr
  tags                         = var.tags
}
