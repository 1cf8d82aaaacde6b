"""`add-prefix` and `remove-prefix` in a project whose environment is down: only the file is theirs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refinerctl.aws.messages import Message
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import AccessDeniedError, RefinerctlError, RefusedError
from refinerctl.rulesets.remove_prefix import check_empty
from refinerctl.stacks.refiner import ruleset_stage
from refinerctl.terraform.hcl import load_values
from tests.command import Command
from tests.conftest import ROOT
from tests.unit.fakes import START, FakeQueues

URI = "123456789012.dkr.ecr.us-east-1.amazonaws.com/app:v1"
OWN_IMAGE = "dibbs-ecr-refiner/lambda"
SETTINGS = [
    "--memory=512",
    "--timeout=30",
    "--max-receive-count=2",
    "--batch-size=1",
    "--max-concurrency=5",
    "--architecture=arm64",
    "--env-var=A1=x=y",
    "--env-var=B1=",
    "--read-access=/eICR/",
    "--read-access=s3://team-config/lab/",
    "--read-access=s3://common",
    "--read-kms-key=arn:aws:kms:us-east-1:123456789012:key/1",
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """As a clone has it; `values` is the file that is edited."""
    shutil.copy(ROOT / "refinerctl.toml", tmp_path)
    for folder in ("stacks", "environments"):
        shutil.copytree(
            ROOT / "terraform" / folder, tmp_path / "terraform" / folder, ignore=shutil.ignore_patterns(".terraform")
        )
    return tmp_path


@pytest.fixture
def values(project: Path) -> Path:
    return project / "terraform/environments/local/refiner.tfvars"


@pytest.fixture
def run(refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(project)
    return refinerctl


def test_add_writes_all_settings_and_remove_restores_the_file(run: Command, values: Path) -> None:
    before = values.read_text()
    dry = run("add-prefix", "/team/MyNew/", "--image-uri", URI, *SETTINGS, "--dry-run")
    assert (dry.code, values.read_text()) == (0, before)
    done = run("add-prefix", "/team/MyNew/", "--image-uri", URI, *SETTINGS)
    assert (done.code, done.out) == (0, dry.out)
    assert '+  team-MyNew = {\n+    prefix            = "team/MyNew/"\n' in done.out
    assert "the image is not checked" in done.err
    assert load_values(values)["rulesets"]["team-MyNew"] == {
        "prefix": "team/MyNew/",
        "image_uri": URI,
        "memory_mb": 512,
        "timeout_s": 30,
        "max_receive_count": 2,
        "batch_size": 1,
        "max_concurrency": 5,
        "architecture": "arm64",
        "environment": {"A1": "x=y", "B1": ""},
        "read_access": ["eICR/", "s3://team-config/lab/", "s3://common/"],
        "read_kms_key_arns": ["arn:aws:kms:us-east-1:123456789012:key/1"],
    }
    after = values.read_text()
    again = run("add-prefix", "team/MyNew/", "--image-uri", URI, *SETTINGS, "--output", "json")
    assert (again.code, again.json()["status"], again.json()["diff"]) == (0, "unchanged", "")
    assert values.read_text() == after
    removed = run("remove-prefix", "team-MyNew")
    assert removed.code == 0, removed.err
    assert values.read_text() == before


def test_completion_ruleset_as_json(run: Command, values: Path) -> None:
    done = run("add-prefix", "Audit/", "--completion", "--max-receive-count", "1", "--output", "json")
    assert done.code == 0, done.err
    document = done.json()
    assert document["status"] == "added"
    assert document["file"] == "terraform/environments/local/refiner.tfvars"
    assert document["diff"].startswith(f"--- a/{document['file']}\n+++ b/{document['file']}\n")
    assert document["ruleset"]["name"] == "Audit"
    assert load_values(values)["rulesets"]["Audit"] == {"prefix": "Audit/", "max_receive_count": 1}
    removed = run("remove-prefix", "Audit/", "--dry-run", "--output", "json").json()
    assert (removed["status"], removed["ruleset"]["prefix"]) == ("would-remove", "Audit/")
    assert "Audit" in values.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["RefinerInput/", "--image-uri", "other"], 4, "image_uri is 'dibbs-ecr-refiner/lambda', not 'other'"),
        (["RefinerComplete/", "--image-uri", "other"], 4, "other settings: image_uri is none, not 'other'"),
        (
            ["RefinerInput/", "--image-uri", OWN_IMAGE, "--name", "Else"],
            4,
            "already has prefix RefinerInput/",
        ),
        (
            ["New/", "--image-uri", "a", "--name", "RefinerInput"],
            4,
            "ruleset RefinerInput (RefinerInput/) already has that name",
        ),
        (["RefinerInput/sub/", "--image-uri", "a"], 4, "overlaps RefinerInput/ of ruleset RefinerInput"),
        (["RefinerOutput/", "--image-uri", "a"], 4, "a loop"),
        (["New/", "--image-uri", "a", "--rule-quota", "2"], 4, "would have 3 rules; its quota is 2"),
        (["New/"], 2, "a ruleset either has a function or not"),
        (["New/", "--image-uri", "a", "--completion"], 2, "a ruleset either has a function or not"),
        (
            ["New/", "--completion", "--memory", "128", "--env-var", "A1=x"],
            2,
            "--memory, --env-var: a completion ruleset has no function",
        ),
        (["New", "--image-uri", "a"], 2, "is not a prefix"),
        (["a*/", "--image-uri", "a"], 2, "none of * ? $"),
        (["New/", "--image-uri", "A"], 2, "is not an image reference"),
        (["New/", "--image-uri", "a", "--env-var", "A1"], 2, "--env-var A1 has no value"),
        (["New/", "--image-uri", "a", "--env-var", "A1=1", "--env-var", "A1=2"], 2, "--env-var A1 is given twice"),
        (["New/", "--image-uri", "a", "--read-access", "eICR"], 2, "'eICR' is not a prefix"),
        (["New/", "--image-uri", "a", "--read-access", "eICR/*/"], 2, "none of * ? $"),
        (["New/", "--image-uri", "a", "--read-access", "s3:///x/"], 2, "'s3:///x/' names no bucket"),
        (["New/", "--image-uri", "a", "--read-access", "s3://config/x"], 2, "'x' is not a prefix"),
        (["New/", "--image-uri", "a", "--read-access", "s3://config//x/"], 2, "'s3://config//x/' has an empty part"),
        (["New/", "--completion", "--read-access", "eICR/"], 2, "--read-access: a completion ruleset has no function"),
        (["New/", "--image-uri", "a", "--max-concurrency", "1"], 2, "2<=x<=1000"),
        ([f"{'long' * 20}/", "--completion"], 2, "--name NAME"),
        (["New/", "--image-uri", "a", "--deploy"], 2, "stdin is not a terminal; pass --yes"),
        (["New/", "--image-uri", "a", "--deploy", "--yes"], 1, "is down"),
        (["New/", "--image-uri", "a", "--stack", "registry"], 2, "this stack has no rulesets"),
        (["New/", "--image-uri", "ghcr.io/a/b", "--env", "production"], 4, "ghcr.io is not an ECR registry"),
        (["New/", "--image-uri", URI.replace("us-east-1", "eu-west-1"), "--env", "production"], 4, "is in eu-west-1"),
    ],
)
def test_refusal_changes_nothing(run: Command, project: Path, arguments: list[str], code: int, said: str) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.tfvars")}
    done = run("add-prefix", *arguments)
    assert done.code == code, done.err
    assert said in done.err
    assert {path: path.read_bytes() for path in project.rglob("*.tfvars")} == before


def test_invalid_file_is_not_changed(run: Command, values: Path) -> None:
    values.write_text("rulesets = {\n  A = { prefix = }\n}\n")
    for command in (["add-prefix", "New/", "--completion"], ["remove-prefix", "A"], ["prefixes"]):
        done = run(*command)
        assert done.code == 1
        assert f"{values}:2:18: invalid HCL" in done.err
    assert values.read_text() == "rulesets = {\n  A = { prefix = }\n}\n"


@pytest.mark.parametrize(
    "command", [["prefixes"], ["add-prefix", "A/", "--completion"], ["remove-prefix", "A"]], ids=lambda args: args[0]
)
def test_outside_of_a_project_the_error_is_not_about_the_stack(
    refinerctl: Command, tmp_path: Path, command: list[str]
) -> None:
    done = refinerctl(*command, cwd=tmp_path)
    assert (done.code, "`refinerctl init DIR` creates one" in done.err) == (1, True), done.err


def test_variable_that_looks_like_a_secret_is_warned_of(run: Command) -> None:
    done = run("add-prefix", "New/", "--image-uri", "a", "--env-var", "DB_PASSWORD=x", "--dry-run")
    assert "warning: DB_PASSWORD looks like a secret" in done.err


def test_defaults_are_kept_without_a_values_file(run: Command, values: Path) -> None:
    values.unlink()
    done = run("add-prefix", "New/", "--completion")
    assert done.code == 0, done.err
    assert list(load_values(values)["rulesets"]) == ["RefinerInput", "RefinerComplete", "New"]


def test_unknown_ruleset_lists_the_known_ones(run: Command) -> None:
    done = run("remove-prefix", "Nope")
    assert done.code == 1
    assert "Rulesets: RefinerInput, RefinerComplete." in done.err


def test_prefixes_of_an_environment_that_is_down(run: Command) -> None:
    done = run("prefixes", "--output", "json")
    assert done.code == 0
    assert "is down: only the configured rulesets are shown" in done.err
    assert [(item["name"], item["deployed"], item["function"]) for item in done.json()["rulesets"]] == [
        ("RefinerComplete", None, None),
        ("RefinerInput", None, "dibbs-ecr-RefinerInput"),
    ]
    cells = run("prefixes").out.splitlines()[2].split()
    assert cells == ["RefinerInput", "RefinerInput/", "unknown", OWN_IMAGE, "unknown", "unknown", "unknown"]


@pytest.mark.parametrize("queue", ["np-In", "np-In-dlq", "np-In-delivery-dlq"])
def test_one_message_in_any_queue_refuses_the_removal(queue: str) -> None:
    """A queue that does not exist holds nothing."""
    stage, queues = ruleset_stage("In", "In/", "np-In", "bus", has_function=True), FakeQueues()
    check_empty(stage, queues)
    queues.messages = {"np-In": [], "np-In-dlq": [], queue: [Message("x", START, 1)]}
    with pytest.raises(RefusedError, match=rf"still has messages: {queue} \(1 visible\)"):
        check_empty(stage, queues)
    queues.error = AccessDeniedError("access denied: GetQueueAttributes")
    with pytest.raises(RefinerctlError, match="are empty: access denied") as caught:
        check_empty(stage, queues)
    assert "--force" in str(caught.value.hint)


def test_messages_in_flight_refuse_the_removal() -> None:
    class Busy(FakeQueues):
        def state(self, name: str) -> QueueState:
            return QueueState(name, in_flight=2 if name == "np-In" else 0, delayed=0)

    with pytest.raises(RefusedError, match=r"np-In \(2 in flight\)"):
        check_empty(ruleset_stage("In", "In/", "np-In", "bus"), Busy())
