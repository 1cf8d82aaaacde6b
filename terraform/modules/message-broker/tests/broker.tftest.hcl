mock_provider "aws" {
  mock_resource "aws_mq_broker" {
    defaults = {
      id  = "b-1234"
      arn = "arn:aws:mq:eu-west-1:123456789012:broker:rnr-test-broker:b-1234"
      instances = [{
        console_url = "https://b-1234.mq.eu-west-1.on.aws"
        endpoints   = ["amqps://b-1234.mq.eu-west-1.on.aws:5671"]
        ip_address  = "10.0.0.10"
      }]
    }
  }

  mock_resource "aws_secretsmanager_secret" {
    defaults = {
      id  = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rnr-test-broker-AbCdEf"
      arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rnr-test-broker-AbCdEf"
    }
  }

  mock_data "aws_secretsmanager_secret_version" {
    defaults = { secret_string = "{\"username\":\"rnr\",\"password\":\"first-password\"}" }
  }
}

variables {
  name         = "rnr-test-broker"
  vpc_id       = "vpc-1"
  subnet_ids   = ["subnet-1", "subnet-2", "subnet-3", "subnet-4"]
  amqp_clients = { worker = "sg-1", producer = "sg-2" }
  api_clients  = { autoscaler = "sg-3" }
}

run "private_and_tls_only" {
  assert {
    condition = (
      aws_mq_broker.this.broker_name == "rnr-test-broker" &&
      aws_mq_broker.this.engine_type == "RabbitMQ" &&
      aws_mq_broker.this.engine_version == "4.2" &&
      aws_mq_broker.this.host_instance_type == "mq.m7g.medium" &&
      aws_mq_broker.this.deployment_mode == "SINGLE_INSTANCE" &&
      aws_mq_broker.this.publicly_accessible == false &&
      aws_mq_broker.this.auto_minor_version_upgrade == true &&
      aws_mq_broker.this.logs[0].general == true &&
      aws_mq_broker.this.subnet_ids == toset(["subnet-1"])
    )
    error_message = "The broker differs from the defaults."
  }

  assert {
    condition = {
      for name, rule in merge(aws_vpc_security_group_ingress_rule.amqp, aws_vpc_security_group_ingress_rule.api) :
      name => "${rule.referenced_security_group_id} ${rule.ip_protocol} ${rule.from_port}-${rule.to_port}"
    } == { worker = "sg-1 tcp 5671-5671", producer = "sg-2 tcp 5671-5671", autoscaler = "sg-3 tcp 443-443" }
    error_message = "The security group lets in something else."
  }

  assert {
    condition     = [for user in aws_mq_broker.this.user : { (user.username) = user.password }] == [{ rnr = "first-password" }]
    error_message = "The broker's user is not that of the secret's first version."
  }

  assert {
    condition = (
      aws_secretsmanager_secret.this.name == "rnr-test-broker" &&
      aws_secretsmanager_secret_version.first.secret_id == aws_secretsmanager_secret.this.id &&
      aws_secretsmanager_secret_version.first.secret_string == null &&
      data.aws_secretsmanager_secret_version.first.version_id == aws_secretsmanager_secret_version.first.version_id
    )
    error_message = "The secret's value is in the state, or another version than the first is read."
  }

  assert {
    condition = (
      output.name == "rnr-test-broker" &&
      output.id == "b-1234" &&
      output.arn == "arn:aws:mq:eu-west-1:123456789012:broker:rnr-test-broker:b-1234" &&
      output.amqp_url == "amqps://b-1234.mq.eu-west-1.on.aws:5671" &&
      output.api_url == "https://b-1234.mq.eu-west-1.on.aws" &&
      output.username == "rnr" &&
      output.secret_name == "rnr-test-broker" &&
      output.secret_arn == aws_secretsmanager_secret.this.arn &&
      output.security_group_id == aws_security_group.this.id &&
      output.log_group == "/aws/amazonmq/broker/b-1234/general"
    )
    error_message = "An output differs."
  }
}

# Of the broker that the run above has created.
run "later_change_of_the_user_has_no_effect" {
  command = plan

  variables {
    username = "other"
  }

  override_data {
    target = data.aws_secretsmanager_secret_version.first
    values = { secret_string = "{\"username\":\"other\",\"password\":\"other-password\"}" }
  }

  assert {
    condition     = [for user in aws_mq_broker.this.user : "${user.username} ${user.password}"] == ["rnr first-password"]
    error_message = "The broker would be replaced."
  }
}

run "cluster" {
  command = plan

  variables {
    engine_version  = "3.13"
    instance_type   = "mq.m5.large"
    deployment_mode = "CLUSTER_MULTI_AZ"
    kms_key_arn     = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  }

  assert {
    condition     = aws_mq_broker.this.encryption_options[0].kms_key_id == var.kms_key_arn && aws_mq_broker.this.encryption_options[0].use_aws_owned_key == false
    error_message = "The key has no effect."
  }
}

run "rabbitmq_4_on_m5" {
  command = plan

  variables {
    instance_type = "mq.m5.large"
  }

  expect_failures = [aws_mq_broker.this]
}

run "cluster_in_one_subnet" {
  command = plan

  variables {
    deployment_mode = "CLUSTER_MULTI_AZ"
    subnet_ids      = ["subnet-1"]
  }

  expect_failures = [aws_mq_broker.this]
}
