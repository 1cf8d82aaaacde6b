"""--notify: what came of a run, sent to a webhook. Each command with the option only declares it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from refinerctl.app import AppContext, app_context
from refinerctl.cli import cli
from refinerctl.errors import RefusedError, Terminated
from refinerctl.options import global_options, notify_option
from tests.command import Command
from tests.integration.servers import Answer, Request, serving

SECRET = "s3cr3t-t0k3n-value"


@pytest.fixture
def answers() -> list[Answer]:
    """Given before the server accepts."""
    return []


@pytest.fixture
def sent(answers: list[Answer], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a webhook in REFINERCTL_NOTIFY got."""
    got: list[dict[str, Any]] = []

    def take(request: Request) -> Answer:
        got.append({"path": request.path, **json.loads(request.body)})
        return answers.pop(0) if answers else Answer(200, b"ok")

    with serving(take) as server:
        monkeypatch.setenv("REFINERCTL_NOTIFY", f"{server.url}/hooks/{SECRET}")
        yield got


Work = Callable[[AppContext], None]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Work]]:
    """Adds the command `work`, which does what `do` says."""
    (tmp_path / "refinerctl.toml").write_text('environment = "test"\n[environments.test]\nregion = "r"\n')
    monkeypatch.chdir(tmp_path)
    what: dict[str, Work] = {}

    @click.command("work")
    @click.option("--count", type=int)
    @click.option("--dry-run", is_flag=True)
    @notify_option
    @global_options
    @click.pass_context
    def command(ctx: click.Context, count: int | None, dry_run: bool) -> None:
        what["do"](app_context(ctx))

    cli.add_command(command)
    yield what
    del cli.commands["work"]


def test_result_is_sent_whatever_the_output_format(
    refinerctl: Command, work: dict[str, Work], sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/-/jobs/1")
    work["do"] = lambda app: app.render.result({"applied": True, "path": Path("x")})
    done = refinerctl("work", "--dry-run")
    assert (done.code, done.out) == (0, ""), done.err
    assert sent == [
        {
            "path": f"/hooks/{SECRET}",
            "command": "work",
            "environment": "test",
            "stack": "refiner",
            "status": "done",
            "exit_code": 0,
            "error": None,
            "dry_run": True,
            "job_url": "https://gitlab.example/-/jobs/1",
            "result": {"applied": True, "path": "x"},
        }
    ]
    assert refinerctl("work", "--output", "json").json() == {"applied": True, "path": "x"}


def _raise(error: BaseException) -> Work:
    def do(_app: AppContext) -> None:
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "code", "status", "words"),
    [
        (RefusedError("no", hint="Say yes."), 4, "refused", "no. Say yes."),
        (click.exceptions.Exit(5), 5, "differences", None),
        (Terminated(), 143, "interrupted", "terminated"),
        (ValueError("bug"), 1, "failed", "unexpected ValueError: bug. This is a bug in refinerctl."),
    ],
)
def test_failure_is_sent_with_its_exit_code(
    refinerctl: Command,
    work: dict[str, Work],
    sent: list[dict[str, Any]],
    error: BaseException,
    code: int,
    status: str,
    words: str | None,
) -> None:
    work["do"] = _raise(error)
    assert refinerctl("work").code == code
    (report,) = sent
    assert (report["exit_code"], report["status"], report["result"]) == (code, status, None)
    assert (report["error"] or "").startswith(words or "")


def test_invalid_option_is_sent_too(refinerctl: Command, work: dict[str, Work], sent: list[dict[str, Any]]) -> None:
    assert refinerctl("work", "--count", "many").code == 2
    assert "'many' is not a valid integer" in sent[0]["error"]
    assert (sent[0]["environment"], sent[0]["status"]) == ("test", "usage error")


def test_secrets_are_masked(
    refinerctl: Command, work: dict[str, Work], sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITLAB_TOKEN", "glpat-0123456789")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/tmp/web-token")
    texts = [
        "with glpat-0123456789 and /tmp/web-token",
        f"hook {SECRET}",
        "https://user:pass@host/x?X-Amz-Signature=abc&n=1",
        "rediss://:pass@cache:6379 and https://t0ken@host/x",
        "Authorization: Bearer abc.def",
    ]
    work["do"] = lambda app: app.render.result({"texts": texts})
    monkeypatch.setenv("MY_WEBHOOK_SECRET", SECRET)
    assert refinerctl("work").code == 0
    assert sent[0]["result"]["texts"] == [
        "with *** and /tmp/web-token",
        "hook ***",
        "https://***@host/x?X-Amz-Signature=***&n=1",
        "rediss://***@cache:6379 and https://***@host/x",
        "Authorization: Bearer ***",
    ]


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (302, 1), (500, 3)])
def test_webhook_that_fails_is_a_warning(
    refinerctl: Command,
    work: dict[str, Work],
    sent: list[dict[str, Any]],
    answers: list[Answer],
    status: int,
    attempts: int,
) -> None:
    answers += [Answer(status)] * attempts
    work["do"] = lambda app: app.render.result({})
    done = refinerctl("work")
    assert (done.code, len(sent)) == (0, attempts)
    assert "warning: the webhook was not notified: 127.0.0.1" in done.err
    assert f"returned {status}" in done.err
    assert SECRET not in done.err


def test_webhook_that_cannot_be_reached_is_a_warning(refinerctl: Command, work: dict[str, Work]) -> None:
    work["do"] = _raise(RefusedError("no"))
    done = refinerctl("work", "--notify", f"http://127.0.0.1:9/{SECRET}")
    assert done.code == 4
    assert "warning: the webhook was not notified: the connection to 127.0.0.1:9 failed" in done.err
    assert SECRET not in done.err


@pytest.mark.parametrize(
    "url", [f"http://example.com/{SECRET}", f"hooks.example.com/{SECRET}", "https://a b", "ftp://x"]
)
def test_url_that_cannot_be_used_is_a_usage_error_without_it(
    refinerctl: Command, work: dict[str, Work], url: str
) -> None:
    done = refinerctl("work", "--notify", url)
    assert done.code == 2
    assert "(REFINERCTL_NOTIFY) must be an https:// URL" in done.err
    assert SECRET not in done.err


def test_slack_gets_a_text_without_markup(
    refinerctl: Command, work: dict[str, Work], sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFINERCTL_NOTIFY", f"slack+{os.environ['REFINERCTL_NOTIFY']}")
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/-/jobs/1")

    def do(app: AppContext) -> None:
        checks = [{"status": "pass"}, {"status": "pass"}, {"status": "fail", "seen": "x"}]
        app.render.result({"checks": checks, "tag": "<!channel> & co", "none": None, "has_drift": True})
        raise RefusedError("no")

    work["do"] = do
    assert refinerctl("work").code == 4
    assert sent[0]["text"].splitlines() == [
        "refinerctl work of refiner in test: refused (exit code 4)",
        "no",
        "checks: 2 pass, 1 fail, tag: &lt;!channel&gt; &amp; co, has drift: true",
        "https://gitlab.example/-/jobs/1",
    ]


def test_commands_with_the_option(refinerctl: Command) -> None:
    for name in ("plan", "sync", "deploy", "rollback", "destroy", "verify", "drift"):
        assert "--notify URL" in refinerctl(name, "--help").out
