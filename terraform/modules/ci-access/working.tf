# What sync and operate change, and the boundary of the stacks' own roles.

locals {
  sync_statements = [
    { Effect = "Allow", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] }, # has no resources
    {
      Effect = "Allow"
      Action = [
        "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages", "ecr:DescribeRepositories",
        "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
      ]
      Resource = local.repositories
    },
  ]

  input_objects = concat(
    flatten([for refiner in var.refiner[*] : [for prefix in refiner.input_prefixes : "arn:${local.partition}:s3:::${refiner.bucket_name}/${trimprefix(prefix, "/")}*"]]),
    [for rnr in var.rnr[*] : "arn:${local.partition}:s3:::${rnr.input_bucket_name}/${trimprefix(rnr.input_prefix, "/")}*"],
  )

  operate_statements = concat([
    for statement in [
      { Action = ["s3:ListBucketMultipartUploads", "s3:ListBucketVersions"], Resource = local.bucket_arns },
      { Action = ["s3:GetObject", "s3:GetObjectVersion"], Resource = local.object_arns },
      { Action = ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"], Resource = local.input_objects },
      {
        # Redrive and replay: SQS's own move task has the caller's permissions on both queues.
        Action = [
          "sqs:CancelMessageMoveTask", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage",
          "sqs:StartMessageMoveTask",
        ]
        Resource = local.queues
      },
      { Action = ["logs:FilterLogEvents", "logs:GetLogEvents"], Resource = [for arn in local.log_groups : "${arn}:*"] },
      # To connect to the broker, whose queues AWS does not know.
      { Action = ["secretsmanager:GetSecretValue"], Resource = [for arn in local.secrets : arn if strcontains(arn, "-broker-")] },
    ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0
  ], local.use_keys)

  readable_objects = concat(
    local.object_arns, flatten([for refiner in var.refiner[*] : [for name in refiner.read_buckets : "arn:${local.partition}:s3:::${name}/*"]]),
  )

  boundary_statements = concat([
    for statement in [
      {
        # Without resources; the network interfaces are those of functions in a VPC.
        Action = [
          "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses", "ecr:GetAuthorizationToken",
        ]
        Resource = ["*"]
      },
      { Action = ["s3:ListBucket"], Resource = distinct([for arn in local.readable_objects : trimsuffix(arn, "/*")]) },
      { Action = ["s3:GetObject"], Resource = local.readable_objects },
      { Action = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:PutObject"], Resource = local.object_arns },
      { Action = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:SendMessage"], Resource = local.queues },
      { Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = [for arn in local.log_groups : "${arn}:*"] },
      { Action = ["events:PutEvents"], Resource = local.event_buses },
      { Action = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], Resource = local.repositories },
      { Action = ["lambda:InvokeFunction"], Resource = local.has_rnr ? ["${local.arn.lambda}:function:${var.rnr.name}-*"] : [] },
      { Action = ["ecs:DescribeServices", "ecs:GetTaskProtection", "ecs:UpdateService", "ecs:UpdateTaskProtection"], Resource = local.services },
      { Action = ["ecs:ListTasks"], Resource = local.has_rnr ? ["*"] : [], Condition = { ArnEquals = { "ecs:cluster" = local.services } } },
      { Action = ["cloudwatch:PutMetricData"], Resource = local.has_rnr ? ["*"] : [], Condition = { StringEquals = { "cloudwatch:namespace" = "rnr" } } },
      { Action = ["secretsmanager:GetSecretValue"], Resource = local.secrets },
      { Action = ["ssm:GetParameter", "ssm:PutParameter"], Resource = local.parameters },
    ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0
  ], local.use_keys)
}
