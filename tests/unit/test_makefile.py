"""`make clean` in a project in which commands have run; what `make lint` may skip."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT

ONLY_COPIES = (
    "dlq/purged-q-dlq-20260301T140200Z.jsonl",
    "redrives/20260301T140200Z-q-dlq.jsonl",
    "edits/q dlq.jsonl",
    "terraform/production/refiner/errored.tfstate",
)
OTHERS = ("terraform/production/refiner/plan-x/plan.tfplan", "terraform.rc", "local/logs/terraform.log")


def test_clean_keeps_data_that_exists_nowhere_else_and_says_so(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    work = tmp_path / ".refinerctl"
    for name in ONLY_COPIES + OTHERS:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text("x")
    (work / "terraform/production/refiner/providers").symlink_to(tmp_path)

    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=True)

    left = {str(path.relative_to(work)) for path in work.rglob("*") if not path.is_dir()}
    assert left == set(ONLY_COPIES)
    for name in ONLY_COPIES:
        assert f".refinerctl/{name}" in done.stdout
    shutil.rmtree(work)
    assert subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_each_check_that_is_skipped_has_a_reason() -> None:
    files = [*ROOT.glob("terraform/**/*.tf"), *ROOT.glob("images/*/Dockerfile")]
    skips = [line for path in files for line in path.read_text().splitlines() if "checkov:skip" in line]

    assert skips
    assert [line for line in skips if not re.fullmatch(r"\s*#checkov:skip=CKV\d?_\w+: \w.{15,}", line)] == []
    assert "skip-check" not in (ROOT / ".checkov.yaml").read_text()
