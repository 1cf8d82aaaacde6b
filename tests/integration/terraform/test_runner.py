"""The terraform binary: a stand-in on PATH that replays given output, and the real one once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.terraform.installation import MIRROR_ROOTS, PROVIDER, find_provider_mirror
from refinerctl.terraform.runner import Terraform

STAND_IN = """\
#!{python}
import json, os, pathlib, signal, sys, time
folder = pathlib.Path({folder!r})
arguments = sys.argv[1:]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps({{"arguments": arguments, "environment": dict(os.environ)}}) + "\\n")
def say(*lines):
    for line in lines:
        print(line if isinstance(line, str) else json.dumps(line), flush=True)
{body}
"""


def change_summary(operation: str, **counts: int) -> dict[str, Any]:
    changes = {"add": 0, "change": 0, "remove": 0, "import": 0, "operation": operation} | counts
    return {"@level": "info", "type": "change_summary", "changes": changes}


def complete(address: str, action: str = "create") -> dict[str, Any]:
    return {"@level": "info", "type": "apply_complete", "hook": {"action": action, "resource": {"addr": address}}}


def diagnostic(severity: str, summary: str, detail: str = "") -> dict[str, Any]:
    return {
        "@level": severity,
        "type": "diagnostic",
        "diagnostic": {"severity": severity, "summary": summary, "detail": detail},
    }


@dataclass
class StandIn:
    folder: Path
    terraform: Terraform

    def does(self, body: str) -> None:
        binary = self.folder / "bin" / "terraform"
        binary.parent.mkdir(exist_ok=True)
        binary.write_text(STAND_IN.format(python=sys.executable, folder=str(self.folder), body=textwrap.dedent(body)))
        binary.chmod(0o755)

    def says(self, *lines: object, code: int = 0) -> None:
        self.does(f"say(*json.loads({json.dumps(json.dumps(lines))}))\nsys.exit({code})")

    def calls(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def inits(self) -> list[Any]:
        return [call for call in self.calls() if call["arguments"][1] == "init"]

    def fail_plan(self) -> None:
        """A plan that fails; the program itself stays the same."""
        binary = self.folder / "bin" / "terraform"
        times = binary.stat()
        self.says("Error: something", code=1)
        os.utime(binary, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(RefinerctlError):
            self.terraform.plan(self.folder / "plan")
        self.says()
        os.utime(binary, ns=(times.st_atime_ns, times.st_mtime_ns))

    def mirror(self) -> Path:
        (self.folder / "opt" / "mirror" / PROVIDER).mkdir(parents=True)
        return self.folder / "opt" / "mirror"

    def log(self) -> str:
        return self.terraform.log.read_text()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    (tmp_path / "module").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    terraform = Terraform(
        module=tmp_path / "module",
        data_dir=tmp_path / "data",
        work_folder=tmp_path / "work",
        log=tmp_path / "logs" / "terraform.log",
        mirror_roots=[tmp_path / "opt"],
    )
    return StandIn(tmp_path, terraform)


@pytest.mark.parametrize(
    ("folders", "roots", "found"),
    [
        (["mirror"], ["none", "."], "mirror"),
        (["a/mirror"], ["."], "a/mirror"),
        (["."], ["."], None),
        (["a/b/mirror"], ["."], None),
        (["1/a/b", "1/z", "2/a"], ["1", "2"], "1/z"),
        (["home/.terraform.d/plugins"], ["~/.terraform.d"], "home/.terraform.d/plugins"),
    ],
)
def test_mirror_is_one_or_two_levels_below_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: list[str], roots: list[str], found: str | None
) -> None:
    """The first root and the nearer level win."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in folders:
        (tmp_path / folder / PROVIDER).mkdir(parents=True)
    (tmp_path / "m" / "registry.terraform.io/hashicorp/random").mkdir(parents=True)
    given = [Path(root) if root.startswith("~") else tmp_path / root for root in roots]
    assert find_provider_mirror(given) == (tmp_path / found if found else None)


class TestApply:
    def test_progress_counts_changed_of_planned_resources(self, stand_in: StandIn) -> None:
        stand_in.says(
            {"type": "version"},
            complete("data.aws_region.this", "read"),
            change_summary("plan", add=2, change=1),
            complete("aws_s3_bucket.this"),
            complete("data.aws_late.this", "read"),
            complete("aws_sqs_queue.this", "update"),
            complete("module.a.aws_sqs_queue.this"),
            change_summary("apply", add=3),
        )
        seen: list[tuple[object, ...]] = []
        stand_in.terraform.apply([Path("/a.tfvars")], lambda *at: seen.append(at))
        assert seen == [
            (0, 3, ""),
            (1, 3, "aws_s3_bucket.this"),
            (2, 3, "aws_sqs_queue.this"),
            (3, 3, "module.a.aws_sqs_queue.this"),
        ]
        (call,) = stand_in.calls()
        assert call["arguments"][0] == f"-chdir={stand_in.terraform.module}"
        assert call["arguments"][1] == "apply"
        assert "-auto-approve" in call["arguments"]
        assert "-var-file=/a.tfvars" in call["arguments"]

    @pytest.mark.parametrize("line", ["", "not json", "{", "[]", "null", "17", '"text"', "9" * 5000, '{"type": null}'])
    def test_line_that_is_not_an_event_is_logged(self, stand_in: StandIn, line: str) -> None:
        """Standard error is mixed in: a provider may print anything."""
        stand_in.says(line, change_summary("plan", add=1), complete("a.b"))
        seen: list[tuple[object, ...]] = []
        stand_in.terraform.apply(on_progress=lambda *at: seen.append(at))
        assert seen[-1] == (1, 1, "a.b")
        assert line in stand_in.log()

    def test_terraforms_errors_are_the_reason(self, stand_in: StandIn) -> None:
        stand_in.says(
            diagnostic("warning", "Deprecated"),
            diagnostic("error", "creating SQS Queue", "AccessDenied:\n  not authorized"),
            diagnostic("error", "second"),
            code=1,
        )
        with pytest.raises(RefinerctlError) as caught:
            stand_in.terraform.apply()
        assert caught.value.message == (
            "terraform apply of module failed: creating SQS Queue: AccessDenied: not authorized; second"
        )
        assert caught.value.hint == f"The whole output is in {stand_in.terraform.log}."
        assert "Deprecated" in stand_in.log()

    def test_killed_terraform_is_an_error(self, stand_in: StandIn) -> None:
        stand_in.does("os.kill(os.getpid(), signal.SIGKILL)")
        with pytest.raises(RefinerctlError, match="exit code -9"):
            stand_in.terraform.apply()

    def test_other_command_returns_both_streams(self, stand_in: StandIn) -> None:
        stand_in.does("say('out'); print('err', file=sys.stderr, flush=True); sys.exit(2)")
        done = stand_in.terraform.run("show", "-json")
        assert (done.returncode, sorted(done.stdout.split())) == (2, ["err", "out"])


class TestEnvironment:
    CALLERS: ClassVar = {
        "AWS_PROFILE": "personal",
        "AWS_ENDPOINT_URL": "http://elsewhere",
        "AWS_S3_ENDPOINT": "http://elsewhere",
        "TF_AWS_STS_ENDPOINT": "http://elsewhere",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "TF_VAR_bucket_name": "personal",
        "TF_CLI_ARGS": "-lock=false",
        "TF_CLI_ARGS_apply": "-target=x",
        "TF_CLI_ARGS_init": "-upgrade",
        "TF_WORKSPACE": "personal",
        "TF_DATA_DIR": "/elsewhere",
    }

    def seen(self, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, **given: Any) -> dict[str, str]:
        for name, value in self.CALLERS.items():
            monkeypatch.setenv(name, value)
        stand_in.says()
        replace(stand_in.terraform, environment={"AWS_REGION": "ours"}, **given).apply()
        environment: dict[str, str] = stand_in.calls()[-1]["environment"]
        return environment

    @pytest.mark.parametrize(
        ("embedded", "kept"),
        [(True, ()), (False, ("AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", "TF_VAR_bucket_name", "TF_CLI_ARGS_init"))],
    )
    def test_embedded_run_ignores_the_callers_account(
        self, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, embedded: bool, kept: tuple[str, ...]
    ) -> None:
        """Every run ignores what would make it work on another state, endpoint or part, prompt, or ask for updates."""
        seen = self.seen(stand_in, monkeypatch, embedded=embedded)
        ours = {"AWS_REGION": "ours", "TF_WORKSPACE": "default", "TF_DATA_DIR": str(stand_in.terraform.data_dir)}
        ours |= {"TF_INPUT": "0", "CHECKPOINT_DISABLE": "1", "PATH": os.environ["PATH"]}
        assert seen.items() >= (ours | {name: self.CALLERS[name] for name in kept}).items()
        dropped = self.CALLERS.keys() - ours.keys() - set(kept)
        assert not dropped & seen.keys()

    def test_cli_configuration_is_kept_if_it_exists(self, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TF_CLI_CONFIG_FILE", "/no/such/file")
        assert "TF_CLI_CONFIG_FILE" not in self.seen(stand_in, monkeypatch)
        mine = stand_in.folder / "mine.tfrc"
        mine.touch()
        monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(mine))
        assert self.seen(stand_in, monkeypatch)["TF_CLI_CONFIG_FILE"] == str(mine)


UNREACHABLE = (
    "Error: Failed to query available provider packages\\n\\nCould not retrieve ... could not connect to registry"
)
NEEDS_MIRROR = f"""
config = os.environ.get("TF_CLI_CONFIG_FILE")
path = pathlib.Path(config).read_text().split('"')[1] if config else None
if path is None or not pathlib.Path(path).is_dir():
    say("{UNREACHABLE}")
    sys.exit(1)
"""


class TestInit:
    def test_reachable_registry_needs_no_mirror(self, stand_in: StandIn) -> None:
        stand_in.mirror()
        stand_in.says()
        stand_in.terraform.init("-backend-config=x")
        (call,) = stand_in.calls()
        assert call["arguments"][1] == "init"
        assert call["arguments"][-1] == "-backend-config=x"
        assert "TF_CLI_CONFIG_FILE" not in call["environment"]

    def test_unreachable_registry_falls_back_to_the_mirror(self, stand_in: StandIn) -> None:
        mirror = stand_in.mirror()
        stand_in.does(NEEDS_MIRROR)
        stand_in.terraform.init()
        stand_in.terraform.apply()
        first, second, apply = stand_in.calls()
        assert "TF_CLI_CONFIG_FILE" not in first["environment"]
        config = Path(second["environment"]["TF_CLI_CONFIG_FILE"])
        assert f'path = "{mirror}"' in config.read_text()
        assert config.is_relative_to(stand_in.terraform.work_folder)
        assert apply["environment"]["TF_CLI_CONFIG_FILE"] == str(config)

    def test_moved_mirror_is_found_again_and_a_removed_one_is_not_needed(self, stand_in: StandIn) -> None:
        """The work folder is kept; a container's mirror does not exist on the next machine."""
        mirror = stand_in.mirror()
        stand_in.does(NEEDS_MIRROR)
        stand_in.terraform.init()
        moved = mirror.rename(mirror.with_name("elsewhere"))
        stand_in.terraform.init()
        shutil.rmtree(moved)
        stand_in.does('if os.environ.get("TF_CLI_CONFIG_FILE"):' + NEEDS_MIRROR.replace("\n", "\n    "))
        stand_in.terraform.init()

    @pytest.mark.parametrize("has_mirror", [True, False])
    def test_unreachable_registry_without_a_useful_mirror_is_an_error(
        self, stand_in: StandIn, has_mirror: bool
    ) -> None:
        if has_mirror:
            stand_in.mirror()
        stand_in.does(f'say("{UNREACHABLE}"); sys.exit(1)')
        with pytest.raises(RefinerctlError, match=r"terraform init of module failed: .*Failed to query"):
            stand_in.terraform.init()
        assert len(stand_in.calls()) == 1 + has_mirror
        assert not list(stand_in.terraform.work_folder.glob("*.rc"))

    def test_init_is_not_repeated_while_nothing_changes(self, stand_in: StandIn) -> None:
        stand_in.says()
        for _ in range(3):
            stand_in.terraform.init("-backend-config=x", configuration="files 1")
        assert len(stand_in.calls()) == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda given: given.terraform.init("-backend-config=other", configuration="files"),
            lambda given: given.terraform.init("-backend-config=x", configuration="other files"),
            lambda given: replace(given.terraform, module=given.folder).init(configuration="files"),
            lambda given: given.says("another version of the program"),
            lambda given: shutil.rmtree(given.folder / "mirror"),
            lambda given: (given.terraform.data_dir / "terraform.tfstate").write_text("another backend"),
            lambda given: (given.terraform.data_dir / "modules" / "modules.json").unlink(),
            lambda given: given.fail_plan(),
        ],
        ids=["arguments", "files", "module", "terraform", "provider", "backend", "modules", "failed run"],
    )
    def test_init_is_repeated_after_a_change(self, stand_in: StandIn, change: Callable[[StandIn], object]) -> None:
        provider = stand_in.folder / "mirror" / "linux_amd64"
        provider.mkdir(parents=True)
        stand_in.says()
        stand_in.terraform.init("-backend-config=x", configuration="files")
        link = stand_in.terraform.data_dir / "providers/registry.terraform.io/hashicorp/aws/5.0.0/linux_amd64"
        modules = stand_in.terraform.data_dir / "modules" / "modules.json"
        for path in (link, modules):
            path.parent.mkdir(parents=True)
        modules.write_text("{}")
        link.symlink_to(provider)
        stand_in.terraform.init("-backend-config=x", configuration="files")
        before = len(stand_in.inits())
        change(stand_in)
        stand_in.terraform.init("-backend-config=x", configuration="files")
        assert len(stand_in.inits()) > before

    def test_run_that_needs_another_init_says_that_the_next_one_begins_with_it(self, stand_in: StandIn) -> None:
        stand_in.says()
        stand_in.terraform.init(configuration="files")
        stand_in.says("Error: Module not installed", 'Run "terraform init" to install all modules.', code=1)
        with pytest.raises(RefinerctlError, match="Module not installed") as caught:
            stand_in.terraform.find_lock()
        assert "Run this again: it begins with `terraform init`." in str(caught.value.hint)

    def test_init_is_repeated_after_one_that_failed(self, stand_in: StandIn) -> None:
        stand_in.says("Error: no network", code=1)
        with pytest.raises(RefinerctlError):
            stand_in.terraform.init(configuration="files")
        stand_in.says()
        stand_in.terraform.init(configuration="files")
        assert len(stand_in.calls()) == 2

    def test_other_failure_does_not_try_the_mirror(self, stand_in: StandIn) -> None:
        stand_in.mirror()
        stand_in.does('say("╷", "│ Error: Invalid backend", "│", "│ because of this", "╵"); sys.exit(1)')
        with pytest.raises(RefinerctlError, match=r"failed: Invalid backend because of this$"):
            stand_in.terraform.init()
        assert len(stand_in.calls()) == 1


INTERRUPTED = """
signal.signal(signal.SIGINT, lambda *_: None)
say(json.dumps({"type": "change_summary", "changes": {"add": 1, "change": 0, "remove": 0, "operation": "plan"}}))
(folder / "new").write_text(str(os.getpid()))
(folder / "new").rename(folder / "pid")  # whole, or not yet
time.sleep(20)
(folder / "finished").touch()
"""


class TestInterrupt:
    def test_disposable_run_is_killed_with_its_children(self, stand_in: StandIn) -> None:
        stand_in.does(INTERRUPTED)

        def interrupt(*_: object) -> None:
            _until((stand_in.folder / "pid").exists)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

        with pytest.raises(KeyboardInterrupt):
            replace(stand_in.terraform, embedded=True, disposable=True).apply(on_progress=interrupt)
        assert not (stand_in.folder / "finished").exists()
        assert not psutil.pid_exists(int((stand_in.folder / "pid").read_text()))

    def test_ctrl_c_of_the_terminal_does_not_reach_terraform(self, stand_in: StandIn) -> None:
        """It would be a second one, on which terraform does not save its state."""
        stand_in.does("(folder / 'session').write_text(str(os.getsid(0) == os.getpid()))")
        stand_in.terraform.apply()
        assert (stand_in.folder / "session").read_text() == "True"

    def test_failing_receiver_of_progress_ends_the_run(self, stand_in: StandIn) -> None:
        stand_in.does(INTERRUPTED)

        def fail(*_: object) -> None:
            raise ValueError("no screen")

        with pytest.raises(ValueError, match="no screen"):
            replace(stand_in.terraform, embedded=True, disposable=True).apply(on_progress=fail)
        pid = stand_in.folder / "pid"
        assert not pid.exists() or not psutil.pid_exists(int(pid.read_text()))


def _until(look: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(1000):
        if look():
            return
        waiting.wait(0.01)


def _mirror_roots(module: Path, folder: Path) -> Sequence[Path]:
    """This machine's mirrors, or a new one from the registry."""
    if find_provider_mirror(MIRROR_ROOTS) is not None:
        return MIRROR_ROOTS
    subprocess.run(["terraform", f"-chdir={module}", "providers", "mirror", str(folder / "mirror")], check=True)
    return [folder]


def test_real_terraform_uses_the_real_mirror(root: Path, tmp_path: Path) -> None:
    """Offline. A copy of the module, so that nothing is written into the tree."""
    module = tmp_path / "registry"
    module.mkdir()
    for name in ("versions.tf", ".terraform.lock.hcl"):
        shutil.copy(root / "terraform" / "stacks" / "registry" / name, module / name)
    (module / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    terraform = Terraform(module, tmp_path / "data", tmp_path / "work", tmp_path / "terraform.log", embedded=True)
    terraform = replace(terraform, mirror_roots=_mirror_roots(module, tmp_path / "roots"))
    # The registry is unreachable, whether this machine has internet or not.
    terraform = replace(
        terraform, environment={"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    )
    terraform.init()
    done = terraform.run("version", "-json")
    assert json.loads(done.stdout)["provider_selections"] == {str(PROVIDER): "5.100.0"}
    assert sorted(path.name for path in module.iterdir()) == [
        ".terraform.lock.hcl",
        "backend_override.tf",
        "versions.tf",
    ]
    with_ours = subprocess.run(
        ["terraform", f"-chdir={module}", "providers"],
        env={**os.environ, **terraform.variables()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert with_ours.returncode == 0, with_ours.stderr
