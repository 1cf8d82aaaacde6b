"""`verify` in the local environment: a healthy one passes, and one check finds each fault."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from refinerctl.app import AppContext
from refinerctl.config import GlobalFlags
from refinerctl.insight.verify.checks import run_checks
from refinerctl.insight.verify.snapshot import take_snapshot
from refinerctl.stacks.base import Pipeline
from refinerctl.stacks.refiner import STACK
from tests.e2e.breakage import BREAKAGES, BUS, COMPLETE, DIBBS, FAULTY, FORWARD, STAGES, Aws
from tests.e2e.enforced import role_statements, without, without_resource, wrong_calls
from tests.e2e.enforced_dibbs import CASE, forbidden_calls, refine
from tests.e2e.enforced_handler import INPUT, MISSING, handle
from tests.e2e.project import Project, eventually

pytestmark = pytest.mark.e2e

# Depends on how long ago other files have left inputs in the shared environment.
OF_INPUTS = "inputs-complete"


@pytest.fixture(scope="module")
def aws(running: Project) -> Aws:
    """AWS as it is to be broken. What the emulator keeps of it is drift: no other file may use `running` after this."""
    return Aws(running.client)


@pytest.fixture(scope="module")
def recorded(running: Project) -> Pipeline:
    assert STACK.pipeline_of_outputs is not None
    return STACK.pipeline_of_outputs(running.run("outputs", "--output", "json").json())


@pytest.fixture(scope="module")
def app(running: Project) -> Iterator[AppContext]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(running.folder)
        app = AppContext(GlobalFlags())
        app.settings  # noqa: B018 - found from the folder that we are in
        yield app


def not_fine(app: AppContext, pipeline: Pipeline) -> list[tuple[str, str | None, str]]:
    results = run_checks(take_snapshot(app, pipeline), STACK, skip=[OF_INPUTS])
    return [(item.id, item.stage, item.status) for item in results if item.status in ("warn", "fail")]


def test_a_whole_environment_passes(running: Project, aws: Aws) -> None:
    report = running.folder.parent / "junit.xml"
    done = running.run("verify", "--skip", OF_INPUTS, "--output", "json", "--junit", str(report))
    assert done.code == 0, done.out
    document = done.json()
    assert document["source"] == "Terraform's outputs"
    statuses = {(check["id"], check["stage"]): check["status"] for check in document["checks"]}
    skipped = {key for key, status in statuses.items() if status == "skip"}
    assert set(statuses.values()) == {"pass", "skip"}
    assert {check for check, _ in skipped} == {"function-release", "function-image", "dlq-alarms", "alarm-actions"}
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - we wrote it
    assert len(cases) == len(statuses)
    report.unlink()


def test_the_environments_values_name_the_same_components_as_terraform(app: AppContext, recorded: Pipeline) -> None:
    assert replace(app.pipeline, told_by="Terraform's outputs") == recorded


@pytest.mark.parametrize("check", BREAKAGES)
def test_one_check_finds_what_is_broken(app: AppContext, recorded: Pipeline, aws: Aws, check: str) -> None:
    status, breakage = BREAKAGES[check]
    with ExitStack() as mended:
        breakage(aws, mended)
        found = not_fine(app, recorded)
    assert found == [(check, STAGES.get(check, "PoisonInput"), status)]


def test_nothing_is_broken_after_all_is_mended(app: AppContext, recorded: Pipeline, aws: Aws) -> None:
    assert not_fine(app, recorded) == []


def test_an_image_that_does_not_exist_in_ecr(app: AppContext, recorded: Pipeline, aws: Aws) -> None:
    """As in an account, not as in a local environment."""
    repository = "dibbs-ecr-refiner/lambda"
    aws.ecr.put_image(repositoryName=repository, imageManifest='{"schemaVersion": 2}', imageTag="local")

    def of_input() -> list[str]:
        snapshot = replace(take_snapshot(app, recorded), embedded=False)
        results = run_checks(snapshot, STACK, only=["function-image"])
        return [item.status for item in results if item.stage == "RefinerInput"]

    assert of_input() == ["pass"]
    aws.ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "local"}])
    assert of_input() == ["fail"]


def test_the_command_finds_what_is_broken_without_terraform(running: Project, aws: Aws) -> None:
    project = replace(running, environ={"REFINERCTL_TERRAFORM_BINARY": "/nonexistent/terraform"})
    aws.events.disable_rule(Name=FORWARD)
    try:
        done = project.run("verify")
    finally:
        aws.events.enable_rule(Name=FORWARD)
    assert done.code == 5, done.err
    assert done.out.startswith("FAIL  forward-rule\n      rule dibbs-ecr-forward is disabled\n")
    assert "names come from refiner.tfvars, not from Terraform's outputs" in done.err
    assert "skip  outputs-match: the names come from refiner.tfvars" in done.out


def test_canaries_are_completed_and_removed(running: Project, aws: Aws) -> None:
    def keys() -> list[str]:
        return [item["Key"] for item in aws.s3.list_object_versions(Bucket="data-repository").get("Versions", [])]

    before, waiting = keys(), int(aws.attributes(COMPLETE)["ApproximateNumberOfMessages"])
    for name in (FAULTY, DIBBS):
        aws.events.disable_rule(EventBusName=BUS, Name=name)
    try:
        done = running.run("verify", "--canary", "--check", "rule", "--timeout", "60s", "--output", "json")
    finally:
        for name in (FAULTY, DIBBS):
            aws.events.enable_rule(EventBusName=BUS, Name=name)
    assert done.code == 5, done.err
    results = {check["stage"]: check for check in done.json()["checks"] if check["id"] == "canary"}
    assert {name: check["status"] for name, check in results.items()} == {
        "RefinerInput": "pass",
        "PoisonInput": "pass",
        "FaultyInput": "skip",  # it would be lost
        "DibbsInput": "skip",
    }, results
    assert "completed in " in results["RefinerInput"]["seen"]
    assert results["FaultyInput"]["seen"] == "not sent, because of rule"
    assert "dibbs-ecr-RefinerComplete will get 2 messages" in done.err
    assert keys() == before
    assert eventually(lambda: int(aws.attributes(COMPLETE)["ApproximateNumberOfMessages"]) == waiting + 2, 60)


def test_the_role_is_sufficient_and_no_wider(aws: Aws) -> None:
    """With its policies as the environment's IAM has them, enforced by moto in this process."""
    statements = role_statements(aws.iam, "dibbs-ecr-RefinerInput")
    assert wrong_calls(statements) == set()
    granted = {action for item in statements for action in item["Action"] if not action.startswith("ec2:")}
    for action in granted - {"logs:CreateLogGroup"}:
        assert wrong_calls(without(statements, action)) == {action}
    objects = [item for item in statements if "s3:GetObject" in item["Action"]]
    assert [item["Resource"] for item in objects] == [
        [f"arn:aws:s3:::data-repository/{prefix}/*" for prefix in ("RefinerInput", "RefinerOutput", "RefinerComplete")]
    ]


def test_the_handler_needs_all_permissions_of_the_role(aws: Aws) -> None:
    """The calls are made by the image's code."""
    statements = role_statements(aws.iam, "dibbs-ecr-RefinerInput")
    done = handle(statements)
    assert (done.failed, done.denied) == ([MISSING], set())
    assert done.calls == {"GET RefinerInput/", "PUT RefinerOutput/", "PUT RefinerComplete/"}

    assert handle(without(statements, "s3:GetObject")).denied == {"GET RefinerInput/"}
    assert handle(without(statements, "s3:PutObject")).denied == {"PUT RefinerOutput/"}
    for prefix, call in (("Input", "GET"), ("Output", "PUT"), ("Complete", "PUT")):
        left = handle(without_resource(statements, f"arn:aws:s3:::data-repository/Refiner{prefix}/*"))
        assert left.denied == {f"{call} Refiner{prefix}/"}
        assert INPUT in left.failed


def test_a_python_image_may_read_what_its_ruleset_declares_and_needs_all_of_it(aws: Aws) -> None:
    """The calls are made by the image's code, with the role as the environment's IAM has it."""
    statements = role_statements(aws.iam, DIBBS)
    variables = aws.functions.get_function_configuration(FunctionName=DIBBS)["Environment"]["Variables"]

    completion = refine(statements, variables)

    assert not completion["RefinerSkip"], completion
    assert completion["RefinerOutputFiles"] == [
        f"RefinerOutput/{CASE}/CA/Zika/refined_{name}.xml" for name in ("eICR", "RR")
    ]
    for resource in ("data-repository/DibbsInput", "data-repository/EicrInput", "refiner-config/configurations"):
        left = refine(without_resource(statements, f"arn:aws:s3:::{resource}/*"), variables)
        assert "AccessDenied" in left["Error"], left
    assert forbidden_calls(statements) == set()
