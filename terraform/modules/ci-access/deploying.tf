# What `terraform apply` changes. The actions are those of the provider; see "How the actions were found" in the README.

locals {
  aws_policies = [
    for name in ["AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole"] :
    "arn:${local.partition}:iam::aws:policy/service-role/${name}"
  ]
  vpc_arns = [for rnr in var.rnr[*] : "${local.arn.ec2}:vpc/${rnr.vpc_id}"]
  in_vpc   = { ArnEquals = { "ec2:Vpc" = local.vpc_arns } }

  created_buckets = distinct(concat(
    [for refiner in var.refiner[*] : refiner.bucket_name if refiner.create_bucket], flatten([for rnr in var.rnr[*] : compact([rnr.input_bucket_name, rnr.output_bucket_name]) if rnr.create_buckets]),
  ))
  created_bucket_arns = [for name in local.created_buckets : "arn:${local.partition}:s3:::${name}"]

  deploy_data_statements = [
    for statement in [
      {
        Action = [
          "s3:CreateBucket", "s3:DeleteBucketPolicy", "s3:PutBucketLogging", "s3:PutBucketNotification", "s3:PutBucketOwnershipControls",
          "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock", "s3:PutBucketTagging", "s3:PutBucketVersioning", "s3:PutEncryptionConfiguration",
          "s3:PutLifecycleConfiguration", "s3:TagResource", "s3:UntagResource",
        ]
        Resource = local.created_bucket_arns
      },
      {
        Action   = ["s3:PutBucketNotification"]
        Resource = [for refiner in var.refiner[*] : "arn:${local.partition}:s3:::${refiner.bucket_name}" if refiner.manage_bucket_notifications]
      },
      {
        Action = [
          "ecr:CreateRepository", "ecr:DeleteLifecyclePolicy", "ecr:DeleteRepositoryPolicy", "ecr:PutImageScanningConfiguration",
          "ecr:PutImageTagMutability", "ecr:PutLifecyclePolicy", "ecr:SetRepositoryPolicy", "ecr:TagResource", "ecr:UntagResource",
        ]
        Resource = local.repositories
      },
      {
        Action    = ["kms:CreateGrant"]
        Resource  = sort(var.kms_key_arns)
        Condition = { Bool = { "kms:GrantIsForAWSResource" = "true" } }
      },
      # force_destroy removes all versions first.
      { Action = ["s3:DeleteBucket", "s3:ListBucketVersions"], Resource = var.allow_destroy ? local.created_bucket_arns : [] },
      { Action = ["s3:DeleteObject", "s3:DeleteObjectVersion"], Resource = var.allow_destroy ? [for arn in local.created_bucket_arns : "${arn}/*"] : [] },
      { Action = ["ecr:BatchDeleteImage", "ecr:DeleteRepository", "ecr:ListImages"], Resource = var.allow_destroy ? local.repositories : [] },
    ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0
  ]

  deploy_statements = [
    for statement in [
      {
        Action   = ["events:CreateEventBus", "events:DeleteEventBus", "events:TagResource", "events:UntagResource", "events:UpdateEventBus"]
        Resource = local.event_buses
      },
      {
        Action = [
          "events:DeleteRule", "events:DisableRule", "events:EnableRule", "events:PutRule", "events:PutTargets", "events:RemoveTargets",
          "events:TagResource", "events:UntagResource",
        ]
        Resource = local.event_rules
      },
      {
        Action   = ["sqs:CreateQueue", "sqs:DeleteQueue", "sqs:SetQueueAttributes", "sqs:TagQueue", "sqs:UntagQueue"]
        Resource = local.queues
      },
      {
        Action = [
          "lambda:CreateFunction", "lambda:DeleteFunction", "lambda:DeleteFunctionConcurrency", "lambda:DeleteFunctionEventInvokeConfig",
          "lambda:PutFunctionConcurrency", "lambda:PutFunctionEventInvokeConfig", "lambda:TagResource", "lambda:UntagResource",
          "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration", "lambda:UpdateFunctionEventInvokeConfig",
        ]
        Resource = local.functions
      },
      {
        # A mapping's ARN has an ID only.
        Action    = ["lambda:CreateEventSourceMapping", "lambda:DeleteEventSourceMapping", "lambda:UpdateEventSourceMapping"]
        Resource  = ["*"]
        Condition = { ArnLike = { "lambda:FunctionArn" = local.functions } }
      },
      { Action = ["lambda:TagResource", "lambda:UntagResource"], Resource = ["${local.arn.lambda}:event-source-mapping:*"] },
      {
        Action = [
          "logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteRetentionPolicy", "logs:DisassociateKmsKey",
          "logs:PutRetentionPolicy", "logs:TagResource", "logs:UntagResource",
        ]
        Resource = local.log_groups
      },
      {
        Action   = ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource"]
        Resource = local.alarms
      },
    ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0
  ]

  # A role that deploy creates or changes has the boundary, so it can never do more than that, whatever policies it gets.
  bounded = { StringEquals = { "iam:PermissionsBoundary" = local.boundary_arn } }

  deploy_role_statements = [
    for statement in [
      {
        Action = [
          "iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy",
          "iam:UpdateAssumeRolePolicy", "iam:UpdateRole", "iam:UpdateRoleDescription",
        ]
        Resource  = local.roles
        Condition = local.bounded
      },
      {
        Action    = ["iam:AttachRolePolicy", "iam:DetachRolePolicy"]
        Resource  = local.roles
        Condition = merge(local.bounded, { ArnEquals = { "iam:PolicyARN" = local.aws_policies } })
      },
      { Action = ["iam:TagRole", "iam:UntagRole"], Resource = local.roles },
      {
        Action   = ["iam:PassRole"]
        Resource = local.roles
        Condition = {
          StringEquals = {
            "iam:PassedToService" = concat(["events.amazonaws.com", "lambda.amazonaws.com"], local.has_rnr ? ["ecs-tasks.amazonaws.com", "scheduler.amazonaws.com"] : [])
          }
        }
      },
      {
        # The services create theirs in an account that never used them.
        Action    = ["iam:CreateServiceLinkedRole"]
        Resource  = local.has_rnr ? ["${local.iam_arn}:role/aws-service-role/*"] : []
        Condition = { StringEquals = { "iam:AWSServiceName" = ["ecs.amazonaws.com", "elasticache.amazonaws.com", "mq.amazonaws.com"] } }
      },
    ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0
  ]

  deploy_rnr_statements = [
    for statement in [
      {
        Action = [
          "scheduler:CreateSchedule", "scheduler:CreateScheduleGroup", "scheduler:DeleteSchedule", "scheduler:DeleteScheduleGroup",
          "scheduler:TagResource", "scheduler:UntagResource", "scheduler:UpdateSchedule",
        ]
        Resource = local.schedules
      },
      {
        Action = [
          "ecs:CreateCluster", "ecs:CreateService", "ecs:DeleteCluster", "ecs:DeleteService", "ecs:RegisterTaskDefinition", "ecs:TagResource",
          "ecs:UntagResource", "ecs:UpdateCluster", "ecs:UpdateClusterSettings", "ecs:UpdateService",
        ]
        Resource = local.services
      },
      { Action = ["mq:CreateBroker"], Resource = ["*"] }, # has no resources
      { Action = ["mq:CreateTags", "mq:DeleteTags", "mq:RebootBroker", "mq:UpdateBroker"], Resource = local.brokers },
      {
        Action = [
          "elasticache:AddTagsToResource", "elasticache:CreateCacheSubnetGroup", "elasticache:CreateReplicationGroup",
          "elasticache:DecreaseReplicaCount", "elasticache:DeleteCacheSubnetGroup", "elasticache:IncreaseReplicaCount",
          "elasticache:ModifyCacheSubnetGroup", "elasticache:ModifyReplicationGroup", "elasticache:RemoveTagsFromResource",
        ]
        Resource = concat(local.caches, ["${local.arn.elasticache}:parametergroup:default.*"])
      },
      {
        Action = [
          "secretsmanager:CreateSecret", "secretsmanager:DeleteSecret", "secretsmanager:PutSecretValue", "secretsmanager:TagResource",
          "secretsmanager:UntagResource", "secretsmanager:UpdateSecret", "secretsmanager:UpdateSecretVersionStage",
        ]
        Resource = local.secrets
      },
      { Action = ["ssm:AddTagsToResource", "ssm:DeleteParameter", "ssm:PutParameter", "ssm:RemoveTagsFromResource"], Resource = local.parameters },
      # Security groups have no names in ARNs: those of the VPC.
      { Action = ["ec2:CreateSecurityGroup"], Resource = concat(local.vpc_arns, ["${local.arn.ec2}:security-group/*"]) },
      {
        Action = [
          "ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteSecurityGroup", "ec2:DeleteTags",
          "ec2:ModifySecurityGroupRules", "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress",
        ]
        Resource  = ["${local.arn.ec2}:security-group/*"]
        Condition = local.in_vpc
      },
      {
        Action = [
          "ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteTags", "ec2:ModifySecurityGroupRules",
        ]
        Resource = ["${local.arn.ec2}:security-group-rule/*"]
      },
      { Action = ["ec2:CreateTags"], Resource = [for kind in ["security-group", "security-group-rule", "vpc-endpoint"] : "${local.arn.ec2}:${kind}/*"] },
      # Amazon MQ makes the broker's network interfaces as its caller.
      {
        Action    = ["ec2:CreateNetworkInterface"]
        Resource  = [for kind in ["network-interface", "security-group", "subnet"] : "${local.arn.ec2}:${kind}/*"]
        Condition = local.in_vpc
      },
      {
        Action    = ["ec2:CreateNetworkInterfacePermission"]
        Resource  = ["${local.arn.ec2}:network-interface/*"]
        Condition = { StringEquals = { "ec2:AuthorizedService" = "mq.amazonaws.com" } }
      },
      {
        Action   = ["ec2:CreateVpcEndpoint", "ec2:DeleteVpcEndpoints", "ec2:ModifyVpcEndpoint"]
        Resource = local.has_endpoints ? concat(local.vpc_arns, [for kind in ["route-table", "security-group", "subnet", "vpc-endpoint"] : "${local.arn.ec2}:${kind}/*"]) : []
      },
      { Action = ["mq:DeleteBroker"], Resource = var.allow_destroy ? local.brokers : [] },
      { Action = ["elasticache:DeleteReplicationGroup"], Resource = var.allow_destroy ? local.caches : [] },
    ] : merge({ Effect = "Allow" }, statement) if local.has_rnr && length(statement.Resource) > 0
  ]
  has_endpoints = anytrue(var.rnr[*].vpc_endpoints)
}
