"""`refinerctl report`: what is refused before anything is read, and its summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refinerctl.insight.report.activity import Activity, Flow, StageActivity
from refinerctl.insight.report.command import summary
from tests.command import Command, spawn
from tests.reports import HOUR, SINCE, report


@pytest.mark.parametrize("file", ["missing/report.html", "taken/report.html"])
def test_unwritable_folder_is_an_error_before_anything_is_read(refinerctl: Command, tmp_path: Path, file: str) -> None:
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
        (("--html", "r.html", "--since", "2099-01-01"), "is in the future"),
    ],
)
def test_wrong_usage_is_refused(refinerctl: Command, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = refinerctl("report", *arguments, cwd=tmp_path)
    assert (done.code, said in done.err) == (2, True), done.err


def test_help_loads_no_large_library(tmp_path: Path) -> None:
    code = (
        "import sys; from refinerctl.cli import cli; cli(['report', '--help'], standalone_mode=False);"
        "print([name for name in ('boto3', 'rich', 'hcl2', 'jinja2', 'urllib3', 'docker') if name in sys.modules])"
    )
    done = spawn(cwd=tmp_path, python=("-c", code))
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


class TestSummary:
    def test_summary_has_the_sums_of_all_stages(self) -> None:
        flows = [Flow(completed=3, failed=1), Flow(completed=4, failed=0), Flow()]
        found = replace(report(2), activity=Activity(HOUR, tuple(StageActivity("x", flow) for flow in flows)))
        failed = sum(check.status == "fail" for check in found.checks or ())
        assert failed
        assert summary(Path("r.html"), found) == (
            f"r.html: 7 completed, 1 failed since {SINCE:%Y-%m-%dT%H:%M:%SZ}; "
            f"{failed} of {len(found.checks or ())} checks failed"
        )

    def test_unknown_counts_are_not_zero(self) -> None:
        found = replace(report(1), activity=Activity(HOUR, (StageActivity("One", Flow()),)), checks=None)
        text = summary(Path("r.html"), found)
        assert "completed unknown, failed unknown" in text
        assert text.endswith("checks not run")
