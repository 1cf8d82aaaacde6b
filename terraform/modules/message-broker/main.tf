locals {
  cluster     = var.deployment_mode == "CLUSTER_MULTI_AZ"
  credentials = jsondecode(data.aws_secretsmanager_secret_version.first.secret_string)
  instance    = aws_mq_broker.this.instances[0]
}

resource "aws_mq_broker" "this" {
  broker_name         = var.name
  engine_type         = "RabbitMQ"
  engine_version      = var.engine_version
  host_instance_type  = var.instance_type
  deployment_mode     = var.deployment_mode
  publicly_accessible = false
  security_groups     = [aws_security_group.this.id]
  subnet_ids          = slice(var.subnet_ids, 0, local.cluster ? min(3, length(var.subnet_ids)) : 1)
  tags                = var.tags

  # A change of version or instance type reboots the broker now instead of in the maintenance window: until then, each
  # plan would show the change again.
  apply_immediately          = true
  auto_minor_version_upgrade = true # Amazon MQ requires this from 3.13 on

  user {
    username = local.credentials.username
    password = local.credentials.password
  }

  logs {
    general = true
  }

  dynamic "encryption_options" {
    for_each = var.kms_key_arn[*]

    content {
      kms_key_id        = encryption_options.value
      use_aws_owned_key = false
    }
  }

  lifecycle {
    # Any change of these replaces the broker, with its messages. The password here is the first one: it is changed through
    # the management API. Subnets that are found by a tag may be others later.
    ignore_changes = [user, subnet_ids]

    replace_triggered_by = [terraform_data.generation]

    precondition {
      condition     = startswith(var.engine_version, "3.") || startswith(var.instance_type, "mq.m7g.")
      error_message = "RabbitMQ ${var.engine_version} does not run on ${var.instance_type}: Amazon MQ runs RabbitMQ 4 on mq.m7g instances only."
    }

    precondition {
      condition     = !local.cluster || length(var.subnet_ids) >= 2
      error_message = "The cluster ${var.name} needs subnets in at least two Availability Zones; subnet_ids has ${length(var.subnet_ids)}."
    }
  }
}

################################################################################
# Credentials
################################################################################

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57: rotated by "refinerctl rnr rotate"; a rotation function of Secrets Manager would not restart the consumers
  #checkov:skip=CKV_AWS_149: encrypted with the AWS managed key, unless secret_kms_key_arn has another one

  name                    = var.name
  description             = "Credentials of the broker ${var.name}"
  kms_key_id              = var.secret_kms_key_arn
  recovery_window_in_days = var.secret_recovery_days
  tags                    = var.tags
}

# A new broker has new credentials. These are the changes that need one.
resource "terraform_data" "generation" {
  triggers_replace = [split(".", var.engine_version)[0], var.deployment_mode, var.kms_key_arn]
}

# The first version; later ones are written by who changes the password. uuid() gives 128 random bits. It is written
# from here and read back below, because data source aws_secretsmanager_random_password logs the password as its ID.
resource "aws_secretsmanager_secret_version" "first" {
  secret_id                = aws_secretsmanager_secret.this.id
  secret_string_wo         = jsonencode({ username = var.username, password = replace(uuid(), "-", "") })
  secret_string_wo_version = 1
  version_stages           = ["AWSCURRENT", "INITIAL"] # Secrets Manager deletes versions without a stage some time

  lifecycle {
    ignore_changes       = [version_stages]
    replace_triggered_by = [terraform_data.generation]
  }
}

# Not the current version: the state must hold no password that is valid after `refinerctl rnr rotate`.
data "aws_secretsmanager_secret_version" "first" {
  secret_id  = aws_secretsmanager_secret.this.id
  version_id = aws_secretsmanager_secret_version.first.version_id
}

################################################################################
# Network: from the clients' security groups to TLS ports only
################################################################################

resource "aws_security_group" "this" {
  name        = var.name
  description = "Broker ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "amqp" {
  for_each = var.amqp_clients

  security_group_id            = aws_security_group.this.id
  description                  = "AMQP from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 5671
  to_port                      = 5671
  referenced_security_group_id = each.value
  tags                         = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  for_each = var.api_clients

  security_group_id            = aws_security_group.this.id
  description                  = "Management API from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = each.value
  tags                         = var.tags
}
