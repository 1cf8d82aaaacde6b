data "aws_region" "current" {}

locals {
  output_prefix   = trimprefix(var.output_prefix, "/")
  complete_prefix = trimprefix(var.complete_prefix, "/")

  # A completion ruleset has no function, so no role needs access to the bucket.
  functions = { for name, ruleset in var.rulesets : name => ruleset if ruleset.image_uri != null }

  # An input of the ruleset with input_prefix can have any folder in its name, so its <name>.json can be anywhere below
  # complete_prefix. The completions of other rulesets therefore have another suffix.
  first    = trimprefix(var.input_prefix, "/")
  prefixes = { for name, ruleset in var.rulesets : name => trimprefix(ruleset.prefix, "/") }

  loops = flatten([
    for writer in keys(local.functions) : [
      for written in [module.rulesets[writer].output_prefix, module.rulesets[writer].complete_prefix] : [
        for reader in keys(local.functions) : "${writer} writes below ${written}, ${reader} reads ${module.rulesets[reader].prefix}"
        if startswith(written, module.rulesets[reader].prefix) || startswith(module.rulesets[reader].prefix, written)
      ]
    ]
  ])

  # Two functions can write the same key if one completion prefix is below the other one and one suffix ends in the other
  # one. Equal prefixes are always refused: an image may append no suffix.
  shared_completions = flatten([
    for outer in keys(local.functions) : [
      for inner in keys(local.functions) :
      "${outer} (${module.rulesets[outer].complete_prefix}*${module.rulesets[outer].complete_suffix}) and ${inner} (${module.rulesets[inner].complete_prefix}*${module.rulesets[inner].complete_suffix})"
      if outer != inner && startswith(module.rulesets[inner].complete_prefix, module.rulesets[outer].complete_prefix) && (
        module.rulesets[inner].complete_prefix == module.rulesets[outer].complete_prefix ||
        endswith(module.rulesets[inner].complete_suffix, module.rulesets[outer].complete_suffix) ||
        endswith(module.rulesets[outer].complete_suffix, module.rulesets[inner].complete_suffix)
      )
    ]
  ])
}

module "data_repository" {
  source = "../../modules/data-repository"

  bucket               = var.bucket_name
  create               = var.create_bucket
  manage_notifications = var.manage_bucket_notifications
  force_destroy        = var.force_destroy
  kms_key_arn          = var.kms_key_arns.bucket
  access_log           = var.access_log

  access = {
    for name, ruleset in local.functions : name => {
      role_arn = module.rulesets[name].role_arn
      prefixes = [
        module.rulesets[name].prefix, module.rulesets[name].output_prefix, module.rulesets[name].complete_prefix
      ]
    }
  }
}

module "event_bus" {
  source = "../../modules/event-bus"

  name         = var.bus_name
  bucket       = var.bucket_name
  forward_name = "${var.name_prefix}-forward"

  queue_kms_key_arn = var.kms_key_arns.queues

  permissions_boundary = var.permissions_boundary
}

module "rulesets" {
  source   = "../../modules/prefix-ruleset"
  for_each = var.rulesets

  name            = "${var.name_prefix}-${each.key}"
  prefix          = each.value.prefix
  output_prefix   = var.output_prefix
  complete_prefix = local.prefixes[each.key] == local.first ? var.complete_prefix : "${var.complete_prefix}${local.prefixes[each.key]}"
  complete_suffix = local.prefixes[each.key] == local.first ? ".json" : ".completion"

  # By name, not by the bucket's attribute: no resource of a ruleset has to wait for the bucket.
  bucket   = var.bucket_name
  bus_name = module.event_bus.name

  image_uri    = each.value.image_uri == null ? null : lookup(var.pinned_images, each.key, each.value.image_uri)
  release_tag  = var.release_tag
  architecture = each.value.architecture
  memory_mb    = each.value.memory_mb
  timeout_s    = each.value.timeout_s
  environment  = merge(var.function_environment, each.value.environment)
  vpc          = each.value.vpc

  read_access       = each.value.read_access
  read_kms_key_arns = each.value.read_kms_key_arns

  bucket_kms_key_arn = var.kms_key_arns.bucket
  queue_kms_key_arn  = var.kms_key_arns.queues
  log_kms_key_arn    = var.kms_key_arns.logs

  batch_size           = each.value.batch_size
  max_concurrency      = each.value.max_concurrency
  visibility_timeout_s = each.value.visibility_timeout_s
  max_receive_count    = each.value.max_receive_count
  message_retention_s  = var.message_retention_s
  log_retention_days   = var.log_retention_days

  permissions_boundary = var.permissions_boundary
}

module "alarms" {
  source = "../../modules/alarms"
  count  = var.alarms.enabled ? 1 : 0

  name_prefix    = var.name_prefix
  sns_topic_arns = var.alarms.sns_topic_arns

  dlqs = merge(
    { forward-delivery-dlq = module.event_bus.delivery_dlq_name },
    { for name, ruleset in module.rulesets : "${name}-dlq" => ruleset.dlq_name },
    { for name, ruleset in module.rulesets : "${name}-delivery-dlq" => ruleset.delivery_dlq_name },
  )
  dlq_messages = var.alarms.dlq_messages
  dlq_age_s    = var.alarms.dlq_age_s

  # The consumer of a completion ruleset's queue is outside of this stack, and may not exist.
  queues = {
    for name, ruleset in var.rulesets : name => {
      name             = module.rulesets[name].queue_name
      oldest_message_s = ruleset.image_uri != null ? var.alarms.oldest_message_s : var.alarms.oldest_completion_message_s
      idle_hours = (
        ruleset.image_uri == null && startswith(local.complete_prefix, trimprefix(ruleset.prefix, "/"))
        ? var.alarms.no_completion_hours : null
      )
    }
  }

  functions          = { for name in keys(local.functions) : name => module.rulesets[name].function_name }
  function_errors    = var.alarms.function_errors
  function_throttles = var.alarms.function_throttles
}
