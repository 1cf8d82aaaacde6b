"""Each role of stack `access` can do what its jobs do, and is refused one step beyond."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.access.roles import ACCOUNT, PROVIDER, Roles

CALLS = json.loads((Path(__file__).parents[2] / "fixtures" / "provider-calls.json").read_text())
READING = ("Get", "List", "Describe")
# What the provider deletes of a stack that is destroyed, and what holds data.
DATA = {
    "s3:DeleteBucket",
    "s3:DeleteObject",
    "s3:ListBucketVersions",
    "ecr:DeleteRepository",
    "mq:DeleteBroker",
    "elasticache:DeleteReplicationGroup",
}
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/ci-local-boundary"
REPOSITORY = "repository/rnr/worker"
FUNCTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/dibbs-ecr-RefinerInput"
QUEUE = "dibbs-ecr-RefinerInput"
STATE = "arn:aws:s3:::terraform-state"
PUSH = (
    "BatchCheckLayerAvailability",
    "BatchGetImage",
    "CompleteLayerUpload",
    "DescribeImages",
    "DescribeRepositories",
    "GetDownloadUrlForLayer",
    "InitiateLayerUpload",
    "PutImage",
    "UploadLayerPart",
)


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:us-east-1:{ACCOUNT}:{rest}"


def denied(roles: Roles, role: str, calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [call for call in calls if not roles.may(role, *call)]


def allowed(roles: Roles, role: str, calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [call for call in calls if roles.may(role, *call)]


# Who may assume a role


def claims(ref: str = "branch:ref:main", project: str = "example-group/refiner", **other: str) -> dict[str, str]:
    """Claims of a job's token in GitLab's default form of `sub`."""
    return {"aud": "https://gitlab.com", "sub": f"project_path:{project}:ref_type:{ref}", **other}


@pytest.mark.parametrize("role", ["sync", "plan", "deploy", "operate"])
def test_a_protected_branch_and_a_protected_tag_are_trusted(roles: Roles, role: str) -> None:
    assert roles.trusts(role, claims())
    assert roles.trusts(role, claims("tag:ref:v1.2.3"))


@pytest.mark.parametrize("role", ["sync", "deploy", "operate"])
@pytest.mark.parametrize(
    "ref", ["branch:ref:feature", "branch:ref:main2", "branch:ref:v1", "tag:ref:main", "tag:ref:1"]
)
def test_an_unprotected_ref_can_plan_only(roles: Roles, role: str, ref: str) -> None:
    assert not roles.trusts(role, claims(ref))
    assert roles.trusts("plan", claims(ref))


@pytest.mark.parametrize("role", ["sync", "plan", "deploy", "operate"])
def test_other_projects_audiences_and_issuers_are_not_trusted(roles: Roles, role: str) -> None:
    for project in (
        "other-group/refiner",
        "example-group/refiner-fork",
        "example-group/refiner/sub",
        "a/example-group/refiner",
    ):
        assert not roles.trusts(role, claims(project=project)), project
    assert not roles.trusts(role, claims(aud="sts.amazonaws.com"))
    assert not roles.trusts(role, {"aud": "https://gitlab.com"})
    assert not roles.trusts(role, {"sub": claims()["sub"]})
    assert not roles.trusts(role, claims(), provider=PROVIDER.replace("gitlab.com", "gitlab.example.com"))


# sync


def test_sync_pushes_to_the_repositories_only(roles: Roles) -> None:
    pushes = [(f"ecr:{action}", arn("ecr", REPOSITORY)) for action in PUSH]
    elsewhere = [(f"ecr:{action}", arn("ecr", "repository/rnr/worker-of-others")) for action in PUSH]
    beyond = [
        ("ecr:BatchDeleteImage", arn("ecr", REPOSITORY)),
        ("ecr:CreateRepository", arn("ecr", "repository/new")),
        ("ecr:PutImageTagMutability", arn("ecr", REPOSITORY)),
        ("ecr:SetRepositoryPolicy", arn("ecr", REPOSITORY)),
        ("s3:GetObject", f"{STATE}/refiner/terraform.tfstate"),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{QUEUE}")),
    ]

    assert denied(roles, "sync", [("ecr:GetAuthorizationToken", "*"), *pushes]) == []
    assert allowed(roles, "sync", elsewhere + beyond) == []


# plan


def test_plan_reads_what_the_provider_reads_and_changes_nothing(roles: Roles) -> None:
    reads = [(action, resource) for action, resource, _ in CALLS if is_reading(action)]
    changes = [(action, resource, context) for action, resource, context in CALLS if not is_reading(action)]

    assert denied(roles, "plan", reads) == []
    assert [change for change in changes if roles.may("plan", *bounded(*change))] == []


def test_plan_reads_and_locks_the_states_of_its_stacks(roles: Roles) -> None:
    state, lock = f"{STATE}/refiner/terraform.tfstate", f"{STATE}/refiner/terraform.tfstate.tflock"
    needed = [
        ("s3:ListBucket", STATE),
        ("s3:GetObject", state),
        ("s3:GetObject", f"{STATE}/refiner/terraform.releases.json"),
        ("s3:PutObject", lock),
        ("s3:GetObject", lock),
        ("s3:DeleteObject", lock),
    ]
    beyond = [
        ("s3:PutObject", state),
        ("s3:DeleteObject", state),
        ("s3:GetObject", f"{STATE}/access/terraform.tfstate"),
        ("s3:PutObject", f"{STATE}/access/terraform.tfstate.tflock"),
        ("s3:GetObject", "arn:aws:s3:::data-repository/RefinerInput/a"),
        ("sqs:ReceiveMessage", arn("sqs", QUEUE)),
        ("logs:FilterLogEvents", arn("logs", f"log-group:/aws/lambda/{QUEUE}:*")),
    ]

    assert denied(roles, "plan", needed) == []
    assert allowed(roles, "plan", beyond) == []


# deploy


def is_reading(action: str) -> bool:
    return action.partition(":")[2].startswith(READING) and action not in DATA


def bounded(action: str, resource: str, context: dict[str, str]) -> tuple[str, str, dict[str, str]]:
    """The call on a role with the boundary: what Terraform does if `permissions_boundary` is set."""
    writes = action.startswith("iam:") and not is_reading(action) and action not in ("iam:PassRole", "iam:TagRole")
    return action, resource, {**context, **({"iam:PermissionsBoundary": BOUNDARY} if writes else {})}


def test_deploy_applies_and_removes_all_stacks_but_their_data(roles: Roles) -> None:
    refused = {
        action for action, resource, context in CALLS if not roles.may("deploy", *bounded(action, resource, context))
    }

    assert refused == {action for action, _, _ in CALLS} & DATA


def test_deploy_tags_what_it_creates(roles: Roles) -> None:
    """The tags of a stack are part of the requests that create; IAM wants a permission of its own for them."""
    created = {
        "sqs:TagQueue": arn("sqs", QUEUE),
        "events:TagResource": arn("events", f"rule/data-repository-bus/{QUEUE}"),
        "lambda:TagResource": arn("lambda", f"function:{QUEUE}"),
        "logs:TagResource": arn("logs", f"log-group:/aws/lambda/{QUEUE}"),
        "cloudwatch:TagResource": arn("cloudwatch", f"alarm:{QUEUE}-errors"),
        "iam:TagRole": FUNCTION_ROLE,
        "ecr:TagResource": arn("ecr", REPOSITORY),
        "s3:PutBucketTagging": "arn:aws:s3:::data-repository",
        "scheduler:TagResource": arn("scheduler", "schedule-group/rnr-local"),
        "ecs:TagResource": arn("ecs", "task-definition/rnr-local-worker:1"),
        "mq:CreateTags": arn("mq", "broker:rnr-local-broker:b-1"),
        "elasticache:AddTagsToResource": arn("elasticache", "replicationgroup:rnr-local-cache"),
        "secretsmanager:TagResource": arn("secretsmanager", "secret:rnr-local-broker-AbCdEf"),
        "ssm:AddTagsToResource": arn("ssm", "parameter/rnr-local/autoscaler"),
        "ec2:CreateTags": arn("ec2", "security-group/sg-1"),
    }

    assert denied(roles, "deploy", list(created.items())) == []


def test_deploy_writes_state_and_releases_but_not_those_of_access(roles: Roles) -> None:
    names = ("terraform.tfstate", "terraform.releases.json", "terraform.tfstate.tflock")
    written = [
        ("s3:PutObject", f"{STATE}/{stack}/{name}") for stack in ("registry", "refiner", "rnr") for name in names
    ]

    assert denied(roles, "deploy", written) == []
    assert allowed(roles, "deploy", [("s3:PutObject", f"{STATE}/access/{name}") for name in names]) == []
    assert not roles.may("deploy", "s3:DeleteObject", f"{STATE}/refiner/terraform.tfstate")


def test_deploy_creates_and_changes_roles_with_the_boundary_only(roles: Roles) -> None:
    policy = {"iam:PolicyARN": "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"}
    for action in ("CreateRole", "PutRolePolicy", "UpdateAssumeRolePolicy", "DeleteRole", "PutRolePermissionsBoundary"):
        with_it = {"iam:PermissionsBoundary": BOUNDARY}
        assert roles.may("deploy", f"iam:{action}", FUNCTION_ROLE, with_it), action
        assert not roles.may("deploy", f"iam:{action}", FUNCTION_ROLE), action
        assert not roles.may("deploy", f"iam:{action}", FUNCTION_ROLE, {"iam:PermissionsBoundary": f"{BOUNDARY}2"})
        assert not roles.may("deploy", f"iam:{action}", f"arn:aws:iam::{ACCOUNT}:role/ci-local-deploy", with_it), action
    assert roles.may("deploy", "iam:AttachRolePolicy", FUNCTION_ROLE, {**policy, "iam:PermissionsBoundary": BOUNDARY})
    assert not roles.may(
        "deploy",
        "iam:AttachRolePolicy",
        FUNCTION_ROLE,
        {"iam:PolicyARN": "arn:aws:iam::aws:policy/AdministratorAccess", "iam:PermissionsBoundary": BOUNDARY},
    )
    assert not roles.may(
        "deploy", "iam:DeleteRolePermissionsBoundary", FUNCTION_ROLE, {"iam:PermissionsBoundary": BOUNDARY}
    )


def test_deploy_passes_only_roles_of_the_stacks_and_only_to_their_services(roles: Roles) -> None:
    def passes(role: str, service: str) -> bool:
        return roles.may("deploy", "iam:PassRole", role, {"iam:PassedToService": service})

    assert passes(FUNCTION_ROLE, "lambda.amazonaws.com")
    assert not passes(FUNCTION_ROLE, "ec2.amazonaws.com")
    assert not passes(f"arn:aws:iam::{ACCOUNT}:role/admin", "lambda.amazonaws.com")
    assert not passes(f"arn:aws:iam::{ACCOUNT}:role/ci-local-deploy", "lambda.amazonaws.com")


def test_deploy_has_no_permission_outside_of_the_stacks(roles: Roles) -> None:
    vpc = {"ec2:Vpc": arn("ec2", "vpc/vpc-99999999")}
    beyond: list[tuple[str, str]] = [
        ("s3:DeleteBucket", "arn:aws:s3:::data-repository"),
        ("s3:PutBucketPolicy", STATE),
        ("s3:PutBucketPolicy", "arn:aws:s3:::others"),
        ("s3:GetObject", "arn:aws:s3:::data-repository/RefinerInput/a"),
        ("ecr:PutImage", arn("ecr", REPOSITORY)),
        ("ecr:CreateRepository", arn("ecr", "repository/others")),
        ("lambda:UpdateFunctionCode", arn("lambda", "function:others")),
        ("lambda:InvokeFunction", arn("lambda", f"function:{QUEUE}")),
        ("sqs:DeleteQueue", arn("sqs", "others")),
        ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:others-AbCdEf")),
        ("iam:CreatePolicyVersion", BOUNDARY),
        ("iam:DeletePolicy", BOUNDARY),
        ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/a"),
        ("iam:UpdateOpenIDConnectProviderThumbprint", PROVIDER),
        ("iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/ci-local-plan"),
    ]

    assert allowed(roles, "deploy", beyond) == []
    assert not roles.may("deploy", "ec2:DeleteSecurityGroup", arn("ec2", "security-group/sg-1"), vpc)
    others = {"lambda:FunctionArn": arn("lambda", "function:others")}
    assert not roles.may("deploy", "lambda:CreateEventSourceMapping", "*", others)


# What a role that deploy creates can do at most


def test_a_role_with_the_boundary_has_no_permission_outside_of_the_stacks(roles: Roles) -> None:
    within = [
        ("s3:PutObject", "arn:aws:s3:::data-repository/RefinerOutput/a"),
        ("sqs:ReceiveMessage", arn("sqs", QUEUE)),
        ("logs:PutLogEvents", arn("logs", f"log-group:/aws/lambda/{QUEUE}:log-stream:a")),
        ("events:PutEvents", arn("events", "event-bus/data-repository-bus")),
        ("lambda:InvokeFunction", arn("lambda", "function:rnr-local-producer")),
        ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:rnr-local-broker-AbCdEf")),
        ("ssm:PutParameter", arn("ssm", "parameter/rnr-local/autoscaler")),
        ("ecs:UpdateService", arn("ecs", "service/rnr-local/rnr-local-worker")),
        ("ecr:BatchGetImage", arn("ecr", REPOSITORY)),
    ]
    beyond = [
        ("s3:GetObject", f"{STATE}/refiner/terraform.tfstate"),
        ("s3:DeleteBucket", "arn:aws:s3:::data-repository"),
        ("iam:CreateRole", FUNCTION_ROLE),
        ("iam:PassRole", FUNCTION_ROLE),
        ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin"),
        ("ecr:PutImage", arn("ecr", REPOSITORY)),
        ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:others-AbCdEf")),
        ("ec2:RunInstances", arn("ec2", "instance/*")),
    ]

    assert [call for call in within if not roles.bounded_may(*call)] == []
    assert [call for call in beyond if roles.bounded_may(*call)] == []


# operate


def test_operate_reads_uploads_redrives_and_replays(roles: Roles) -> None:
    bucket, queue, dlq = "arn:aws:s3:::data-repository", arn("sqs", QUEUE), arn("sqs", f"{QUEUE}-dlq")
    reads = [
        (action, resource) for action, resource, _ in CALLS if is_reading(action) and "GetSecretValue" not in action
    ]
    needed = [
        *reads,
        ("s3:ListBucket", bucket),
        ("s3:ListBucketVersions", bucket),
        ("events:DescribeEventBus", arn("events", "event-bus/default")),
        ("s3:GetObject", f"{bucket}/RefinerOutput/a"),
        ("s3:GetObjectVersion", f"{bucket}/RefinerInput/a"),
        ("s3:PutObject", f"{bucket}/RefinerInput/a"),
        ("s3:AbortMultipartUpload", f"{bucket}/RefinerInput/a"),
        ("s3:PutObject", "arn:aws:s3:::rnr-data/rnr/input/a"),
        *((f"sqs:{action}", dlq) for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")),
        *((f"sqs:{action}MessageMoveTask", dlq) for action in ("Start", "Cancel")),
        ("sqs:ListMessageMoveTasks", dlq),
        ("sqs:SendMessage", queue),
        ("logs:FilterLogEvents", arn("logs", f"log-group:/aws/lambda/{QUEUE}:*")),
        ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:rnr-local-broker-AbCdEf")),
        ("s3:GetObject", f"{STATE}/refiner/terraform.tfstate"),
    ]
    beyond = [
        ("s3:PutObject", f"{bucket}/RefinerOutput/a"),
        ("s3:DeleteObject", f"{bucket}/RefinerInput/a"),
        ("s3:DeleteBucket", bucket),
        ("s3:PutBucketPolicy", bucket),
        ("s3:PutObject", f"{STATE}/refiner/terraform.tfstate"),
        ("sqs:PurgeQueue", dlq),
        ("sqs:DeleteQueue", queue),
        ("sqs:SendMessage", arn("sqs", "others")),
        ("lambda:InvokeFunction", arn("lambda", f"function:{QUEUE}")),
        ("lambda:UpdateFunctionCode", arn("lambda", f"function:{QUEUE}")),
        ("secretsmanager:PutSecretValue", arn("secretsmanager", "secret:rnr-local-broker-AbCdEf")),
        ("secretsmanager:GetSecretValue", arn("secretsmanager", "secret:rnr-local-cache-AbCdEf")),
        ("ecr:PutImage", arn("ecr", REPOSITORY)),
        ("iam:PassRole", FUNCTION_ROLE),
    ]

    assert denied(roles, "operate", needed) == []
    assert allowed(roles, "operate", beyond) == []
