mock_provider "aws" {
  mock_resource "aws_elasticache_replication_group" {
    defaults = {
      arn                      = "arn:aws:elasticache:eu-west-1:123456789012:replicationgroup:rnr-test-cache"
      primary_endpoint_address = "master.rnr-test-cache.abc.euw1.cache.amazonaws.com"
    }
  }

  mock_resource "aws_secretsmanager_secret" {
    defaults = {
      id  = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rnr-test-cache-AbCdEf"
      arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rnr-test-cache-AbCdEf"
    }
  }

  mock_data "aws_secretsmanager_secret_version" {
    defaults = { secret_string = "{\"token\":\"first-token-of-the-cache\"}" }
  }
}

variables {
  name       = "rnr-test-cache"
  vpc_id     = "vpc-1"
  subnet_ids = ["subnet-1", "subnet-2"]
  clients    = { producer = "sg-1" }
}

run "encrypted_and_with_a_token" {
  assert {
    condition = (
      aws_elasticache_replication_group.this.replication_group_id == "rnr-test-cache" &&
      aws_elasticache_replication_group.this.engine == "valkey" &&
      aws_elasticache_replication_group.this.engine_version == "8.0" &&
      aws_elasticache_replication_group.this.num_cache_clusters == 1 &&
      aws_elasticache_replication_group.this.automatic_failover_enabled == false &&
      aws_elasticache_replication_group.this.transit_encryption_enabled == true &&
      aws_elasticache_replication_group.this.at_rest_encryption_enabled == "true" &&
      aws_elasticache_replication_group.this.auth_token == "first-token-of-the-cache" &&
      aws_elasticache_replication_group.this.subnet_group_name == "rnr-test-cache" &&
      aws_elasticache_subnet_group.this.subnet_ids == toset(["subnet-1", "subnet-2"])
    )
    error_message = "The replication group differs from the defaults."
  }

  assert {
    condition = (
      aws_secretsmanager_secret_version.first.secret_string == null &&
      data.aws_secretsmanager_secret_version.first.version_id == aws_secretsmanager_secret_version.first.version_id
    )
    error_message = "The secret's value is in the state, or another version than the first is read."
  }

  assert {
    condition = {
      for name, rule in aws_vpc_security_group_ingress_rule.this :
      name => "${rule.referenced_security_group_id} ${rule.ip_protocol} ${rule.from_port}-${rule.to_port}"
    } == { producer = "sg-1 tcp 6379-6379" }
    error_message = "The security group lets in something else."
  }

  assert {
    condition = (
      output.name == "rnr-test-cache" &&
      output.arn == "arn:aws:elasticache:eu-west-1:123456789012:replicationgroup:rnr-test-cache" &&
      output.url == "rediss://master.rnr-test-cache.abc.euw1.cache.amazonaws.com:6379" &&
      output.secret_name == "rnr-test-cache" &&
      output.secret_arn == aws_secretsmanager_secret.this.arn &&
      output.security_group_id == aws_security_group.this.id
    )
    error_message = "An output differs: ${output.url}"
  }
}

run "replicas_of_redis" {
  command = plan

  variables {
    engine = "redis"
    nodes  = 3
  }

  assert {
    condition = (
      aws_elasticache_replication_group.this.engine_version == "7.1" &&
      aws_elasticache_replication_group.this.automatic_failover_enabled == true &&
      aws_elasticache_replication_group.this.multi_az_enabled == true
    )
    error_message = "The replicas would not take over."
  }
}
