output "region" {
  description = "AWS region of the stack."
  value       = data.aws_region.current.id
}

output "bucket" {
  description = "Name of the bucket."
  value       = module.data_repository.bucket
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = module.data_repository.arn
}

output "bus_name" {
  description = "Name of the custom event bus."
  value       = module.event_bus.name
}

output "bus_arn" {
  description = "ARN of the custom event bus."
  value       = module.event_bus.arn
}

output "forward_rule_name" {
  description = "Name of the rule on the default event bus that forwards the bucket's events to the custom bus."
  value       = module.event_bus.forward_rule_name
}

output "forward_rule_arn" {
  description = "ARN of the forwarding rule."
  value       = module.event_bus.forward_rule_arn
}

output "forward_dlq_name" {
  description = "Name of the dead-letter queue for events that could not be forwarded to the custom bus."
  value       = module.event_bus.delivery_dlq_name
}

output "forward_dlq_url" {
  description = "URL of the dead-letter queue for events that could not be forwarded to the custom bus."
  value       = module.event_bus.delivery_dlq_url
}

output "forward_dlq_arn" {
  description = "ARN of the dead-letter queue for events that could not be forwarded to the custom bus."
  value       = module.event_bus.delivery_dlq_arn
}

output "output_prefix" {
  description = "Prefix of the functions' outputs, without leading slash."
  value       = local.output_prefix
}

output "complete_prefix" {
  description = "Prefix of the functions' completions, without leading slash."
  value       = local.complete_prefix
}

output "rulesets" {
  description = "Rulesets by name: prefix, image and the names, ARNs and URLs of their resources. Attributes of a function are null in a completion ruleset."
  value = {
    for name, ruleset in module.rulesets : name => {
      prefix                  = ruleset.prefix
      output_prefix           = ruleset.output_prefix
      complete_prefix         = ruleset.complete_prefix
      complete_suffix         = ruleset.complete_suffix
      read_access             = ruleset.read_access
      read_kms_key_arns       = ruleset.read_kms_key_arns
      image_uri               = ruleset.image_uri
      rule_name               = ruleset.rule_name
      rule_arn                = ruleset.rule_arn
      queue_name              = ruleset.queue_name
      queue_url               = ruleset.queue_url
      queue_arn               = ruleset.queue_arn
      dlq_name                = ruleset.dlq_name
      dlq_url                 = ruleset.dlq_url
      dlq_arn                 = ruleset.dlq_arn
      delivery_dlq_name       = ruleset.delivery_dlq_name
      delivery_dlq_url        = ruleset.delivery_dlq_url
      delivery_dlq_arn        = ruleset.delivery_dlq_arn
      function_name           = ruleset.function_name
      function_arn            = ruleset.function_arn
      role_arn                = ruleset.role_arn
      log_group               = ruleset.log_group
      event_source_mapping_id = ruleset.event_source_mapping_id
    }
  }
  # Each module checks its own prefix.
  precondition {
    condition     = length(local.loops) == 0
    error_message = "Outputs or completions of a function would start a function again: ${join("; ", local.loops)}. The prefixes of rulesets with an image_uri must not overlap with what the functions write."
  }
  precondition {
    condition     = length(local.shared_completions) == 0
    error_message = "Two inputs could have the same completion, and the later one would replace the other: ${join("; ", local.shared_completions)}. Give each function its own REFINER_COMPLETE_PREFIX in environment."
  }
}
