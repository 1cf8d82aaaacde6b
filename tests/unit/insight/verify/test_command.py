"""`refinerctl verify`: wrong use is refused before AWS is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from refinerctl.insight.verify.command import differences
from refinerctl.stacks.base import CompletionPlace, Pipeline
from tests.command import Command
from tests.unit.insight.fakes import Account, stage_of


def test_an_unknown_check_is_refused(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("verify", "--check", "rule", "--skip", "nonsense", cwd=tmp_path)
    assert done.code == 2
    assert "unknown check nonsense" in done.err
    assert "queue-policy" in done.err


def test_a_canary_file_needs_canary(refinerctl: Command, tmp_path: Path) -> None:
    (tmp_path / "c.xml").write_text("<a/>")
    done = refinerctl("verify", "--canary-file", "c.xml", cwd=tmp_path)
    assert (done.code, done.err) == (2, "refinerctl: error: --canary-file needs --canary\n")


def test_a_report_that_cannot_be_written_is_refused_first(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("verify", "--junit", "missing/report.xml", cwd=tmp_path)
    assert done.code == 1
    assert done.err.startswith("refinerctl: error: cannot write missing/report.xml")


def test_a_stack_without_pipeline_is_refused(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("verify", "--stack", "registry", cwd=tmp_path)
    assert (done.code, "stack registry has no pipeline to check" in done.err) == (2, True)


def test_an_environment_that_is_down_is_an_error(refinerctl: Command, tmp_path: Path) -> None:
    (tmp_path / "refinerctl.toml").touch()
    done = refinerctl("verify", cwd=tmp_path)
    assert done.code == 1
    assert "is down" in done.err
    assert "refinerctl local up" in done.err
    assert done.out == ""


def test_a_place_of_completions_that_other_commands_do_not_expect() -> None:
    stage = stage_of("Lab")
    app = Account((stage,)).app
    assert differences(app, app.pipeline) == []
    deployed = replace(stage, completions=CompletionPlace("Other/", ".json"))
    (said,) = differences(app, Pipeline("x", (deployed,)))
    assert said == "Lab writes completions as Other/….json; other commands expect RefinerComplete/….json"
