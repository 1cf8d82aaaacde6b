# Warnings about configurations that are valid but probably a mistake.

check "images_are_in_ecr" {
  assert {
    condition     = alltrue([for uri in values(local.images) : can(regex("^[0-9]{12}\\.dkr[.-]ecr", uri))])
    error_message = "Lambda runs images from ECR in its own region only, and workers have permissions to pull from ECR only. Copy the images to ECR first."
  }
}

check "aws_can_be_reached" {
  assert {
    condition     = length(var.https_egress_cidrs) > 0 || var.vpc_endpoints.enabled
    error_message = "Functions and workers cannot connect to AWS's APIs: https_egress_cidrs is empty and there are no VPC endpoints. Put the addresses of the VPC's own endpoints into https_egress_cidrs."
  }
}

check "prefixes_do_not_overlap" {
  assert {
    condition = local.input_bucket != local.output_bucket || alltrue([
      for prefix in [local.output_prefix, local.complete_prefix, local.merged_prefix] :
      !startswith(prefix, local.input_prefix) && !startswith(local.input_prefix, prefix)
    ])
    error_message = "input_prefix overlaps output_prefix, complete_prefix or merged_prefix: what the workers write would be an input again."
  }
}
