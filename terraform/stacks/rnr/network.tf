# The VPC and its private subnets exist; they are found by ID or by their Name tags.

data "aws_vpc" "this" {
  id = var.vpc_id

  dynamic "filter" {
    for_each = var.vpc_name[*]

    content {
      name   = "tag:Name"
      values = [filter.value]
    }
  }
}

data "aws_subnets" "this" {
  count = length(var.subnet_names) > 0 ? 1 : 0

  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.this.id]
  }

  filter {
    name   = "tag:Name"
    values = var.subnet_names
  }

  lifecycle {
    postcondition {
      condition     = length(self.ids) > 0
      error_message = "VPC ${data.aws_vpc.this.id} has no subnet with the tag Name = ${join(" or ", var.subnet_names)}."
    }
  }
}

locals {
  vpc_id     = data.aws_vpc.this.id
  subnet_ids = length(var.subnet_names) > 0 ? sort(data.aws_subnets.this[0].ids) : var.subnet_ids

  endpoints = {
    for service in ["ecr.api", "ecr.dkr", "ecs", "logs", "monitoring", "secretsmanager", "ssm"] :
    service => "com.amazonaws.${data.aws_region.current.id}.${service}" if var.vpc_endpoints.enabled
  }

  # AWS's APIs: through the VPC endpoints, or through whatever way to the internet the subnets have.
  https_egress = merge(
    { for cidr in var.https_egress_cidrs : "HTTPS at ${cidr}" => { port = 443, cidr = cidr } },
    { for group in aws_security_group.endpoints : "VPC endpoints" => { port = 443, security_group_id = group.id } },
    { for endpoint in aws_vpc_endpoint.s3 : "S3" => { port = 443, prefix_list_id = endpoint.prefix_list_id } },
  )
  amqp_egress  = { broker = { port = 5671, security_group_id = module.broker.security_group_id } }
  api_egress   = { broker = { port = 443, security_group_id = module.broker.security_group_id } }
  cache_egress = { cache = { port = 6379, security_group_id = module.cache.security_group_id } }

  # By keys that are known before the groups are.
  operators = { for group in var.operator_security_group_ids : group => group }
  clients = {
    producer    = module.producer.security_group_id
    autoscaler  = module.autoscaler.security_group_id
    postprocess = module.postprocess.security_group_id
    worker      = module.worker.security_group_id
  }
}

################################################################################
# VPC endpoints, off by default: most VPCs have a NAT gateway or endpoints of their own
################################################################################

resource "aws_vpc_endpoint" "this" {
  for_each = local.endpoints

  vpc_id              = local.vpc_id
  service_name        = each.value
  vpc_endpoint_type   = "Interface"
  subnet_ids          = local.subnet_ids
  security_group_ids  = [aws_security_group.endpoints[0].id]
  private_dns_enabled = true
  tags                = { Name = "${local.name}-${each.key}" }
}

resource "aws_vpc_endpoint" "s3" {
  count = var.vpc_endpoints.enabled ? 1 : 0

  vpc_id            = local.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.current.id}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.vpc_endpoints.route_table_ids
  tags              = { Name = "${local.name}-s3" }
}

resource "aws_security_group" "endpoints" {
  count = var.vpc_endpoints.enabled ? 1 : 0

  name        = "${local.name}-endpoints"
  description = "VPC endpoints of ${local.name}"
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  for_each = { for name, group in local.clients : name => group if var.vpc_endpoints.enabled }

  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "HTTPS from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = each.value
}
