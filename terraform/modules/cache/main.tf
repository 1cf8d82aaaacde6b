locals {
  host = aws_elasticache_replication_group.this.primary_endpoint_address

  # An emulator's server is on this machine, and has no TLS.
  scheme = can(regex("^127\\.", local.host)) ? "redis" : "rediss"

  # Planned as null: an emulator's server may have another one.
  port = coalesce(aws_elasticache_replication_group.this.port, 6379)
}

# A replication group: aws_elasticache_cluster takes no token.
resource "aws_elasticache_replication_group" "this" {
  #checkov:skip=CKV_AWS_191: encrypted with a key that AWS owns, unless kms_key_arn has another one
  #checkov:skip=CKV2_AWS_50: nodes decides: what is lost with a single node is published again, and workers are idempotent

  replication_group_id       = var.name
  description                = "Claims of ${var.name}"
  engine                     = var.engine
  engine_version             = coalesce(var.engine_version, var.engine == "valkey" ? "8.0" : "7.1")
  node_type                  = var.node_type
  num_cache_clusters         = var.nodes
  automatic_failover_enabled = var.nodes > 1
  multi_az_enabled           = var.nodes > 1
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [aws_security_group.this.id]
  apply_immediately          = true
  tags                       = var.tags

  at_rest_encryption_enabled = true
  kms_key_id                 = var.kms_key_arn
  transit_encryption_enabled = true
  auth_token                 = jsondecode(data.aws_secretsmanager_secret_version.first.secret_string).token
  auth_token_update_strategy = "ROTATE" # has no default from version 6 of the provider on

  lifecycle {
    # The token here is the first one: see "Token" in the README.
    ignore_changes = [auth_token, auth_token_update_strategy, port]

    replace_triggered_by = [terraform_data.generation]
  }
}

resource "aws_elasticache_subnet_group" "this" {
  name        = var.name
  description = "Subnets of ${var.name}"
  subnet_ids  = var.subnet_ids
  tags        = var.tags
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57: a rotation function would need access to the network of the cache; the README says how to replace the token
  #checkov:skip=CKV_AWS_149: encrypted with the AWS managed key, unless secret_kms_key_arn has another one

  name                    = var.name
  description             = "Token of the cache ${var.name}"
  kms_key_id              = var.secret_kms_key_arn
  recovery_window_in_days = var.secret_recovery_days
  tags                    = var.tags
}

# A new replication group has a new token. These are the changes that need one.
resource "terraform_data" "generation" {
  triggers_replace = [var.engine, var.kms_key_arn]
}

# The first version; later ones are written by who replaces the token. uuid() gives 128 random bits. It is written
# from here and read back below, because data source aws_secretsmanager_random_password logs the token as its ID.
resource "aws_secretsmanager_secret_version" "first" {
  secret_id                = aws_secretsmanager_secret.this.id
  secret_string_wo         = jsonencode({ token = replace(uuid(), "-", "") })
  secret_string_wo_version = 1
  version_stages           = ["AWSCURRENT", "INITIAL"] # Secrets Manager deletes versions without a stage some time

  lifecycle {
    ignore_changes       = [version_stages]
    replace_triggered_by = [terraform_data.generation]
  }
}

# Not the current version: the state must hold no token that is valid after it was replaced.
data "aws_secretsmanager_secret_version" "first" {
  secret_id  = aws_secretsmanager_secret.this.id
  version_id = aws_secretsmanager_secret_version.first.version_id
}

resource "aws_security_group" "this" {
  name        = var.name
  description = "Cache ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each = var.clients

  security_group_id            = aws_security_group.this.id
  description                  = "From ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
  referenced_security_group_id = each.value
  tags                         = var.tags
}
