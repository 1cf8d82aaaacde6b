# An example: replace the values by your own.

region = "us-east-1"

repositories = [
  "dibbs-ecr-refiner/lambda",
  "rnr/producer",
  "rnr/worker",
  "rnr/autoscaler",
  "rnr/postprocess",
]

# A key of your own instead of ECR's AES-256. A later change replaces the repositories.
# kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"

tags = {
  Service     = "dibbs-ecr-refiner"
  Environment = "production"
}
