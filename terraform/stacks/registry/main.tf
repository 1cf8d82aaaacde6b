module "repositories" {
  source   = "../../modules/ecr-repository"
  for_each = var.repositories

  name                 = each.value
  untagged_expiry_days = var.untagged_expiry_days
  kms_key_arn          = var.kms_key_arn
  force_delete         = var.force_delete
}
