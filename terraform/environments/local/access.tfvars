# For tests of the roles; nothing in the local environment uses them.
name         = "ci-local"
project_path = "example-group/refiner"

state        = { bucket = "terraform-state" }
repositories = ["dibbs-ecr-refiner/lambda", "rnr/producer", "rnr/worker", "rnr/autoscaler", "rnr/postprocess"]

refiner = { bucket_name = "data-repository" }
rnr     = { name = "rnr-local", vpc_id = "vpc-00000001", input_bucket_name = "rnr-data", create_buckets = true }
