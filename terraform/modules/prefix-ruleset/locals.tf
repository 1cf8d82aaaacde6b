# Computed from the variables and the account. tests/locals has a link to this file, and tests it without a provider.

locals {
  prefix = trimprefix(var.prefix, "/") # S3 keys have no leading slash.

  environment = merge(
    {
      REFINER_INPUT_PREFIX    = "/${local.prefix}"
      REFINER_OUTPUT_PREFIX   = "/${trimprefix(var.output_prefix, "/")}"
      REFINER_COMPLETE_PREFIX = "/${trimprefix(var.complete_prefix, "/")}"
    },
    { for suffix in [var.complete_suffix] : "REFINER_COMPLETE_SUFFIX" => suffix if suffix != ".json" },
    var.environment
  )

  # The function writes where its environment says, so its role follows that.
  output_prefix   = trimprefix(local.environment.REFINER_OUTPUT_PREFIX, "/")
  complete_prefix = trimprefix(local.environment.REFINER_COMPLETE_PREFIX, "/")

  # What the function writes below these would invoke it again.
  loops = [
    for result in [local.output_prefix, local.complete_prefix] : result
    if startswith(result, local.prefix) || startswith(local.prefix, result)
  ]

  # As <bucket>/<prefix>.
  read_access = [
    for item in var.read_access :
    startswith(item, "s3://") ? trimprefix(item, "s3://") : "${var.bucket}/${trimprefix(item, "/")}"
  ]

  # ARNs are built from names if the attribute would create a cycle, or make one SQS queue wait for another: the
  # provider spends about 25 seconds on each level of queues.
  bucket_arn       = "arn:${local.partition}:s3:::${var.bucket}"
  rule_arn         = "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/${var.bus_name}/${var.name}"
  sqs_arn_prefix   = "arn:${local.partition}:sqs:${local.region}:${local.account_id}"
  queue_arn        = "${local.sqs_arn_prefix}:${var.name}"
  delivery_dlq_arn = "${local.sqs_arn_prefix}:${local.delivery_dlq_name}"

  dlq_name          = "${var.name}-dlq"
  delivery_dlq_name = "${var.name}-delivery-dlq"

  visibility_timeout_s = coalesce(var.visibility_timeout_s, min(6 * var.timeout_s, 43200))

  event_pattern = {
    source        = ["aws.s3"]
    "detail-type" = ["Object Created"]
    detail = {
      bucket = { name = [var.bucket] }
      object = { key = [{ prefix = local.prefix }] }
    }
  }

  # Only the rule may send. The dead-letter queue of the queue needs no policy: SQS itself moves messages there.
  queue_policy = {
    for queue_arn in [local.queue_arn, local.delivery_dlq_arn] : queue_arn => {
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = queue_arn
        Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arn } }
      }]
    }
  }

  has_function = var.image_uri != null

  # As in Docker's references, a first component with a dot or a colon, or "localhost", is a registry.
  image = local.has_function ? regex(
    "^(?:(?P<registry>[^/]*[.:][^/]*|localhost)/)?(?P<repository>[^:@]+)(?::(?P<tag>[^@]+)|@(?P<digest>.+))?$",
    var.image_uri
  ) : null

  registry = "${local.account_id}.dkr.ecr.${local.region}.${local.dns_suffix}"

  # Empty without a tag or digest, which a precondition of the function rejects.
  image_version = local.has_function ? try("@${local.image.digest}", ":${local.image.tag}", ":${var.release_tag}", "") : null

  image_uri = local.has_function ? join("", [
    coalesce(local.image.registry, local.registry), "/", local.image.repository, local.image_version,
  ]) : null

  assume_role_policy = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
    }]
  }

  s3_read_statement = {
    Effect   = "Allow"
    Action   = ["s3:GetObject"]
    Resource = [for path in local.read_access : "arn:${local.partition}:s3:::${path}*"]
  }

  # Only for what the service reads or writes for the function. A key is in the region of what it encrypts.
  kms_statements = [
    for grant in [
      { service = "s3", actions = ["kms:Decrypt"], key_arns = var.read_kms_key_arns },
      { service = "s3", actions = ["kms:Decrypt", "kms:GenerateDataKey"], key_arns = var.bucket_kms_key_arn[*] },
      { service = "sqs", actions = ["kms:Decrypt"], key_arns = var.queue_kms_key_arn[*] },
      ] : {
      Effect   = "Allow"
      Action   = grant.actions
      Resource = grant.key_arns
      Condition = {
        StringEquals = {
          "kms:ViaService" = distinct([
            for arn in grant.key_arns :
            "${grant.service}.${split(":", arn)[3]}.${local.dns_suffix}"
          ])
        }
      }
    } if length(grant.key_arns) > 0
  ]

  function_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Effect = "Allow"
          Action = ["s3:GetObject", "s3:PutObject"]
          Resource = [
            for prefix in [local.prefix, local.output_prefix, local.complete_prefix] : "${local.bucket_arn}/${prefix}*"
          ]
        },
        {
          # No condition on s3:prefix: with one, S3 answers 403 instead of 404 for an object that does not exist.
          Effect = "Allow"
          Action = ["s3:ListBucket"]
          Resource = distinct([
            for path in concat(["${var.bucket}/"], local.read_access) :
            "arn:${local.partition}:s3:::${split("/", path)[0]}"
          ])
        },
        {
          Effect   = "Allow"
          Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
          Resource = [local.queue_arn]
        },
      ],
      # An empty list of resources is not a valid statement.
      [for statement in [local.s3_read_statement] : statement if length(var.read_access) > 0],
      local.kms_statements,
    )
  }

  managed_policies = local.has_function ? toset([
    "AWSLambdaBasicExecutionRole",
    "AWSLambdaVPCAccessExecutionRole",
  ]) : toset([])
}
