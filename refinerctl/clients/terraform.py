"""The terraform binary: one root module, its data folder outside the tree, its progress as events."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from refinerctl.errors import RefinerctlError

# Where images and packages bake provider mirrors in.
MIRROR_ROOTS = (
    Path("/opt"),
    Path("/usr/share"),
    Path("/usr/local/share"),
    Path("~/.terraform.d"),
)
PROVIDER = Path("registry.terraform.io/hashicorp/aws")

# Variables by which a caller steers terraform or the AWS provider.
_STEERING = ("AWS_", "TF_VAR_", "TF_CLI_ARGS", "TF_WORKSPACE", "TF_DATA_DIR")

# What waits for another run on the same state to finish.
LOCK_TIMEOUT = "120s"

_UNREACHABLE = (
    "could not connect to",
    "Failed to query available provider packages",
    "Failed to install provider",
)


@dataclass(frozen=True)
class ApplyProgress:
    """How far an apply is: resources done of those planned, and the address last finished."""

    done: int
    total: int
    address: str


OnApply = Callable[[ApplyProgress], None]


def find_provider_mirror(roots: Iterable[Path] = MIRROR_ROOTS) -> Path | None:
    """A folder, one or two levels below one of `roots`, that holds the AWS provider; None if there is none."""
    for root in roots:
        for pattern in ("*", "*/*"):
            with contextlib.suppress(OSError):
                for found in sorted(root.expanduser().glob(f"{pattern}/{PROVIDER}")):
                    return found.parents[len(PROVIDER.parts) - 1]
    return None


@dataclass(frozen=True)
class Terraform:
    """Runs terraform in one root module.

    `environment` is set on top of the process's own. `embedded` is for an environment on this machine: nothing that
    points terraform somewhere else gets through from the caller's variables. `disposable`: an interrupted run is
    killed, because its state goes away with its environment; otherwise terraform gets one SIGINT and finishes it.
    """

    module: Path
    data_dir: Path
    work_folder: Path
    log: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    embedded: bool = False
    disposable: bool = False
    mirror_roots: Sequence[Path] = MIRROR_ROOTS

    @property
    def _generated_config(self) -> Path:
        return self.work_folder / "terraform.rc"

    def variables(self) -> dict[str, str]:
        """The environment variables that make a bare `terraform` in `module` do what this object does."""
        given = {
            **self.environment,
            "TF_DATA_DIR": str(self.data_dir),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            # Terraform would otherwise write below the home folder and ask the internet for its newest version.
            "CHECKPOINT_DISABLE": "1",
        }
        if config := self._cli_config():
            given["TF_CLI_CONFIG_FILE"] = str(config)
        return given

    def init(self, *arguments: str) -> None:
        """`terraform init`; falls back to a provider mirror on this machine where the registry is out of reach."""
        command = ["init", *_INIT_FLAGS, *arguments]
        with self._one_init_at_a_time():
            if self._cli_config() is not None:
                if self._run(command).returncode == 0:
                    return
                self._generated_config.unlink()  # its mirror may have moved, or lack what the lock file wants now
            done = self._run(command)
            if done.returncode != 0 and any(text in done.stdout for text in _UNREACHABLE) and self._use_mirror():
                done = self._run(command)
                if done.returncode != 0:
                    self._generated_config.unlink()
        if done.returncode != 0:
            raise self._failed("init", _last_error(done.stdout))

    @contextlib.contextmanager
    def _one_init_at_a_time(self) -> Iterator[None]:
        """Terraform's plugin cache, shared by all stacks, does not take two at once."""
        self.work_folder.mkdir(parents=True, exist_ok=True)
        with (self.work_folder / "terraform-init.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def apply(self, var_files: Sequence[Path] = (), on_progress: OnApply = lambda _: None) -> None:
        """Plan and apply without asking. Raises RefinerctlError with Terraform's own errors."""
        files = [f"-var-file={path}" for path in var_files]
        reader = _ApplyReader(on_progress)
        # The provider holds a slot for 25 s per queue; an account would throttle what an emulator does not.
        parallelism = ["-parallelism=30"] if self.embedded else []
        code = self._stream(
            ["apply", "-json", "-auto-approve", "-input=false", f"-lock-timeout={LOCK_TIMEOUT}", *parallelism, *files],
            reader.line,
        )
        if code != 0:
            raise self._failed("apply", "; ".join(reader.errors) or f"exit code {code}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Any other sub-command; standard output holds both streams."""
        return self._run(list(arguments))

    def _cli_config(self) -> Path | None:
        given = os.environ.get("TF_CLI_CONFIG_FILE") or str(Path("~/.terraformrc").expanduser())
        if Path(given).is_file():  # the user's own goes first
            return None
        return self._generated_config if self._generated_config.is_file() else None

    def _use_mirror(self) -> bool:
        mirror = find_provider_mirror(self.mirror_roots)
        if mirror is None:
            return False
        quoted = json.dumps(str(mirror))
        self._generated_config.write_text(
            f"provider_installation {{\n  filesystem_mirror {{\n    path = {quoted}\n  }}\n}}\n",
            encoding="utf-8",
        )
        return True

    def _process_environment(self) -> dict[str, str]:
        inherited = dict(os.environ)
        if self.embedded:
            inherited = {key: value for key, value in inherited.items() if not key.startswith(_STEERING)}
        configured = inherited.get("TF_CLI_CONFIG_FILE")
        if configured and not Path(configured).is_file():
            del inherited["TF_CLI_CONFIG_FILE"]  # terraform would warn on every call
        ours = self.variables()
        if "TF_CLI_CONFIG_FILE" not in ours and "TF_PLUGIN_CACHE_DIR" not in inherited:
            # One download of the provider for all stacks. Not with a mirror: terraform would copy what it can link.
            cache = self.work_folder / "terraform-plugins"
            cache.mkdir(parents=True, exist_ok=True)
            inherited["TF_PLUGIN_CACHE_DIR"] = str(cache)
        return inherited | ours

    def _command(self, arguments: Sequence[str]) -> list[str]:
        binary = shutil.which("terraform")
        if binary is None:
            raise RefinerctlError(
                "terraform is not installed",
                hint="Install it from https://developer.hashicorp.com/terraform/install.",
            )
        if not self.module.is_dir():
            raise RefinerctlError(f"there is no Terraform root module {self.module}")
        return [binary, f"-chdir={self.module}", *arguments]

    def _run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        lines: list[str] = []
        code = self._stream(arguments, lines.append)
        return subprocess.CompletedProcess(arguments, code, "".join(lines))

    def _stream(self, arguments: list[str], on_line: Callable[[str], None]) -> int:
        """Run, handing on each line as it comes. Ctrl-C reaches terraform once, through us, not by the terminal."""
        with _socket_folder() as sockets:
            return self._stream_in(sockets, arguments, on_line)

    def _stream_in(self, sockets: str, arguments: list[str], on_line: Callable[[str], None]) -> int:
        process = subprocess.Popen(
            self._command(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._process_environment() | {"TMPDIR": sockets},
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        try:
            with self._open_log() as log:
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    on_line(line)
            return process.wait()
        except BaseException:
            self._interrupt(process)
            raise

    def _open_log(self) -> contextlib.AbstractContextManager[TextIO]:
        if self.log is None:
            return Path(os.devnull).open("a", encoding="utf-8")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.log.open("a", encoding="utf-8")

    def _interrupt(self, process: subprocess.Popen[str]) -> None:
        try:
            if process.poll() is None and not self.disposable:
                process.send_signal(signal.SIGINT)
                process.communicate()
        finally:  # at once where nothing is lost, and for whoever interrupts again
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _failed(self, verb: str, reason: str) -> RefinerctlError:
        hint = f"The whole output is in {self.log}." if self.log else None
        return RefinerctlError(f"terraform {verb} of {self.module.name} failed: {reason}", hint=hint)


_INIT_FLAGS = ("-input=false", "-no-color", "-reconfigure")


def _socket_folder() -> contextlib.AbstractContextManager[str]:
    """Where providers put their sockets, which they leave when they are killed.

    Not below the work folder: the path of a socket has at most 108 bytes, and that of a project may be longer.
    """
    return tempfile.TemporaryDirectory(prefix="refinerctl-tf-")


class _ApplyReader:
    """Reads `terraform apply -json`: https://developer.hashicorp.com/terraform/internals/machine-readable-ui"""

    def __init__(self, on_progress: OnApply) -> None:
        self.errors: list[str] = []
        self._on_progress = on_progress
        self._total = 0
        self._done = 0

    def line(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        kind = event.get("type")
        if kind == "change_summary" and event["changes"]["operation"] == "plan":
            changes = event["changes"]
            self._total = changes["add"] + changes["change"] + changes["remove"]
            self._on_progress(ApplyProgress(0, self._total, ""))
        elif kind == "apply_complete" and event["hook"]["action"] != "read":
            self._done += 1
            self._on_progress(ApplyProgress(self._done, self._total, event["hook"]["resource"]["addr"]))
        elif kind == "diagnostic" and event["diagnostic"]["severity"] == "error":
            self.errors.append(_diagnostic_text(event["diagnostic"]))


def _diagnostic_text(diagnostic: dict[str, str]) -> str:
    detail = " ".join(diagnostic.get("detail", "").split())
    return f"{diagnostic['summary']}: {detail}" if detail else diagnostic["summary"]


def _last_error(text: str) -> str:
    """The sentences after the last `Error:` of terraform's text output."""
    _, found, after = text.rpartition("Error: ")
    return " ".join((after if found else text).replace("│", " ").replace("╵", " ").split())[:600] or "no output"
