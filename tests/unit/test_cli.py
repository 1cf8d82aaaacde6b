"""The edge: options, errors and exit codes, streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from refinerctl import __version__
from refinerctl.app import app_context
from refinerctl.cli import LOCAL, SECTIONS, cli, main
from refinerctl.config import GlobalFlags
from refinerctl.embedded import MARKER, Instance
from refinerctl.errors import (
    AccessDeniedError,
    NotFoundError,
    RefinerctlError,
    RefusedError,
    TimedOutError,
    UsageError,
)
from refinerctl.options import global_options
from tests.command import Command, spawn

TOML = """
environment = "local"
[environments.local]
embedded = true
[environments.far]
region = "eu-west-1"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "refinerctl.toml").write_text(TOML)
    return tmp_path


def command_paths() -> Iterator[tuple[str, ...]]:
    """The words that lead to each command."""
    for commands in SECTIONS.values():
        for name, (target, _) in commands.items():
            if isinstance(target, str):
                yield (name,)
            else:
                yield from ((name, inner) for inner in target)


@contextmanager
def added(command: click.Command) -> Iterator[None]:
    """A command more, for a while."""
    cli.add_command(command)
    try:
        yield
    finally:
        del cli.commands[command.name or ""]


GivenFlags = Callable[[list[str]], GlobalFlags]


@pytest.fixture
def given_flags() -> Iterator[GivenFlags]:
    """Runs a command `flags`, and returns the global options that it was given."""
    seen: list[GlobalFlags] = []

    @click.command("flags")
    @global_options
    @click.pass_context
    def flags(ctx: click.Context) -> None:
        seen.append(ctx.find_root().obj or GlobalFlags())

    def run(arguments: list[str]) -> GlobalFlags:
        cli.main(arguments, standalone_mode=False)
        return seen[-1]

    with added(flags):
        yield run


class TestGlobalOptions:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--env", "far"], GlobalFlags(env="far")),
            (["--stack", "registry"], GlobalFlags(stack="registry")),
            (["--output", "json"], GlobalFlags(output="json")),
            (["--region", "r"], GlobalFlags(region="r")),
            (["--profile", "p"], GlobalFlags(profile="p")),
            (["--endpoint-url", "http://e"], GlobalFlags(endpoint_url="http://e")),
            (["--bucket", "b"], GlobalFlags(bucket="b")),
            (["-v"], GlobalFlags(verbosity=1)),
            (["-vv"], GlobalFlags(verbosity=2)),
            (["-q"], GlobalFlags(verbosity=-1)),
            (["--quiet"], GlobalFlags(verbosity=-1)),
            ([], GlobalFlags()),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, list) else "",
    )
    def test_before_and_after_the_command_they_mean_the_same(
        self, given_flags: GivenFlags, options: list[str], expected: GlobalFlags
    ) -> None:
        for arguments in ([*options, "flags"], ["flags", *options]):
            assert given_flags(arguments) == expected

    def test_the_one_nearest_to_the_end_of_the_command_line_counts(self, given_flags: GivenFlags) -> None:
        assert given_flags(["--env", "a", "flags", "--env", "c"]).env == "c"
        assert given_flags(["--env", "a", "flags"]).env == "a"
        assert given_flags(["-q", "flags", "-v"]).verbosity == 1

    def test_a_group_accepts_global_options(self, project: Path, refinerctl: Command) -> None:
        assert refinerctl("local", "--output", "json", "status", cwd=project).json()["state"] == "down"

    def test_a_flag_beats_a_variable_beats_the_file(
        self, project: Path, refinerctl: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert refinerctl("local", "status", cwd=project).out.startswith("state")
        monkeypatch.setenv("REFINERCTL_OUTPUT", "json")
        assert refinerctl("local", "status").json()["state"] == "down"
        assert refinerctl("local", "status", "--output", "text").out.startswith("state")

    def test_every_one_of_them_can_be_a_variable(
        self, project: Path, refinerctl: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REFINERCTL_ENV", "nowhere")
        done = refinerctl("poll", cwd=project)
        assert (done.code, "'nowhere'" in done.err) == (2, True)


class TestLocalDefaults:
    def test_local_is_about_environment_local_whatever_the_file_says(self, tmp_path: Path, refinerctl: Command) -> None:
        (tmp_path / "refinerctl.toml").write_text(TOML.replace('environment = "local"', 'environment = "far"'))
        assert refinerctl("local", "status", cwd=tmp_path).code == 0

    def test_an_environment_that_is_not_on_this_machine_is_refused(self, project: Path, refinerctl: Command) -> None:
        done = refinerctl("local", "status", "--env", "far", cwd=project)
        assert done.code == 2
        assert "'far' is not a local environment" in done.err

    def test_defaults_do_not_replace_what_was_given(self) -> None:
        ctx = click.Context(cli)
        ctx.obj = GlobalFlags(env="far")
        assert app_context(ctx, env="local")._flags.env == "far"
        ctx.obj = GlobalFlags()
        assert app_context(ctx, env="local")._flags.env == "local"

    @pytest.mark.parametrize("command", [["poll"], ["upload", "refinerctl.toml"], ["local", "env"]])
    def test_the_hint_names_the_command_that_starts_the_environment(
        self, project: Path, refinerctl: Command, command: list[str]
    ) -> None:
        done = refinerctl(*command, cwd=project)
        assert done.code == 1
        assert done.out == ""
        assert " is down\n" in done.err
        assert "refinerctl local up --detach --env local --stack refiner" in done.err

    @pytest.mark.parametrize("command", [["poll"], ["verify"], ["plan"], ["releases"]], ids=" ".join)
    def test_outside_of_a_project_the_error_says_so(
        self, tmp_path: Path, refinerctl: Command, command: list[str]
    ) -> None:
        done = refinerctl(*command, cwd=tmp_path)
        assert done.code == 1
        assert f"no refinerctl.toml in {tmp_path} or its parent folders" in done.err
        assert "`refinerctl init DIR` creates one" in done.err
        assert "local" not in done.err.replace(str(tmp_path), "")

    def test_down_succeeds_if_the_environment_is_already_down(self, project: Path, refinerctl: Command) -> None:
        done = refinerctl("local", "down", cwd=project)
        assert (done.code, done.out) == (0, "")
        assert "was already down" in done.err

    def test_asking_leaves_no_folder_behind(self, project: Path, refinerctl: Command) -> None:
        refinerctl("local", "status", cwd=project)
        refinerctl("local", "logs", cwd=project)
        assert not (project / ".refinerctl").exists()


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["no-such-command"],
            ["--no-such-option"],
            ["poll", "--no-such-option"],
            ["poll", "surplus"],
            ["poll", "--output", "yaml"],
            ["poll", "--stack", "other"],
            ["poll", "--once", "--follow"],
            ["poll", "--once", "--count", "3"],
            ["poll", "--expect", "x", "--follow"],
            ["poll", "--expect", "x", "--count", "1"],
            ["poll", "--count", "0"],
            ["poll", "--max-content", "-1"],
            ["poll", "--since", "yesterday"],
            ["poll", "--timeout", "soon"],
            ["poll", "--interval", "-1"],
            ["poll", "--env", "nowhere"],
            ["poll", "--download", "refinerctl.toml"],
            ["upload"],
            ["upload", "no-such-file"],
            ["upload", "-"],
            ["upload", "."],
            ["upload", "refinerctl.toml", "--prefix", "NoSlash"],
            ["upload", "refinerctl.toml", "--timeout", "x"],
            ["local"],
            ["local", "up", "--engine", "podman"],
            ["local", "up", "--port", "0"],
            ["local", "up", "--port", "65536"],
            ["local", "up", "--build-arg", "NAME"],
            ["local", "logs", "--source", "nothing"],
            ["completion"],
            ["completion", "tcsh"],
            [],
        ],
        ids=" ".join,
    )
    def test_an_invalid_request_exits_2_and_writes_no_data(
        self, project: Path, refinerctl: Command, arguments: list[str]
    ) -> None:
        done = refinerctl(*arguments, cwd=project)
        assert (done.code, done.out) == (2, "")
        assert done.err
        assert "Traceback" not in done.err

    def test_an_unknown_command_suggests_similar_commands(self, project: Path, refinerctl: Command) -> None:
        done = refinerctl("depoly", cwd=project)
        assert (done.code, "'deploy'" in done.err) == (2, True)
        assert "Did you mean" not in refinerctl("xyzzy").err

    def test_an_invalid_variable_does_not_hide_other_errors(
        self, project: Path, refinerctl: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REFINERCTL_VERBOSE", "loud")
        done = refinerctl("poll", "--env", "nowhere", cwd=project)
        assert (done.code, "'nowhere'" in done.err) == (2, True)
        done = refinerctl("poll", cwd=project)
        assert (done.code, "REFINERCTL_VERBOSE has the invalid value 'loud'" in done.err) == (2, True)

    @pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["poll", "-h"], ["local", "up", "--help"]], ids=" ".join)
    def test_help_is_printed_on_standard_output(self, project: Path, refinerctl: Command, arguments: list[str]) -> None:
        done = refinerctl(*arguments, cwd=project)
        assert (done.code, done.err) == (0, "")
        assert "Usage: refinerctl" in done.out
        assert ("--env NAME" in done.out) == (len(arguments) == 1)

    def test_version(self, project: Path, refinerctl: Command) -> None:
        done = refinerctl("--version", cwd=project)
        assert (done.code, done.out, done.err) == (0, f"refinerctl, version {__version__}\n", "")


class TestDryRun:
    @pytest.mark.parametrize("prefix", ["RefinerComplete/", "/RefinerOutput/sub/"])
    def test_an_input_among_the_results_is_refused(self, project: Path, refinerctl: Command, prefix: str) -> None:
        (project / "a.txt").touch()
        done = refinerctl("upload", "a.txt", "--prefix", prefix, "--dry-run", cwd=project)
        assert (done.code, done.out) == (4, "")
        assert "is a prefix of the pipeline's results" in done.err

    def test_so_is_one_among_the_results_of_another_stage(self, project: Path, refinerctl: Command) -> None:
        values = project / "terraform/environments/local/refiner.tfvars"
        values.parent.mkdir(parents=True)
        values.write_text(
            'rulesets = { Lab = { prefix = "Lab/", image_uri = "lab", '
            'environment = { REFINER_COMPLETE_PREFIX = "LabDone/" } } }'
        )
        (project / "a.txt").touch()
        done = refinerctl("upload", "a.txt", "--prefix", "LabDone/", "--dry-run", cwd=project)
        assert (done.code, done.out) == (4, "")

    def test_an_input_that_no_stage_receives_is_a_warning(self, project: Path, refinerctl: Command) -> None:
        (project / "a.txt").touch()
        done = refinerctl("upload", "a.txt", "--prefix", "Other/", "--dry-run", cwd=project)
        assert done.code == 0
        assert "1 of 1 input will not be processed: no stage receives Other/a.txt" in done.err
        assert "no stage" not in refinerctl("upload", "a.txt", "--dry-run", cwd=project).err

    def test_it_needs_no_environment(self, project: Path, refinerctl: Command) -> None:
        done = refinerctl("upload", "refinerctl.toml", "--dry-run", cwd=project)
        assert done.code == 0
        assert done.out == "would upload refinerctl.toml to s3://data-repository/RefinerInput/refinerctl.toml\n"

    def test_as_json(self, project: Path, refinerctl: Command) -> None:
        done = refinerctl(
            "upload", "-", "--name", "x", "--prefix", "/In/", "--dry-run", "--output", "json", cwd=project
        )
        assert done.json() == {
            "dry_run": True,
            "bucket": "data-repository",
            "uploads": [{"key": "In/x", "path": None, "size": None}],
        }


@pytest.fixture
def failing() -> Iterator[list[BaseException]]:
    """A command `fail` that raises what is in the list."""
    errors: list[BaseException] = []

    @click.command("fail")
    def fail() -> None:
        raise errors[0]

    with added(fail):
        yield errors


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (RefinerctlError("what"), 1),
            (NotFoundError("what"), 1),
            (AccessDeniedError("what"), 1),
            (UsageError("what"), 2),
            (TimedOutError("what"), 3),
            (RefusedError("what"), 4),
            (KeyboardInterrupt(), 130),
            (click.Abort(), 130),
            (ValueError("what"), 1),
            (PermissionError(13, "Permission denied", "/file"), 1),
        ],
    )
    def test_each_has_its_exit_code_and_no_traceback(
        self, refinerctl: Command, failing: list[BaseException], error: BaseException, code: int
    ) -> None:
        failing.append(error)
        done = refinerctl("fail")
        assert (done.code, done.out) == (code, "")
        assert done.err
        assert "Traceback" not in done.err

    def test_the_hint_is_on_a_line_of_its_own(self, refinerctl: Command, failing: list[BaseException]) -> None:
        failing.append(RefinerctlError("what failed", hint="What to do."))
        assert refinerctl("fail").err == "refinerctl: error: what failed\n  What to do.\n"

    def test_a_hint_that_repeats_the_message_is_still_a_hint(
        self, refinerctl: Command, failing: list[BaseException]
    ) -> None:
        failing.append(RefinerctlError("what failed"))
        assert refinerctl("fail").err == "refinerctl: error: what failed\n"

    def test_an_unexpected_one_says_that_it_is_a_bug(self, refinerctl: Command, failing: list[BaseException]) -> None:
        failing.append(ZeroDivisionError("division by zero"))
        done = refinerctl("fail")
        assert "unexpected ZeroDivisionError: division by zero" in done.err
        assert "-vv" in done.err

    def test_a_files_error_names_the_file(self, refinerctl: Command, failing: list[BaseException]) -> None:
        failing.append(PermissionError(13, "Permission denied", "/file"))
        assert refinerctl("fail").err == "refinerctl: error: Permission denied: /file\n"

    def test_vv_shows_where(
        self,
        monkeypatch: pytest.MonkeyPatch,
        failing: list[BaseException],
        refinerctl: Command,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        failing.append(RefinerctlError("what"))
        monkeypatch.setattr(sys, "argv", ["refinerctl", "-vv", "fail"])
        previous = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit):
            main()
        signal.signal(signal.SIGTERM, previous)
        said = capsys.readouterr().err
        assert "Traceback" in said
        assert said.endswith("refinerctl: error: what\n")

    def test_a_message_cannot_steer_the_terminal(self, refinerctl: Command, failing: list[BaseException]) -> None:
        failing.append(RefinerctlError("key a\x07\x9b31mb\u202e", hint="see \x1b]0;x\x07"))
        assert refinerctl("fail").err.replace("\n", "").isprintable()

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
    def test_a_sigterm_unwinds(self, tmp_path: Path, name: str) -> None:
        code = (
            "import os, signal, sys, refinerctl.cli as c\n"
            "@c.cli.command()\n"
            "def fail():\n"
            f"    try: os.kill(os.getpid(), signal.{name}); signal.pause()\n"
            "    finally: print('cleaned up')\n"
            "sys.argv = ['refinerctl', 'fail']; c.main()\n"
        )
        done = spawn(cwd=tmp_path, python=("-c", code))
        assert (done.returncode, done.stdout, done.stderr) == (143, "cleaned up\n", "refinerctl: terminated\n")


class TestHelp:
    @pytest.mark.parametrize("group", [[], ["local"], ["dlq"], ["images"]], ids=" ".join)
    def test_the_help_of_a_group_imports_no_command(self, tmp_path: Path, group: list[str]) -> None:
        code = (
            "import atexit, sys\n"
            "atexit.register(lambda: print(*(name for name in sys.modules if name.startswith('refinerctl.'))))\n"
            "from refinerctl.cli import main\n"
            "main()\n"
        )
        done = spawn(*group, "--help", cwd=tmp_path, python=("-c", code))
        loaded = set(done.stdout.splitlines()[-1].split())
        assert loaded == {f"refinerctl.{name}" for name in ("cli", "errors", "keys", "options")}

    @pytest.mark.parametrize("path", sorted(command_paths()), ids=" ".join)
    def test_help_of_each_command_ends_with_examples(self, path: tuple[str, ...]) -> None:
        ctx = click.Context(cli, info_name="refinerctl", **cli.context_settings)
        command: click.Command = cli
        for name in path:
            assert isinstance(command, click.Group)
            found = command.get_command(ctx, name)
            assert found is not None
            command, ctx = found, click.Context(found, info_name=name, parent=ctx)
        text = command.get_help(ctx)
        examples = text.partition("Examples:\n")[2].split("\n\n")[0].splitlines()
        assert 1 <= len(examples) <= 3
        assert all("refinerctl " in line for line in examples)
        assert text.endswith("see `refinerctl --help`.")

    @pytest.mark.parametrize("width", [80, 100])
    def test_names_are_never_cut(self, tmp_path: Path, width: int) -> None:
        done = spawn("--help", cwd=tmp_path, environ={"COLUMNS": str(width)})
        lines = done.stdout.splitlines()
        for section, commands in SECTIONS.items():
            assert f"{section}:" in lines
            for name, (_, text) in commands.items():
                assert any(line.split() == [name, *text.split()] for line in lines), name
        assert all(len(line) <= width for line in lines)


class TestClosedPipe:
    @pytest.mark.parametrize("arguments", [["local", "status"], ["--help"], ["completion", "bash"]], ids=" ".join)
    def test_a_closed_standard_output_ends_the_command_quietly(self, project: Path, arguments: list[str]) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        done = spawn(*arguments, cwd=project, stdout=writing)
        os.close(writing)
        assert done.stderr == ""
        assert done.returncode == 141

    @pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
    def test_a_command_works_with_closed_standard_streams(self, project: Path, closed: str) -> None:
        line = [sys.executable, "-m", "refinerctl", "env", "list", "--output", "json"]
        done = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", *line], cwd=project, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (5, b"")


class TestImports:
    HEAVY = ("boto3", "botocore", "docker", "rich", "psutil", "moto", "ministack")

    @pytest.mark.parametrize(
        ("arguments", "environ"),
        [
            (["--version"], {}),
            (["--help"], {}),
            (["upload", "--help"], {}),
            (["completion", "zsh"], {}),
            (
                [],
                {"_REFINERCTL_COMPLETE": "bash_complete", "COMP_WORDS": "refinerctl lo", "COMP_CWORD": "1"},
            ),
            (
                [],
                {"_REFINERCTL_COMPLETE": "bash_complete", "COMP_WORDS": "refinerctl upload --", "COMP_CWORD": "2"},
            ),
        ],
        ids=["version", "help", "upload-help", "completion", "tab-command", "tab-option"],
    )
    def test_fast_commands_import_no_heavy_modules(
        self, tmp_path: Path, arguments: list[str], environ: dict[str, str]
    ) -> None:
        code = (
            "import atexit, sys\n"
            f"heavy = set({self.HEAVY!r})\n"
            "atexit.register(lambda: print('LOADED', *sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
            "from refinerctl.cli import main\n"
            "main()\n"
        )
        done = spawn(*arguments, cwd=tmp_path, python=("-c", code), environ=environ)
        assert done.returncode == 0
        assert done.stdout
        assert done.stderr.splitlines()[-1] == "LOADED"


def _complete(cwd: Path, shell: str, *words: str) -> list[str]:
    """What the shell offers for the last of `words`."""
    environ = {"_REFINERCTL_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(words)}
    environ["COMP_CWORD"] = words[-1] if shell == "fish" else str(len(words) - 1)
    done = spawn(cwd=cwd, environ=environ)
    assert done.stderr == ""
    if shell == "zsh":
        return done.stdout.splitlines()[1::3]
    return [line.split(",", 1)[1].split("\t")[0] for line in done.stdout.splitlines() if line]


class TestShellCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_commands_and_options_are_offered(self, tmp_path: Path, shell: str) -> None:
        assert _complete(tmp_path, shell, "refinerctl", "loc") == ["local"]
        assert "--recursive" in _complete(tmp_path, shell, "refinerctl", "upload", "--rec")

    def test_sub_commands_and_values_are_offered(self, tmp_path: Path) -> None:
        assert _complete(tmp_path, "bash", "refinerctl", "local", "") == list(LOCAL)
        assert _complete(tmp_path, "bash", "refinerctl", "poll", "--output", "") == ["text", "json"]

    def test_environments_are_offered(self, project: Path) -> None:
        assert _complete(project, "bash", "refinerctl", "deploy", "--env", "") == ["far", "local"]
        assert _complete(project, "bash", "refinerctl", "--env", "fa") == ["far"]
        (project / "refinerctl.toml").write_text("[")
        assert _complete(project, "bash", "refinerctl", "--env", "fa") == []

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_the_script_sets_the_variable_that_the_command_reads(
        self, tmp_path: Path, refinerctl: Command, shell: str
    ) -> None:
        done = refinerctl("completion", shell, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        assert f"_REFINERCTL_COMPLETE={shell}_complete" in done.out

    def test_bash_accepts_the_script(self, tmp_path: Path, refinerctl: Command) -> None:
        script = refinerctl("completion", "bash", cwd=tmp_path).out
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


class TestLocalEnv:
    """`eval "$(refinerctl local env)"` in a person's shell."""

    @pytest.fixture
    def local_project(self, project: Path) -> Iterator[Path]:
        """A lock that is held is an environment that runs, as far as others can see."""
        instance = Instance(project.resolve() / ".refinerctl" / "local")
        with instance.supervised() as ours:
            assert ours
            instance.write_state(phase="running", endpoint_url="http://127.0.0.1:9", functions_url="http://f/")
            yield project

    def test_it_points_no_tool_to_the_users_account(self, local_project: Path, refinerctl: Command) -> None:
        variables = refinerctl("local", "env", "--output", "json", cwd=local_project).json()
        assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
        assert variables["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] == "false"
        assert variables["AWS_PROFILE"] is None
        assert variables["AWS_SESSION_TOKEN"] is None

    def test_a_shell_can_evaluate_it(self, local_project: Path, refinerctl: Command) -> None:
        text = refinerctl("local", "env", cwd=local_project).out
        done = subprocess.run(
            ["sh", "-c", f'{text}\nprintf %s "$AWS_ENDPOINT_URL"'], capture_output=True, text=True, check=True
        )
        assert done.stdout == "http://127.0.0.1:9"

    @pytest.mark.parametrize("extra", [[], ["--terraform", "refiner"]])
    def test_it_does_not_mark_the_persons_shell_as_a_part_of_the_environment(
        self, local_project: Path, refinerctl: Command, extra: list[str]
    ) -> None:
        """What carries the marker is killed when the environment goes down: not a person's editor."""
        variables = refinerctl("local", "env", *extra, "--output", "json", cwd=local_project).json()
        assert MARKER not in variables

    def test_with_a_stack_it_adds_what_terraform_needs(self, local_project: Path, refinerctl: Command) -> None:
        variables = refinerctl("local", "env", "--terraform", "refiner", "--output", "json", cwd=local_project).json()
        assert variables["TF_DATA_DIR"].endswith("/.refinerctl/local/terraform/refiner")
        assert "http://f/" in variables["TF_VAR_function_environment"]

    def test_status_is_starting_until_the_stacks_are_applied(self, local_project: Path, refinerctl: Command) -> None:
        assert refinerctl("local", "status", "--output", "json", cwd=local_project).json()["state"] == "starting"
        Instance(local_project.resolve() / ".refinerctl" / "local").write_applied(("registry", "refiner"))
        done = refinerctl("local", "status", "--output", "json")
        assert done.json()["state"] == "up"
        assert done.json()["stacks"] == ["registry", "refiner"]

    @pytest.mark.parametrize(("arguments", "what"), [(["--engine", "docker"], "engine"), (["--port", "8"], "port")])
    def test_up_refuses_to_turn_it_into_another(
        self, local_project: Path, refinerctl: Command, arguments: list[str], what: str
    ) -> None:
        Instance(local_project.resolve() / ".refinerctl" / "local").write_state(
            phase="running", endpoint_url="http://127.0.0.1:9", engine="process"
        )
        for stack in ("registry", "refiner"):
            (local_project / "terraform" / "stacks" / stack).mkdir(parents=True)
        done = refinerctl("local", "up", "--detach", *arguments, cwd=local_project)
        assert (done.code, done.out) == (4, "")
        assert f"with {what}" in done.err
