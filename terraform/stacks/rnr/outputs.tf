output "region" {
  description = "AWS region of the stack."
  value       = data.aws_region.current.id
}

output "name" {
  description = "`<app_name>-<env>`, with which all names begin."
  value       = local.name
}

output "input_bucket" {
  description = "Name of the bucket of the inputs."
  value       = local.input_bucket
}

output "output_bucket" {
  description = "Name of the bucket of outputs, completions and merged files."
  value       = local.output_bucket
}

output "input_prefix" {
  description = "Prefix of the inputs, without leading slash."
  value       = local.input_prefix
}

output "output_prefix" {
  description = "Prefix of the workers' outputs, without leading slash."
  value       = local.output_prefix
}

output "complete_prefix" {
  description = "Prefix of the workers' completions, without leading slash."
  value       = local.complete_prefix
}

output "merged_prefix" {
  description = "Prefix of the merged files, without leading slash."
  value       = local.merged_prefix
}

output "functions" {
  description = "Functions `producer`, `autoscaler` and `postprocess`: image and the names, ARNs and URLs of their resources."
  value = {
    for name, function in local.functions : name => {
      image_uri         = function.image_uri
      function_name     = function.function_name
      function_arn      = function.function_arn
      role_arn          = function.role_arn
      log_group         = function.log_group
      security_group_id = function.security_group_id
      schedule_name     = function.schedule_name
      schedule_arn      = function.schedule_arn
      schedule_group    = function.schedule_group
      schedule_role_arn = function.schedule_role_arn
      dlq_name          = function.dlq_name
      dlq_url           = function.dlq_url
      dlq_arn           = function.dlq_arn
      delivery_dlq_name = function.delivery_dlq_name
      delivery_dlq_url  = function.delivery_dlq_url
      delivery_dlq_arn  = function.delivery_dlq_arn
    }
  }
}

output "worker" {
  description = "The workers' service: image, and the names and ARNs of its resources. `queue_name` and `dlq_name` are RabbitMQ's, each the name of a queue and of its exchange."
  value = {
    image_uri           = module.worker.image_uri
    cluster_name        = module.worker.cluster_name
    cluster_arn         = module.worker.cluster_arn
    service_name        = module.worker.service_name
    service_arn         = module.worker.service_arn
    task_definition_arn = module.worker.task_definition_arn
    container_name      = module.worker.container_name
    log_group           = module.worker.log_group
    task_role_arn       = module.worker.task_role_arn
    execution_role_arn  = module.worker.execution_role_arn
    security_group_id   = module.worker.security_group_id
    queue_name          = local.queue_name
    dlq_name            = "${local.queue_name}-dlq"
  }
}

output "broker" {
  description = "The broker: its names, ARNs and URLs. `username` is the first user's; the secret has the current credentials."
  value = {
    name              = module.broker.name
    id                = module.broker.id
    arn               = module.broker.arn
    amqp_url          = module.broker.amqp_url
    api_url           = module.broker.api_url
    username          = module.broker.username
    secret_name       = module.broker.secret_name
    secret_arn        = module.broker.secret_arn
    security_group_id = module.broker.security_group_id
    log_group         = module.broker.log_group
  }
}

output "cache" {
  description = "The cache: its names, ARNs and URL. The secret has the token."
  value = {
    name              = module.cache.name
    arn               = module.cache.arn
    url               = module.cache.url
    secret_name       = module.cache.secret_name
    secret_arn        = module.cache.secret_arn
    security_group_id = module.cache.security_group_id
  }
}

output "state_parameter" {
  description = "Name of the SSM parameter with the autoscaler's state."
  value       = aws_ssm_parameter.autoscaler.name
}

output "metrics_namespace" {
  description = "CloudWatch namespace of the autoscaler's metrics, whose dimension `Service` is the name of the workers' service."
  value       = local.metrics_namespace
}

output "vpc_id" {
  description = "ID of the VPC."
  value       = local.vpc_id
}

output "subnet_ids" {
  description = "IDs of the private subnets."
  value       = local.subnet_ids
}
