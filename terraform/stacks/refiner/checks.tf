# Warnings about configurations that are valid but probably a mistake.

check "completions_are_queued" {
  assert {
    condition = anytrue([
      for ruleset in var.rulesets :
      ruleset.image_uri == null && startswith(local.complete_prefix, trimprefix(ruleset.prefix, "/"))
    ])
    error_message = "No ruleset without image_uri covers ${local.complete_prefix}, so no queue receives the functions' completions."
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
