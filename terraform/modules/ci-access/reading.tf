# Names and ARNs of the stacks' resources, and the statements with which jobs read them.

locals {
  has_rnr       = var.rnr != null
  name_prefixes = concat(var.refiner[*].name_prefix, var.rnr[*].name)

  # Names are unknown to IAM: prefixes of ARNs are all that it can compare.
  arn = {
    for service in [
      "cloudwatch", "ec2", "ecr", "ecs", "elasticache", "events", "lambda", "logs", "mq", "scheduler", "secretsmanager", "sns", "sqs", "ssm",
    ] : service => "arn:${local.partition}:${service}:${local.region}:${local.account_id}"
  }
  iam_arn      = "arn:${local.partition}:iam::${local.account_id}"
  boundary_arn = "${local.iam_arn}:policy/${var.name}-boundary"

  functions = [for prefix in local.name_prefixes : "${local.arn.lambda}:function:${prefix}-*"]
  queues    = [for prefix in local.name_prefixes : "${local.arn.sqs}:${prefix}-*"]
  alarms    = [for prefix in local.name_prefixes : "${local.arn.cloudwatch}:alarm:${prefix}-*"]
  roles     = [for prefix in local.name_prefixes : "${local.iam_arn}:role/${prefix}-*"]
  log_groups = concat(
    [for prefix in local.name_prefixes : "${local.arn.logs}:log-group:/aws/lambda/${prefix}-*"],
    [for rnr in var.rnr[*] : "${local.arn.logs}:log-group:/aws/ecs/${rnr.name}-*"],
  )
  repositories = [for name in sort(var.repositories) : "${local.arn.ecr}:repository/${name}"]
  event_buses  = [for refiner in var.refiner[*] : "${local.arn.events}:event-bus/${refiner.bus_name}"]
  event_rules = flatten([
    for refiner in var.refiner[*] : [
      "${local.arn.events}:rule/${refiner.name_prefix}-*", "${local.arn.events}:rule/${refiner.bus_name}/${refiner.name_prefix}-*",
    ]
  ])
  schedules = flatten([
    for rnr in var.rnr[*] : ["${local.arn.scheduler}:schedule-group/${rnr.name}", "${local.arn.scheduler}:schedule/${rnr.name}/*"]
  ])
  secrets    = flatten([for rnr in var.rnr[*] : [for kind in ["broker", "cache"] : "${local.arn.secretsmanager}:secret:${rnr.name}-${kind}-*"]])
  parameters = [for rnr in var.rnr[*] : "${local.arn.ssm}:parameter/${rnr.name}/*"]
  services = flatten([
    for rnr in var.rnr[*] : [
      "${local.arn.ecs}:cluster/${rnr.name}", "${local.arn.ecs}:service/${rnr.name}/*", "${local.arn.ecs}:task/${rnr.name}/*",
      "${local.arn.ecs}:task-definition/${rnr.name}-*:*",
    ]
  ])
  brokers = [for rnr in var.rnr[*] : "${local.arn.mq}:broker:${rnr.name}-broker:*"]
  caches = flatten([
    for rnr in var.rnr[*] : [for kind in ["replicationgroup", "cluster", "subnetgroup"] : "${local.arn.elasticache}:${kind}:${rnr.name}-cache*"]
  ])

  bucket_names  = distinct(compact(concat(var.refiner[*].bucket_name, var.rnr[*].input_bucket_name, var.rnr[*].output_bucket_name)))
  bucket_arns   = [for name in local.bucket_names : "arn:${local.partition}:s3:::${name}"]
  object_arns   = [for arn in local.bucket_arns : "${arn}/*"]
  state_bucket  = "arn:${local.partition}:s3:::${var.state.bucket}"
  state_stacks  = concat(["registry"], [for _ in var.refiner[*] : "refiner"], [for _ in var.rnr[*] : "rnr"])
  state_objects = [for stack in local.state_stacks : "${local.state_bucket}/${stack}/terraform"]

  # Only for what these services read or write for a job.
  via_services = {
    StringEquals = { "kms:ViaService" = [for name in ["s3", "secretsmanager", "sqs"] : "${name}.${local.region}.${local.dns_suffix}"] }
  }
  use_keys = [
    for arns in [sort(var.kms_key_arns)] : {
      Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = arns, Condition = local.via_services
    } if length(arns) > 0
  ]

  # What the provider reads of each resource, and what verify and status look at. No objects, messages or secrets.
  read_statements = [
    for statement in [
      {
        # Without resources, or with resources that have no name.
        Action = [
          "cloudwatch:GetMetricData", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroupRules", "ec2:DescribeSecurityGroups",
          "ec2:DescribeSubnets", "ec2:DescribeVpcs", "ecr:GetAuthorizationToken", "events:ListRuleNamesByTarget", "events:ListRules",
          "lambda:GetAccountSettings", "lambda:GetEventSourceMapping", "lambda:ListEventSourceMappings", "lambda:ListFunctions",
          "logs:DescribeLogGroups", "sqs:ListQueues",
        ]
        Resource = ["*"]
      },
      {
        Action = [
          "s3:GetAccelerateConfiguration", "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration",
          "s3:GetReplicationConfiguration", "s3:ListBucket", "s3:ListTagsForResource",
        ]
        Resource = local.bucket_arns
      },
      {
        Action = [
          "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:GetDownloadUrlForLayer",
          "ecr:GetLifecyclePolicy", "ecr:GetRepositoryPolicy", "ecr:ListTagsForResource",
        ]
        Resource = local.repositories
      },
      { Action = ["cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource"], Resource = local.alarms },
      { Action = ["events:DescribeEventBus"], Resource = ["${local.arn.events}:event-bus/default"] },
      { Action = ["events:DescribeEventBus", "events:ListTagsForResource"], Resource = local.event_buses },
      { Action = ["events:DescribeRule", "events:ListTagsForResource", "events:ListTargetsByRule"], Resource = local.event_rules },
      {
        Action   = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies"]
        Resource = local.roles
      },
      { Action = ["iam:GetPolicy", "iam:GetPolicyVersion"], Resource = concat([local.boundary_arn], local.aws_policies) },
      { Action = ["kms:DescribeKey", "kms:GetKeyPolicy"], Resource = sort(var.kms_key_arns) },
      {
        Action   = ["lambda:GetFunction*", "lambda:ListAliases", "lambda:ListTags", "lambda:ListVersionsByFunction"]
        Resource = local.functions
      },
      { Action = ["lambda:ListTags"], Resource = ["${local.arn.lambda}:event-source-mapping:*"] },
      { Action = ["logs:ListTagsForResource", "logs:ListTagsLogGroup"], Resource = local.log_groups },
      { Action = ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic"], Resource = ["${local.arn.sns}:*"] },
      { Action = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListDeadLetterSourceQueues", "sqs:ListMessageMoveTasks", "sqs:ListQueueTags"], Resource = local.queues },
    ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0
  ]

  read_rnr_statements = [
    for statement in [
      {
        Action = [
          "ec2:DescribePrefixLists", "ec2:DescribeRouteTables", "ec2:DescribeVpcAttribute", "ec2:DescribeVpcEndpoints",
          "ecs:DescribeTaskDefinition", "ecs:ListTasks", "mq:ListBrokers", "ssm:DescribeParameters",
        ]
        Resource = local.has_rnr ? ["*"] : []
      },
      { Action = ["ecs:DescribeClusters", "ecs:DescribeServices", "ecs:DescribeTasks", "ecs:GetTaskProtection", "ecs:ListTagsForResource"], Resource = local.services },
      { Action = ["elasticache:Describe*", "elasticache:ListTagsForResource"], Resource = local.caches },
      { Action = ["mq:DescribeBroker", "mq:DescribeUser", "mq:ListTags"], Resource = local.brokers },
      { Action = ["scheduler:GetSchedule", "scheduler:GetScheduleGroup", "scheduler:ListTagsForResource"], Resource = local.schedules },
      { Action = ["secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy", "secretsmanager:ListSecretVersionIds"], Resource = local.secrets },
      { Action = ["ssm:GetParameter", "ssm:GetParameters", "ssm:ListTagsForResource"], Resource = local.parameters },
    ] : merge({ Effect = "Allow" }, statement) if length(statement.Resource) > 0
  ]

  # The provider reads the first version of each secret for a plan, too; IAM cannot tell versions from each other.
  secret_statements = concat(
    [for arns in [local.secrets] : { Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = arns } if length(arns) > 0],
    local.use_keys,
  )

  # The state, and the list of releases beside it.
  state_read_statements = concat(
    [
      { Effect = "Allow", Action = ["s3:ListBucket"], Resource = [local.state_bucket] },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = flatten([for object in local.state_objects : ["${object}.tfstate", "${object}.releases.json"]])
      },
    ],
    [
      for arn in var.state.kms_key_arn[*] :
      { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [arn], Condition = local.via_services }
    ],
  )
  state_lock_statements = [{
    Effect   = "Allow"
    Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    Resource = [for object in local.state_objects : "${object}.tfstate.tflock"]
  }]
  state_write_statements = [{
    Effect   = "Allow"
    Action   = ["s3:PutObject"]
    Resource = flatten([for object in local.state_objects : ["${object}.tfstate", "${object}.releases.json"]])
  }]
}
