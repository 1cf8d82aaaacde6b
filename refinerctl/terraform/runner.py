"""The terraform binary in one root module, its data folder outside the tree."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refinerctl.errors import AccessDeniedError, RefinerctlError, RefusedError, TimedOutError
from refinerctl.terraform.events import (
    HEAD_BYTES,
    LOCKED,
    EventReader,
    OnApply,
    StateLock,
    StateVersion,
    last_error,
    lock_text,
    parse_lock,
)
from refinerctl.terraform.installation import MIRROR_ROOTS, find_provider_mirror
from refinerctl.terraform.process import Process, Tell, socket_folder
from refinerctl.waits import WAITS

# Variables that configure the AWS provider or set values: a local environment ignores the caller's.
_STEERING = ("AWS_", "TF_VAR_")
# Variables with which a run would do something else than refinerctl says: only a part of the stack (-target), other
# values (`refinerctl local env --terraform` sets some), no refresh (-refresh=false), another state, endpoint or role.
# Terraform and its provider know older names of endpoints than the SDKs: TF_AWS_S3_ENDPOINT, AWS_S3_ENDPOINT.
_REFUSED = re.compile(
    r"TF_CLI_ARGS(?!_init$)|TF_WORKSPACE$|TF_DATA_DIR$|TF_VAR_assume_role$"
    r"|AWS_ENDPOINT_URL|(TF_)?AWS_(DYNAMODB|IAM|S3|SSO|STS)_ENDPOINT$"
)

# How long to wait for another run on the same state to finish.
LOCK_TIMEOUT_SECONDS = 120.0

_UNREACHABLE = (
    "could not connect to",
    "Failed to query available provider packages",
    "Failed to install provider",
)
# Makes Terraform install all providers from a folder.
_MIRROR = "provider_installation {{\n  filesystem_mirror {{\n    path = {path}\n  }}\n}}\n"
_INIT_FLAGS = ("-input=false", "-no-color", "-reconfigure")


@dataclass(frozen=True)
class Terraform:
    """Runs terraform in one root module.

    `environment` is set on top of the process's own. `embedded`: for an environment on this machine the caller's
    variables for the provider are ignored. `disposable`: an interrupted run is killed, because its state ends with its
    environment; otherwise terraform gets one SIGINT and saves its state. `binary` is a path or a name on PATH. `tell`
    gets messages for the user: who holds the lock, what an interrupt does. `unlock_hint` says how to release it.
    """

    module: Path
    data_dir: Path
    work_folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    embedded: bool = False
    disposable: bool = False
    mirror_roots: Sequence[Path] = MIRROR_ROOTS
    binary: str = "terraform"
    lock_timeout_s: float = LOCK_TIMEOUT_SECONDS
    tell: Tell = lambda _: None
    unlock_hint: str = "Run `refinerctl unlock`."

    @property
    def _generated_config(self) -> Path:
        return self.work_folder / "terraform.rc"

    def variables(self) -> dict[str, str]:
        """The environment variables with which a bare `terraform` in `module` does what this object does."""
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

    def init(self, *arguments: str, configuration: str = "") -> None:
        """`terraform init`; falls back to a provider mirror on this machine if the registry cannot be reached.

        With `configuration`, a digest of all files that it reads: nothing is done if all is as after the last one.
        """
        if configuration and self._recorded_init() == self._init_digest(arguments, configuration):
            return
        self._init_record.unlink(missing_ok=True)
        self._init(arguments)
        if configuration:
            self._init_record.write_text(self._init_digest(arguments, configuration), encoding="utf-8")

    @property
    def _init_record(self) -> Path:
        return self.data_dir / "refinerctl-init"

    def _recorded_init(self) -> str | None:
        return self._init_record.read_text(encoding="utf-8") if self._init_record.is_file() else None

    def _init_digest(self, arguments: Sequence[str], configuration: str) -> str:
        """A digest of what init depends on, and of what it left: somebody may run terraform in the same data folder."""
        binary = shutil.which(self.binary)
        left = [self.data_dir / "terraform.tfstate", self.data_dir / "modules" / "modules.json"]
        providers = sorted(self.data_dir.glob("providers/*/*/*/*/*"))
        parts = (
            configuration,
            str(self.module),
            *arguments,
            *(value for name, value in os.environ.items() if name == "TF_CLI_ARGS_init"),
            *(f"{name}={value}" for name, value in self.environment.items() if name == "TF_HTTP_ADDRESS"),
            f"{binary} {Path(binary).stat().st_mtime_ns}" if binary else "",
            *(path.read_text(encoding="utf-8") for path in left if path.is_file()),
            *(str(path.resolve()) for path in providers if path.is_dir()),  # a link to a removed mirror is none
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _init(self, arguments: Sequence[str]) -> None:
        command = ["init", *_INIT_FLAGS, *arguments]
        self.work_folder.mkdir(parents=True, exist_ok=True)
        with (self.work_folder / "terraform-init.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # Terraform's plugin cache, shared by all stacks, does not support two
            if self._cli_config() is not None:
                if self.run(*command).returncode == 0:
                    return
                self._generated_config.unlink()  # the mirror may have moved, or not have the version in the lock file
            done = self.run(*command)
            is_unreachable = done.returncode != 0 and any(text in done.stdout for text in _UNREACHABLE)
            if is_unreachable and (mirror := find_provider_mirror(self.mirror_roots)):
                self._generated_config.write_text(_MIRROR.format(path=json.dumps(str(mirror))), encoding="utf-8")
                done = self.run(*command)
                if done.returncode != 0:
                    self._generated_config.unlink()
        if done.returncode != 0:
            raise self._failed("init", last_error(done.stdout))

    def plan(self, out: Path, var_files: Sequence[Path] = (), *, destroy: bool = False) -> None:
        """Plan into the file `out`. Raises TimedOutError while another run keeps the lock."""
        files = [f"-var-file={path}" for path in var_files]
        self._change("plan", [f"-out={out}", *(["-destroy"] if destroy else []), *files])

    def apply(self, var_files: Sequence[Path] = (), on_progress: OnApply = lambda *_: None) -> None:
        """Plan and apply without asking. Raises RefinerctlError with Terraform's own errors."""
        self._change("apply", ["-auto-approve", *(f"-var-file={path}" for path in var_files)], on_progress)

    def apply_plan(self, plan: Path, on_progress: OnApply = lambda *_: None) -> None:
        """Apply exactly `plan`. Raises RefusedError if the state has changed since it was made."""
        self._change("apply", [str(plan)], on_progress)

    def _change(self, verb: str, arguments: Sequence[str], on_progress: OnApply = lambda *_: None) -> None:
        """A run that locks the state. The first attempt does not wait, to report at once who holds the lock."""
        reader = EventReader(on_progress)
        code = self._stream(self._locking(verb, 0, arguments), reader.line)
        if code != 0 and reader.lock and self.lock_timeout_s > 0:
            self.tell(f"{lock_text(reader.lock)}; waiting up to {self.lock_timeout_s:.10g} s")
            reader = EventReader(on_progress)
            code = self._stream(self._locking(verb, self.lock_timeout_s, arguments), reader.line)
        for warning in dict.fromkeys(reader.warnings):
            self.tell(f"Terraform warning: {warning}")
        if code == 0:
            return
        if reader.lock:
            waited = f", and did not release it in {self.lock_timeout_s:.10g} s" if self.lock_timeout_s else ""
            raise TimedOutError(
                f"{lock_text(reader.lock)}{waited}",
                hint=f"Only if that run has crashed, release the lock. {self.unlock_hint}",
            )
        if reader.is_stale:
            raise RefusedError("the state has changed since the plan was made", hint="Make a new plan.")
        raise self._failed(verb, reader.why() or f"exit code {code}")

    def _locking(self, verb: str, lock_timeout_s: float, arguments: Sequence[str]) -> list[str]:
        # The provider holds a slot for 25 s per queue; an account would throttle what an emulator does not.
        parallelism = ["-parallelism=30"] if self.embedded else []
        flags = ["-json", "-input=false", f"-lock-timeout={lock_timeout_s * 1000:.0f}ms"]
        return [verb, *flags, *parallelism, *arguments]

    def find_lock(self) -> StateLock | None:
        """The state's lock if another run holds it. Tries to lock the state with a command that changes nothing."""
        done = self.run("untaint", "-allow-missing", "-no-color", "-lock-timeout=0s", "refinerctl_probe.none")
        if done.returncode == 0:
            return None
        if LOCKED not in done.stdout:
            raise self._failed("state lock", last_error(done.stdout))
        return parse_lock(done.stdout)

    def force_unlock(self, lock_id: str) -> None:
        """Release the lock. Raises RefinerctlError if its id is not, or no longer, `lock_id`."""
        done = self.run("force-unlock", "-force", lock_id)
        if done.returncode != 0:
            raise self._failed("force-unlock", last_error(re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)))

    def show(self, plan: Path) -> dict[str, Any]:
        """A plan file as Terraform's JSON, secrets included: https://developer.hashicorp.com/terraform/internals/json-format"""
        document: dict[str, Any] = json.loads(self._capture("show", "-json", "-no-color", str(plan)))
        return document

    def show_state(self) -> dict[str, Any]:
        """The root module of the state as Terraform's JSON, secrets included; empty without resources."""
        document: dict[str, Any] = json.loads(self._capture("show", "-json", "-no-color"))
        module: dict[str, Any] = document.get("values", {}).get("root_module", {})
        return module

    def show_text(self, plan: Path) -> str:
        """A plan as Terraform shows it to people: without secrets."""
        return self._capture("show", "-no-color", str(plan)).decode(errors="replace")

    def outputs(self) -> tuple[dict[str, Any], frozenset[str]]:
        """The root module's outputs by name, none before the first apply; and the names of the sensitive ones."""
        document: dict[str, Any] = json.loads(self._capture("output", "-json", "-no-color"))
        sensitive = frozenset(name for name, item in document.items() if item.get("sensitive"))
        return {name: item["value"] for name, item in sorted(document.items())}, sensitive

    def state_version(self) -> StateVersion:
        """Lineage and serial of the state as it is now; those of an empty one if there is none yet."""
        return StateVersion.read(self._capture("state", "pull", limit=HEAD_BYTES))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Any other sub-command; standard output holds both streams."""
        lines: list[str] = []
        with WAITS.waiting(f"terraform {arguments[0]}"):
            code = self._stream(list(arguments), lines.append)
        return subprocess.CompletedProcess(list(arguments), code, "".join(lines))

    def _capture(self, *arguments: str, limit: int = -1) -> bytes:
        """The output of a command that only reads, or its first `limit` bytes; never logged: it may hold secrets."""
        self.data_dir.mkdir(0o700, parents=True, exist_ok=True)
        waiting = WAITS.waiting(f"terraform {arguments[0]}")
        with waiting, socket_folder() as sockets, tempfile.TemporaryFile(dir=self.data_dir) as output:
            done = subprocess.run(
                self._command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                env={**self._process_environment(), "TMPDIR": sockets},
                check=False,
            )
            if done.returncode != 0:
                raise self._failed(arguments[0], last_error(done.stderr.decode(errors="replace")))
            output.seek(0)
            return output.read(limit)

    def _cli_config(self) -> Path | None:
        given = os.environ.get("TF_CLI_CONFIG_FILE") or str(Path("~/.terraformrc").expanduser())
        if Path(given).is_file():  # the user's own wins
            return None
        return self._generated_config if self._generated_config.is_file() else None

    def _process_environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not _REFUSED.match(key)}
        if self.embedded:
            inherited.pop("TF_CLI_ARGS_init", None)
            inherited = {key: value for key, value in inherited.items() if not key.startswith(_STEERING)}
        configured = inherited.get("TF_CLI_CONFIG_FILE")
        if configured and not Path(configured).is_file():
            del inherited["TF_CLI_CONFIG_FILE"]  # terraform would warn on every call
        # Reading the AWS provider's schema is mostly garbage collection: 20 % less time of the processor for 80 MB.
        inherited.setdefault("GOGC", "300")
        ours = self.variables()
        if "TF_CLI_CONFIG_FILE" not in ours and "TF_PLUGIN_CACHE_DIR" not in inherited:
            # One download of the provider for all stacks. Not with a mirror: terraform would copy what it can link.
            cache = self.work_folder / "terraform-plugins"
            cache.mkdir(parents=True, exist_ok=True)
            inherited["TF_PLUGIN_CACHE_DIR"] = str(cache)
        return inherited | ours | {"TF_WORKSPACE": "default"}  # whatever is chosen in the data folder

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [self.binary, f"-chdir={self.module}", *arguments]

    def _stream(self, arguments: Sequence[str], on_line: Callable[[str], None]) -> int:
        """Run; each line of output goes to `on_line` and to the log as it comes."""
        self.data_dir.mkdir(0o700, parents=True, exist_ok=True)
        process = Process(
            self._command(arguments),
            self._process_environment(),
            self.data_dir,
            log=self.log,
            disposable=self.disposable,
            tell=self.tell,
        )
        return process.run(on_line)

    def _failed(self, verb: str, reason: str) -> RefinerctlError:
        self._init_record.unlink(missing_ok=True)  # the next run begins with init, which repairs the data folder
        if "AWS account ID not allowed" in reason:
            return RefusedError(
                f"terraform {verb} of {self.module.name}: {reason}",
                hint="Use credentials of an account in allowed_account_ids.",
            )
        if "error in credential_process" in reason:
            return AccessDeniedError(
                f"terraform {verb}: the credentials could not be renewed",
                hint="Log in again, or use a new job token. `refinerctl status` shows the cause.",
            )
        if "No valid credential sources found" in reason:
            return AccessDeniedError(
                f"no AWS credentials found for terraform {verb}",
                hint="Set AWS_PROFILE or --profile, or export the AWS_* variables.",
            )
        # A module outside of the folder of modules has changed, or somebody has removed a file of the data folder.
        again = "Run this again: it begins with `terraform init`. " if "terraform init" in reason else ""
        return RefinerctlError(
            f"terraform {verb} of {self.module.name} failed: {reason}",
            hint=f"{again}The whole output is in {self.log}.",
        )
