# Warnings about configurations that are valid but probably a mistake.

locals {
  unqueued_completions = [
    for prefix in distinct(concat([local.complete_prefix], [for name in keys(local.functions) : module.rulesets[name].complete_prefix])) :
    prefix if !anytrue([
      for ruleset in var.rulesets : ruleset.image_uri == null && startswith(prefix, trimprefix(ruleset.prefix, "/"))
    ])
  ]
}

check "completions_are_queued" {
  assert {
    condition     = length(local.unqueued_completions) == 0
    error_message = "No ruleset without image_uri covers ${join(" and ", local.unqueued_completions)}, so no queue receives these completions."
  }
}

check "images_are_in_ecr" {
  assert {
    condition = alltrue([
      for ruleset in local.functions :
      can(regex("^[0-9]{12}\\.dkr[.-]ecr", ruleset.image_uri)) || !can(regex("^(?:[^/]*[.:][^/]*|localhost)/", ruleset.image_uri))
    ])
    error_message = "Lambda runs images from ECR in its own region only. Copy the image to ECR first, and name that repository in image_uri."
  }
}
