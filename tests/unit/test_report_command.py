"""`refinerctl report`: what is refused before anybody is asked, and what stands on standard output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refinerctl.insight.report.command import all_problems, summary
from refinerctl.insight.report.types import Flow, RulesetActivity
from tests.command import Command, spawn
from tests.reports import SINCE, report


@pytest.mark.parametrize("file", ["missing/report.html", "taken/report.html"])
def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(
    refinerctl: Command, tmp_path: Path, file: str
) -> None:
    (tmp_path / "taken").write_text("a file")
    done = refinerctl("report", "--html", file, cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert f"cannot write {file}" in done.err
    assert "is down" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option '--html'"),
        (("--html", "."), "is a directory"),
        (("--html", "r.html", "--since", "2099-01-01"), "has not come yet"),
    ],
)
def test_requests_that_make_no_sense(
    refinerctl: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = refinerctl("report", *arguments, cwd=tmp_path)
    assert (done.code, said in done.err) == (2, True), done.err


def test_an_environment_that_is_down(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("report", "--html", "r.html", cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "is down" in done.err
    assert not (tmp_path / "r.html").exists()


def test_nothing_heavy_is_loaded_for_its_help(tmp_path: Path) -> None:
    code = (
        "import sys; from refinerctl.cli import cli; cli(['report', '--help'], standalone_mode=False);"
        "print([name for name in ('boto3', 'rich', 'hcl2', 'jinja2', 'urllib3', 'docker') if name in sys.modules])"
    )
    done = spawn(cwd=tmp_path, python=("-c", code))
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


class TestSummary:
    def test_counts_of_all_rulesets(self) -> None:
        flows = [Flow(completed=3, failed=1), Flow(completed=4, failed=0), Flow()]
        found = replace(report(2), activity=tuple(RulesetActivity(str(n), flow) for n, flow in enumerate(flows)))
        failed = sum(check.status == "fail" for check in found.checks or ())
        assert failed
        assert summary(Path("r.html"), found) == (
            f"r.html: 7 completed, 1 failed since {SINCE:%Y-%m-%dT%H:%M:%SZ}; "
            f"{failed} of {len(found.checks or ())} checks failed"
        )

    def test_what_is_not_known_is_no_zero(self) -> None:
        found = replace(report(1), activity=(RulesetActivity("One", Flow()),), checks=None)
        text = summary(Path("r.html"), found)
        assert "nothing known of what completed, nothing known of what failed" in text
        assert text.endswith("checks not run")


def test_each_problem_is_told_once() -> None:
    found = report(1)
    (first, *rest) = found.status.rulesets
    status = replace(found.status, stages=(replace(first, problems=("queue gone",)), *rest), problems=("a", "a"))
    assert all_problems(replace(found, problems=("a", "b"), status=status)) == ["a", "b", f"{first.name}: queue gone"]
