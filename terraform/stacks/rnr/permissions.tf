# What each role may do: statements of its policy.

locals {
  arn_suffix = "${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}"
  partition  = data.aws_partition.current.partition
  dns_suffix = data.aws_partition.current.dns_suffix

  input_bucket_arn  = "arn:${local.partition}:s3:::${local.input_bucket}"
  output_bucket_arn = "arn:${local.partition}:s3:::${local.output_bucket}"

  read_secret = {
    for name, arn in { broker = module.broker.secret_arn, cache = module.cache.secret_arn } :
    name => { Action = ["secretsmanager:GetSecretValue"], Resource = [arn] }
  }

  # No condition on s3:prefix: with one, S3 answers 403 instead of 404 for an object that does not exist.
  list_input  = { Action = ["s3:ListBucket"], Resource = [local.input_bucket_arn] }
  list_output = { Action = ["s3:ListBucket"], Resource = [local.output_bucket_arn] }

  # Only for what the service reads or writes for the role.
  kms_buckets = [
    for arns in [var.kms_key_arns.buckets] : {
      Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = arns
      Condition = { StringEquals = { "kms:ViaService" = ["s3.${data.aws_region.current.id}.${local.dns_suffix}"] } }
    } if length(arns) > 0
  ]
  kms_secrets = [
    for arn in var.kms_key_arns.secrets[*] : {
      Action    = ["kms:Decrypt"]
      Resource  = [arn]
      Condition = { StringEquals = { "kms:ViaService" = ["secretsmanager.${data.aws_region.current.id}.${local.dns_suffix}"] } }
    }
  ]

  producer_statements = concat(
    [local.list_input, local.read_secret.broker, local.read_secret.cache],
    # A feed's products are written as inputs, unless they exist.
    [
      for feed in var.producer.feed_url[*] :
      { Action = ["s3:GetObject", "s3:PutObject"], Resource = ["${local.input_bucket_arn}/${local.input_prefix}*"] }
    ],
    local.kms_buckets, local.kms_secrets,
  )

  worker_statements = concat(
    distinct([local.list_input, local.list_output]),
    [
      { Action = ["s3:GetObject"], Resource = ["${local.input_bucket_arn}/${local.input_prefix}*"] },
      {
        # Reads the completion of an earlier delivery, and what S3 has of an output.
        Action = ["s3:GetObject", "s3:PutObject"]
        Resource = [
          for prefix in [local.output_prefix, local.complete_prefix] : "${local.output_bucket_arn}/${prefix}*"
        ]
      },
      # Gives up an upload of many parts.
      { Action = ["s3:AbortMultipartUpload"], Resource = ["${local.output_bucket_arn}/${local.output_prefix}*"] },
      local.read_secret.broker,
    ],
    local.kms_buckets, local.kms_secrets,
  )

  postprocess_statements = concat(
    [
      local.list_output,
      {
        Action = ["s3:GetObject"]
        Resource = [
          for prefix in [local.output_prefix, local.complete_prefix] : "${local.output_bucket_arn}/${prefix}*"
        ]
      },
      {
        # Deletes files of a run that has not committed.
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
        Resource = ["${local.output_bucket_arn}/${local.merged_prefix}*"]
      },
    ],
    local.kms_buckets,
  )

  cluster_arn = "arn:${local.partition}:ecs:${local.arn_suffix}:cluster/${local.name}"

  autoscaler_statements = concat(
    [
      local.read_secret.broker,
      {
        Action   = ["ecs:DescribeServices", "ecs:UpdateService"]
        Resource = ["arn:${local.partition}:ecs:${local.arn_suffix}:service/${local.name}/${local.worker_name}"]
      },
      {
        Action   = ["ecs:GetTaskProtection"]
        Resource = ["arn:${local.partition}:ecs:${local.arn_suffix}:task/${local.name}/*"]
      },
      {
        # Has container instances as resources, of which Fargate has none.
        Action    = ["ecs:ListTasks"]
        Resource  = ["*"]
        Condition = { ArnEquals = { "ecs:cluster" = [local.cluster_arn] } }
      },
      {
        Action    = ["cloudwatch:PutMetricData"] # has no resources
        Resource  = ["*"]
        Condition = { StringEquals = { "cloudwatch:namespace" = [local.metrics_namespace] } }
      },
      {
        Action   = ["ssm:GetParameter", "ssm:PutParameter"]
        Resource = ["arn:${local.partition}:ssm:${local.arn_suffix}:parameter${aws_ssm_parameter.autoscaler.name}"]
      },
    ],
    local.kms_secrets,
  )
}
