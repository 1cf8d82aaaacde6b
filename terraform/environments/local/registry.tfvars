force_delete = true

repositories = [
  "dibbs-ecr-refiner/lambda",
  "rnr/producer",
  "rnr/worker",
  "rnr/autoscaler",
  "rnr/postprocess",
]
