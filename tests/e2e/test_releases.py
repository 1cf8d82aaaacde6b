"""Releases with the installed command, real Terraform and the real stack on the local environment."""

from __future__ import annotations

import json
import re
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.e2e.project import COMMAND, Project, eventually, make_project
from tests.needs import nightly
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import Layer, push_artifact, push_image
from tests.sigstore_instance import BUNDLE, Run, SigstoreInstance

pytestmark = pytest.mark.e2e

REPOSITORY = "dibbs-ecr-refiner/lambda"
FUNCTION = "dibbs-ecr-RefinerInput"
LOCK_KEY = "refiner/terraform.tfstate.tflock"
COMPLETION_RULESET = """
  RefinerComplete = {
    prefix = "RefinerComplete/"
  }
"""
RULESETS = f"""
s3_use_path_style = true
alarms            = {{ enabled = false }} # the emulator forgets their period: docs/local.md
force_destroy     = true
release_tag       = "local"

rulesets = {{
  RefinerInput = {{
    prefix               = "RefinerInput/"
    image_uri            = "{REPOSITORY}"
    timeout_s            = 30
    visibility_timeout_s = 30
  }}
{COMPLETION_RULESET}
}}
"""
TFVARS = Path("terraform/environments/local/refiner.tfvars")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """An environment with one function; refinerctl.toml has another environment."""
    project = make_project(tmp_path_factory.mktemp("releases"), rulesets=RULESETS)
    config = project.folder / "refinerctl.toml"
    config.write_text(config.read_text() + "\n[environments.other]\nembedded = true\n")
    started = project.run("local", "up", "--detach")
    assert started.code == 0, started.err
    # Deployments by digest must survive a moved tag, which stack registry forbids.
    project.client("ecr").put_image_tag_mutability(repositoryName=REPOSITORY, imageTagMutability="MUTABLE")
    yield project
    ended = project.run("local", "down")
    assert ended.code == 0, ended.err


def push(project: Project, tag: str, seed: int, architecture: str = "amd64") -> str:
    """Push an image to the emulator's ECR. Returns its digest."""
    endpoint = project.run("local", "status", "--output", "json").json()["endpoint_url"]
    registry = DockerRegistry(endpoint.removeprefix("http://"), project.folder)
    return push_image(registry, REPOSITORY, tag, layers=(Layer(seed=seed),), architecture=architecture).digest


def sync_attested(project: Project, source: DockerRegistry, tag: str, seed: int) -> str:
    """Copy an image with its attestation from `source` to the emulator's ECR. Returns its digest."""
    instance, root = SigstoreInstance(), project.folder.parent / "root.json"
    root.write_text(instance.trusted_root)
    image = push_image(source, "releases/app", tag, layers=(Layer(seed=seed),))
    bundle = json.dumps(instance.attestation(image.digest, Run(ref=f"refs/tags/{tag}"))).encode()
    subject_tag = image.digest.replace(":", "-")
    push_artifact(source, image.repository, subject_tag, BUNDLE, image.digest, content=bundle)
    copy = ("sync", image.reference, f"{REPOSITORY}:{tag}", "--output", "json")
    done = project.run(*copy, "--require-provenance", "example/app@release.yml", "--trusted-root", str(root))
    assert done.code == 0, done.err
    (copied,) = done.json()["images"]
    assert [len(copied[name]) for name in ("attachments", "not_copied")] == [1, 0], copied
    return image.digest


def running_image(project: Project) -> str:
    """The image that Lambda says the function has."""
    function = project.client("lambda").get_function(FunctionName=FUNCTION)
    uri: str = function["Code"]["ImageUri"]
    return uri


def ledger(project: Project) -> list[Any]:
    body = project.client("s3").get_object(Bucket="terraform-state", Key="refiner/terraform.releases.json")["Body"]
    entries: list[Any] = json.loads(body.read())["releases"]
    return entries


@contextmanager
def edited(project: Project, old: str, new: str) -> Iterator[None]:
    path = project.folder / TFVARS
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)


def test_rollback_restores_the_first_release_after_its_tag_has_moved(
    releases: Project, source_registry: DockerRegistry
) -> None:
    """One test, because each step needs the one before."""
    first = push(releases, "v1.0.0", 1)
    deployed = releases.run("deploy", "--tag", "v1.0.0", "--yes", "--output", "json")
    assert deployed.code == 0, deployed.err
    document = deployed.json()
    assert document["applied"]
    assert [change["attributes"] for change in document["plan"]["changes"]] == [["image_uri"]]
    assert running_image(releases).endswith(f"{REPOSITORY}@{first}")

    second = sync_attested(releases, source_registry, "v1.1.0", 2)
    plan = str(releases.folder.parent / "saved.plan")
    report, note = releases.folder.parent / "report.json", releases.folder.parent / "note.md"
    written = ["--out", plan, "--report", str(report), "--markdown", str(note)]
    planned = releases.run("plan", "--tag", "v1.1.0", "--detailed-exitcode", *written)
    assert planned.code == 5, planned.err
    assert f"{first[:19]} → {second[:19]}" in planned.out
    assert "built by example/app/.github/workflows/release.yml at v1.1.0, commit c0ffeec0ffee" in planned.out
    assert json.loads(report.read_text()) == {"create": 0, "update": 1, "delete": 0}
    assert second[:19] in note.read_text()
    assert running_image(releases).endswith(first)

    for arguments, message in (
        (["--tag", "v1.0.0"], "release v1.1.0, not v1.0.0"),
        (["--stack", "registry"], "stack refiner, not registry"),
        (["--env", "other"], "environment local, not other"),
    ):
        refused = releases.run("deploy", "--plan", plan, "--yes", *arguments)
        assert (refused.code, message in refused.err) == (4, True), refused.err

    # The tag moves after the plan was made: the reviewed digest is applied.
    moved = push(releases, "v1.1.0", 3)
    assert moved != second
    assert releases.run("deploy", "--plan", plan).code == 2  # nobody can confirm
    applied = releases.run("deploy", "--plan", plan, "--yes")
    assert applied.code == 0, applied.err
    assert running_image(releases).endswith(second)

    push(releases, "v1.0.0", 4)  # this tag moves, too
    back = releases.run("rollback", "--yes")
    assert back.code == 0, back.err
    assert running_image(releases).endswith(first)
    assert [(entry["action"], entry["tag"]) for entry in ledger(releases)] == [
        ("deploy", "v1.0.0"),
        ("deploy", "v1.1.0"),
        ("rollback", "v1.0.0"),
    ]
    builds = [{stage: build["run_url"] for stage, build in entry["builds"].items()} for entry in ledger(releases)]
    assert builds == [{}, {"RefinerInput": Run().run_url}, {}]

    assert releases.run("rollback", "--yes").code == 4  # v1.1.0 was rolled back and does not count


@pytest.mark.nightly
def test_local_up_keeps_the_release_and_leaves_nothing_to_deploy(releases: Project) -> None:
    digest = push(releases, "v1.5.0", 15)
    deployed = releases.run("deploy", "--tag", "v1.5.0", "--yes")
    assert deployed.code == 0, deployed.err
    recorded = len(ledger(releases))
    updated = releases.run("local", "up", "--detach")
    assert (updated.code, "release v1.5.0 remains deployed" in updated.err) == (0, True), updated.err
    assert running_image(releases).endswith(digest)
    again = releases.run("deploy", "--yes", "--output", "json")
    assert again.code == 0, again.err
    assert (again.json()["applied"], again.json()["release"]) == (False, None)
    assert len(ledger(releases)) == recorded
    assert releases.run("drift").code == 0


def test_images_that_cannot_be_deployed_are_refused_before_terraform_starts(releases: Project) -> None:
    push(releases, "v0.9.0", 1)
    began = time.monotonic()
    unknown = releases.run("deploy", "--tag", "v9.9.9", "--yes")
    assert unknown.code == 4
    assert f"{REPOSITORY}:v9.9.9 is not in ECR" in unknown.err
    assert "v0.9.0" in unknown.err
    push(releases, "v2.0.0-arm", 5, architecture="arm64")
    wrong = releases.run("plan", "--tag", "v2.0.0-arm")
    assert wrong.code == 4
    assert "RefinerInput: " in wrong.err
    assert "it is built for linux/arm64, not for linux/amd64" in wrong.err
    assert "terraform plan" not in unknown.err + wrong.err
    assert time.monotonic() - began < 15


@pytest.mark.nightly
def test_removed_ruleset_is_refused_because_its_queues_hold_data(releases: Project) -> None:
    plan = releases.folder.parent / "guarded.plan"
    with edited(releases, COMPLETION_RULESET, ""):
        refused = releases.run("plan", "--out", str(plan))
        assert refused.code == 4, refused.err
        address = 'module.rulesets["RefinerComplete"].aws_sqs_queue.this'
        assert "LOSES DATA" in refused.out
        assert f"--allow-destroy '{address}'" in refused.err
        assert not plan.exists()
    queues = releases.client("sqs").list_queues(QueueNamePrefix="dibbs-ecr-RefinerComplete")["QueueUrls"]
    assert len(queues) == 3


@pytest.mark.parametrize("attribute", ["image_uri", nightly("memory_size")])
def test_drift_finds_only_what_was_changed_by_hand(releases: Project, attribute: str) -> None:
    """The provider reads back a dozen attributes in another form, or as other resources have set them.

    An image that was deployed by other means is told apart.
    """
    functions, recorded = releases.client("lambda"), running_image(releases)
    if attribute == "image_uri":
        other = f"{recorded.partition('@')[0]}@{push(releases, 'by-hand', 9)}"
        functions.update_function_code(FunctionName=FUNCTION, ImageUri=other)
    else:
        functions.update_function_configuration(FunctionName=FUNCTION, MemorySize=2048)
    drift = releases.run("drift", "--output", "json")
    assert drift.code == 5, drift.err
    (change,) = drift.json()["outside"]
    assert change["address"] == 'module.rulesets["RefinerInput"].aws_lambda_function.this[0]'
    assert change["attributes"] == [attribute]
    assert drift.json()["configuration"] == []
    assert drift.json()["images_only"] == (attribute == "image_uri")
    functions.update_function_code(FunctionName=FUNCTION, ImageUri=recorded)


def test_held_lock_names_its_holder_until_it_is_released(releases: Project) -> None:
    lock = {
        "ID": "11111111-2222-3333-4444-555555555555",
        "Operation": "OperationTypeApply",
        "Who": "alice@runner",
        "Version": "1.11.4",
        "Created": "2026-03-01T14:02:00.123456789Z",
        "Path": "terraform-state/refiner/terraform.tfstate",
        "Info": "",
    }
    releases.client("s3").put_object(Bucket="terraform-state", Key=LOCK_KEY, Body=json.dumps(lock))
    held = releases.run("plan", "--lock-timeout", "1s")
    assert held.code == 3
    assert "alice@runner holds the state's lock since 2026-03-01 14:02:00Z" in held.err
    assert "`refinerctl unlock --env local --stack refiner`" in held.err
    freed = releases.run("unlock", "--yes", "--output", "json")
    assert (freed.code, freed.json()["lock"]["who"]) == (0, "alice@runner"), freed.err
    free = releases.run("unlock", "--output", "json")
    assert (free.code, free.json()["locked"]) == (0, False)


@pytest.mark.nightly
def test_sigterm_during_apply_leaves_a_complete_state_and_no_lock(releases: Project) -> None:
    with edited(releases, "visibility_timeout_s = 30", "visibility_timeout_s = 45"):
        process = releases.start("deploy", "--yes")
        assert process.stdout is not None
        log = releases.folder / ".refinerctl/local/logs/terraform.log"
        size = log.stat().st_size
        # A plan has starts, too, of data sources that are read.
        started = re.compile(r'"action":"update".*"type":"apply_start"')
        assert eventually(lambda: started.search(log.read_text()[size:]))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 143, output
        assert "saves its state" in output
        keys = [item["Key"] for item in releases.client("s3").list_objects_v2(Bucket="terraform-state")["Contents"]]
        assert LOCK_KEY not in keys
        state = releases.client("s3").get_object(Bucket="terraform-state", Key="refiner/terraform.tfstate")["Body"]
        resources = json.loads(state.read())["resources"]
        assert sum(len(item["instances"]) for item in resources if item["type"] == "aws_sqs_queue") == 7
        # Another test proves that it continues, on a stack whose queues need no 25 s.
        resume = shlex.split(output.partition("to continue, run `refinerctl ")[2].partition("`")[0])
        resumed = releases.run(*resume, "--dry-run", "--lock-timeout", "0s")
        assert resumed.code == 0, resumed.err


def test_prefix_is_added_used_and_removed(releases: Project) -> None:
    values = releases.folder / TFVARS
    before = values.read_bytes()
    push(releases, "v3.0.0", 6)
    add = ["add-prefix", "team/MyNew/", "--image-uri", f"{REPOSITORY}:v3.0.0", "--timeout", "30", "--deploy", "--yes"]
    added = releases.run(*add, "--output", "json")
    assert added.code == 0, added.err
    document = added.json()
    assert (document["status"], document["deployment"]["applied"]) == ("added", True)
    assert "team-MyNew" in document["deployment"]["release"]["images"]
    again = releases.run(*add[: add.index("--deploy")])
    assert (again.code, "already" in again.err) == (0, True), again.err

    uploaded = releases.run("upload", "-", "--name", "a.txt", "--prefix", "team/MyNew/", "--wait", input=b"hello")
    assert uploaded.code == 0, uploaded.err
    (ruleset,) = (
        item for item in releases.run("prefixes", "--output", "json").json()["rulesets"] if item["name"] == "team-MyNew"
    )
    assert (ruleset["deployed"], ruleset["differs"]) == (True, [])
    assert ruleset["release"] == ledger(releases)[-1]["tag"]

    queue = "dibbs-ecr-team-MyNew"
    sqs = releases.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{queue}-dlq")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert releases.run("remove-prefix", "team/MyNew/", "--deploy", "--yes").code == 4
    sqs.purge_queue(QueueUrl=url)
    removed = releases.run("remove-prefix", "team/MyNew/", "--deploy", "--yes")
    assert removed.code == 0, removed.err
    assert values.read_bytes() == before
    assert not sqs.list_queues(QueueNamePrefix=queue).get("QueueUrls")


@pytest.mark.nightly
def test_prefix_is_not_added_without_the_lock_and_not_removed_with_a_new_message(releases: Project) -> None:
    values, s3, sqs = releases.folder / TFVARS, releases.client("s3"), releases.client("sqs")
    before = values.read_bytes()
    push(releases, "v3.1.0", 16)
    add = ["add-prefix", "Later/", "--image-uri", f"{REPOSITORY}:v3.1.0", "--timeout", "30", "--deploy", "--yes"]
    s3.put_object(Bucket="terraform-state", Key=LOCK_KEY, Body=b'{"ID": "1", "Who": "alice"}')
    held = releases.run(*add, "--lock-timeout", "1s")
    assert (held.code, "was restored" in held.err) == (3, True), held.err
    assert values.read_bytes() == before
    s3.delete_object(Bucket="terraform-state", Key=LOCK_KEY)
    added = releases.run(*add)
    assert added.code == 0, added.err
    url = sqs.get_queue_url(QueueName="dibbs-ecr-Later-dlq")["QueueUrl"]

    # A message that arrives while the plan waits for its confirmation.
    terminal = pexpect.spawn(
        str(COMMAND),
        ["remove-prefix", "Later/", "--deploy"],
        cwd=str(releases.folder),
        env=releases.environment(),
        timeout=180,
        encoding="utf-8",
    )
    terminal.expect_exact("environment local? [y/N]:")
    sqs.send_message(QueueUrl=url, MessageBody="x")
    terminal.sendline("y")
    terminal.expect("still has messages")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 4
    assert values.read_bytes() != before
    sqs.purge_queue(QueueUrl=url)
    removed = releases.run("remove-prefix", "Later/", "--deploy", "--yes")
    assert removed.code == 0, removed.err
    assert values.read_bytes() == before


@pytest.mark.nightly
def test_destroy_keeps_data_unless_an_option_deletes_it(releases: Project) -> None:
    """The last test: it destroys the environment's stack."""
    bucket = "data-repository"
    s3 = releases.client("s3")
    push(releases, "v4.0.0", 17)
    deployed = releases.run("deploy", "--tag", "v4.0.0", "--yes")
    assert deployed.code == 0, deployed.err
    for key in ("RefinerOutput/a+b %41 ü.txt", "elsewhere/x"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"one")
        s3.put_object(Bucket=bucket, Key=key, Body=b"two")
    s3.delete_object(Bucket=bucket, Key="elsewhere/x")
    output = releases.run("outputs", "bucket")
    assert (output.code, output.out.strip()) == (0, bucket)
    queue = releases.client("sqs").get_queue_url(QueueName=f"{FUNCTION}-dlq")["QueueUrl"]
    releases.client("sqs").send_message(QueueUrl=queue, MessageBody="x")
    kept = releases.run("destroy", "--confirm", "local")
    assert kept.code == 4, kept.err
    assert f"{bucket} holds objects" in kept.err
    assert f"queue {FUNCTION}-dlq holds about 1 messages" in kept.err
    wrong = releases.run("destroy", "--confirm", "production", "--empty-bucket")
    assert wrong.code == 4, wrong.err
    assert s3.list_object_versions(Bucket=bucket)["Versions"]
    destroying = releases.start("destroy", "--confirm", "local", "--empty-bucket")  # a minute: the provider waits

    ecr = releases.client("ecr")
    kept = releases.run("destroy", "--stack", "registry", "--confirm", "local")
    assert (kept.code, f"{REPOSITORY} holds images" in kept.err) == (4, True), kept.err
    assert ecr.list_images(repositoryName=REPOSITORY)["imageIds"]
    arguments = ["--confirm", "local", "--empty-repositories", "--output", "json"]
    gone = releases.run("destroy", "--stack", "registry", *arguments)
    assert gone.code == 0, gone.err
    assert gone.json()["images_deleted"] >= 1
    assert ecr.describe_repositories()["repositories"] == []

    said, _ = destroying.communicate(timeout=240)
    assert destroying.returncode == 0, said
    assert bucket not in [item["Name"] for item in s3.list_buckets()["Buckets"]]
    assert ledger(releases)[-1]["action"] == "destroy"
    rollback = releases.run("rollback", "--yes")
    assert rollback.code == 4, rollback.err
