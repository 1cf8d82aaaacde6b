data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  name              = "${var.app_name}-${var.env}"
  worker_name       = "${local.name}-worker"
  queue_name        = "${local.name}-work"
  metrics_namespace = "rnr"

  input_bucket  = var.input_bucket_name
  output_bucket = coalesce(var.output_bucket_name, var.input_bucket_name)

  # S3 keys have no leading slash.
  input_prefix    = trimprefix(var.input_prefix, "/")
  output_prefix   = trimprefix(var.output_prefix, "/")
  complete_prefix = trimprefix(var.complete_prefix, "/")
  merged_prefix   = trimprefix(var.merged_prefix, "/")

  registry = "${data.aws_caller_identity.current.account_id}.dkr.ecr.${data.aws_region.current.id}.${data.aws_partition.current.dns_suffix}"

  # As in Docker's references, a first component with a dot or a colon, or "localhost", is a registry.
  image_parts = {
    for name, uri in merge(var.images, var.pinned_images) : name => regex(
      "^(?:(?P<registry>[^/]*[.:][^/]*|localhost)/)?(?P<repository>[^:@]+)(?P<version>(?::[^@]+|@.+)?)$", uri
    )
  }
  images = {
    for name, image in local.image_parts : name => join("", [
      coalesce(image.registry, local.registry), "/", image.repository,
      image.version != "" ? image.version : ":${coalesce(var.release_tag, "none")}",
    ])
  }

  common_environment = { RNR_NAME = local.name, LOG_LEVEL = "INFO" }
  broker_environment = {
    RNR_BROKER_URL    = module.broker.amqp_url
    RNR_BROKER_SECRET = module.broker.secret_arn
    RNR_QUEUE         = local.queue_name
  }
  input_environment = {
    RNR_INPUT_BUCKET = local.input_bucket
    RNR_INPUT_PREFIX = local.input_prefix
  }
  output_environment = {
    RNR_OUTPUT_BUCKET   = local.output_bucket
    RNR_OUTPUT_PREFIX   = local.output_prefix
    RNR_COMPLETE_PREFIX = local.complete_prefix
  }

  environments = {
    producer = merge(local.common_environment, local.broker_environment, local.input_environment, {
      RNR_CACHE_URL      = module.cache.url
      RNR_CACHE_SECRET   = module.cache.secret_arn
      RNR_LOOKBACK_HOURS = tostring(var.producer.lookback_hours)
      RNR_CLAIM_HOURS    = tostring(var.producer.claim_hours)
      }, { for url in var.producer.feed_url[*] : "RNR_FEED_URL" => url },
      var.function_environment, var.producer.environment,
    )

    worker = merge(local.common_environment, local.broker_environment, local.input_environment, local.output_environment, {
      RNR_PREFETCH       = tostring(var.worker.prefetch)
      RNR_JOB_TIMEOUT_S  = tostring(var.worker.job_timeout_s)
      RNR_STOP_TIMEOUT_S = tostring(var.worker.stop_timeout_s)
      }, { for processor in var.worker.processor[*] : "PROCESSOR" => processor },
      { for command in var.worker.processor_command[*] : "PROCESSOR_COMMAND" => command },
      var.function_environment, var.worker.environment,
    )

    autoscaler = merge(local.common_environment, local.broker_environment, {
      RNR_BROKER_API_URL  = module.broker.api_url
      RNR_CLUSTER         = local.name
      RNR_SERVICE         = local.worker_name
      RNR_STATE_PARAMETER = aws_ssm_parameter.autoscaler.name
      RNR_MIN_TASKS       = tostring(var.autoscaler.min_tasks)
      RNR_MAX_TASKS       = tostring(var.autoscaler.max_tasks)
      RNR_TARGET_BACKLOG  = tostring(var.autoscaler.target_backlog)
      },
      var.function_environment, var.autoscaler.environment,
    )

    postprocess = merge(local.common_environment, local.output_environment, {
      RNR_MERGED_PREFIX = local.merged_prefix
      },
      var.function_environment, var.postprocess.environment,
    )
  }
}

# Off by default: the buckets exist, and their owner grants access to the three roles.
module "buckets" {
  source   = "../../modules/data-repository"
  for_each = toset(var.create_buckets ? [local.input_bucket, local.output_bucket] : [])

  bucket                   = each.value
  manage_notifications     = false
  force_destroy            = var.force_destroy
  abort_incomplete_uploads = var.abort_incomplete_uploads
  kms_key_arn              = one(var.kms_key_arns.buckets)
}

module "broker" {
  source = "../../modules/message-broker"

  name                 = "${local.name}-broker"
  username             = var.broker.username
  engine_version       = var.broker.engine_version
  instance_type        = var.broker.instance_type
  deployment_mode      = var.broker.deployment_mode
  vpc_id               = local.vpc_id
  subnet_ids           = local.subnet_ids
  kms_key_arn          = var.kms_key_arns.broker
  secret_kms_key_arn   = var.kms_key_arns.secrets
  secret_recovery_days = var.secret_recovery_days

  amqp_clients = merge({ for name in ["producer", "worker"] : name => local.clients[name] }, local.operators)
  api_clients  = merge({ for name in ["autoscaler"] : name => local.clients[name] }, local.operators)
}

module "cache" {
  source = "../../modules/cache"

  name                 = "${local.name}-cache"
  engine               = var.cache.engine
  engine_version       = var.cache.engine_version
  node_type            = var.cache.node_type
  nodes                = var.cache.nodes
  vpc_id               = local.vpc_id
  subnet_ids           = local.subnet_ids
  clients              = { for name in ["producer"] : name => local.clients[name] }
  kms_key_arn          = var.kms_key_arns.cache
  secret_kms_key_arn   = var.kms_key_arns.secrets
  secret_recovery_days = var.secret_recovery_days
}

resource "aws_scheduler_schedule_group" "this" {
  name = local.name
}

# What the autoscaler remembers from one run to the next; the value is its own.
resource "aws_ssm_parameter" "autoscaler" {
  #checkov:skip=CKV2_AWS_34: holds times and numbers of tasks, no secret
  #checkov:skip=CKV_AWS_337: no secret, so no key of our own

  name        = "/${local.name}/autoscaler"
  description = "State of the autoscaler of ${local.worker_name}"
  type        = "String"
  value       = "{}"

  lifecycle {
    ignore_changes = [value]
  }
}

module "producer" {
  source = "../../modules/scheduled-function"

  name                 = "${local.name}-producer"
  description          = "Publishes a message for each new input of bucket ${local.input_bucket}"
  role_name            = "${local.name}-lambda-producer-role"
  scheduler_role_name  = "${local.name}-scheduler-producer-role"
  image_uri            = local.images.producer
  architecture         = var.architecture
  memory_mb            = var.producer.memory_mb
  timeout_s            = var.producer.timeout_s
  environment          = local.environments.producer
  policy_statements    = local.producer_statements
  vpc_id               = local.vpc_id
  subnet_ids           = local.subnet_ids
  egress               = merge(local.https_egress, local.amqp_egress, local.cache_egress)
  reserved_concurrency = var.producer.reserved_concurrency
  schedule_group       = aws_scheduler_schedule_group.this.name
  schedule_expression  = var.producer.schedule
  schedule_enabled     = var.producer.schedule_enabled
  queue_kms_key_arn    = var.kms_key_arns.queues
  log_kms_key_arn      = var.kms_key_arns.logs
  log_retention_days   = var.log_retention_days

  permissions_boundary = var.permissions_boundary
}

module "autoscaler" {
  source = "../../modules/scheduled-function"

  name                 = "${local.name}-autoscaler"
  description          = "Sets the number of tasks of ${local.worker_name} from the backlog of ${local.queue_name}"
  role_name            = "${local.name}-lambda-autoscaler-role"
  scheduler_role_name  = "${local.name}-scheduler-autoscaler-role"
  image_uri            = local.images.autoscaler
  architecture         = var.architecture
  memory_mb            = var.autoscaler.memory_mb
  timeout_s            = var.autoscaler.timeout_s
  environment          = local.environments.autoscaler
  policy_statements    = local.autoscaler_statements
  vpc_id               = local.vpc_id
  subnet_ids           = local.subnet_ids
  egress               = merge(local.https_egress, local.api_egress)
  reserved_concurrency = var.autoscaler.reserved_concurrency
  schedule_group       = aws_scheduler_schedule_group.this.name
  schedule_expression  = var.autoscaler.schedule
  schedule_enabled     = var.autoscaler.schedule_enabled

  # The next run, a minute later, reads again.
  max_event_age_s    = 60
  max_retries        = 0
  queue_kms_key_arn  = var.kms_key_arns.queues
  log_kms_key_arn    = var.kms_key_arns.logs
  log_retention_days = var.log_retention_days

  permissions_boundary = var.permissions_boundary
}

module "postprocess" {
  source = "../../modules/scheduled-function"

  name                 = "${local.name}-postprocess"
  description          = "Merges the new outputs of bucket ${local.output_bucket}"
  role_name            = "${local.name}-lambda-postproc-role"
  scheduler_role_name  = "${local.name}-scheduler-postprocess-role"
  image_uri            = local.images.postprocess
  architecture         = var.architecture
  memory_mb            = var.postprocess.memory_mb
  ephemeral_storage_mb = var.postprocess.ephemeral_storage_mb
  timeout_s            = var.postprocess.timeout_s
  environment          = local.environments.postprocess
  policy_statements    = local.postprocess_statements
  vpc_id               = local.vpc_id
  subnet_ids           = local.subnet_ids
  egress               = local.https_egress
  reserved_concurrency = var.postprocess.reserved_concurrency
  schedule_group       = aws_scheduler_schedule_group.this.name
  schedule_expression  = var.postprocess.schedule
  schedule_enabled     = var.postprocess.schedule_enabled
  queue_kms_key_arn    = var.kms_key_arns.queues
  log_kms_key_arn      = var.kms_key_arns.logs
  log_retention_days   = var.log_retention_days

  permissions_boundary = var.permissions_boundary
}

module "worker" {
  source = "../../modules/worker-service"

  cluster_name         = local.name
  name                 = local.worker_name
  task_role_name       = "${local.name}-ecs-task-role"
  execution_role_name  = "${local.name}-ecs-execution-role"
  image_uri            = local.images.worker
  architecture         = var.architecture
  cpu                  = var.worker.cpu
  memory_mb            = var.worker.memory_mb
  ephemeral_storage_gb = var.worker.ephemeral_storage_gb
  stop_timeout_s       = var.worker.stop_timeout_s
  environment          = local.environments.worker
  policy_statements    = local.worker_statements
  vpc_id               = local.vpc_id
  subnet_ids           = local.subnet_ids
  egress               = merge(local.https_egress, local.amqp_egress)
  container_insights   = var.worker.container_insights
  log_group            = "/aws/ecs/${local.worker_name}"
  log_kms_key_arn      = var.kms_key_arns.logs
  log_retention_days   = var.log_retention_days

  permissions_boundary = var.permissions_boundary
}

module "alarms" {
  source = "../../modules/alarms"
  count  = var.alarms.enabled ? 1 : 0

  name_prefix    = local.name
  sns_topic_arns = var.alarms.sns_topic_arns

  dlqs = merge(
    { for name, function in local.functions : "${name}-dlq" => function.dlq_name },
    { for name, function in local.functions : "${name}-delivery-dlq" => function.delivery_dlq_name },
  )
  dlq_messages = var.alarms.dlq_messages
  dlq_age_s    = var.alarms.dlq_age_s

  functions          = { for name, function in local.functions : name => function.function_name }
  function_errors    = var.alarms.function_errors
  function_throttles = var.alarms.function_throttles

  services           = { worker = module.worker.service_name }
  services_namespace = local.metrics_namespace
  backlog_age_s      = var.alarms.backlog_age_s

  brokers               = { broker = module.broker.name }
  broker_memory_percent = var.alarms.broker_memory_percent
  broker_disk_percent   = var.alarms.broker_disk_percent
}

locals {
  functions = { producer = module.producer, autoscaler = module.autoscaler, postprocess = module.postprocess }
}
