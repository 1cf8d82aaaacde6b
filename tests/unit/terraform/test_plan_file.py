"""Saved plans, and the digest of the configuration that they record."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.images import Build
from refinerctl.terraform.events import StateVersion
from refinerctl.terraform.plan_file import ENTRY, PlanRecord, planned_state, read_record, save_plan
from refinerctl.terraform.root_module import configuration_digest

RECORD = PlanRecord(
    env="production",
    stack="refiner",
    tag="v1.2.3",
    images={"In": "repo@sha256:" + "a" * 64},
    configuration="sha256:" + "b" * 64,
    state=StateVersion("5029039c", 7),
    commit="c0ffee",
    is_dirty=True,
    allow_destroy=('module.rulesets["Ä"].aws_sqs_queue.this',),
    notes=("a note",),
    refinerctl_version="1",
    terraform_version="1.11.4",
    bases={"In": "base:22@sha256:" + "c" * 64},
    builds={"In": Build("example/app", ".github/workflows/release.yml", "refs/tags/v1.2.3", "c0ffee", "https://run")},
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A plan file as terraform makes it."""
    path = tmp_path / "bare.tfplan"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tfplan", b"\x00plan" * 100)
        archive.writestr("tfstate", json.dumps({"version": 4, "serial": 7, "lineage": "5029039c"}, indent=2))
    return path


def test_record_is_read_back_and_terraforms_entries_are_unchanged(bare: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.plan"
    save_plan(bare, RECORD, saved)
    assert read_record(saved) == RECORD
    with zipfile.ZipFile(saved) as ours, zipfile.ZipFile(bare) as theirs:
        assert ours.namelist() == [*theirs.namelist(), ENTRY]
        assert all(ours.read(name) == theirs.read(name) for name in theirs.namelist())


def test_saved_plan_is_readable_by_its_owner_only(bare: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.plan"
    saved.touch(mode=0o644)
    save_plan(bare, RECORD, saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_state_of_a_plan_is_read(bare: Path) -> None:
    assert planned_state(bare) == StateVersion("5029039c", 7)


def test_failed_write_leaves_no_file(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(RefinerctlError, match="cannot write"):
        save_plan(bare, RECORD, tmp_path / "folder")
    with pytest.raises(RefinerctlError, match=r"cannot write .*No such file"):
        save_plan(bare, RECORD, tmp_path / "none" / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.tfplan", "folder"]


class TestInvalidFile:
    @pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 and no more"])
    def test_file_that_is_not_an_archive(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(RefinerctlError, match="does not exist"):
            read_record(tmp_path / "x")
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(RefinerctlError, match="is not a saved plan, or is incomplete"):
            read_record(tmp_path / "x")

    def test_archive_without_a_plan_or_a_record(self, bare: Path, tmp_path: Path) -> None:
        with pytest.raises(RefinerctlError, match="made by terraform alone") as caught:
            read_record(bare)
        assert "refinerctl plan --out" in str(caught.value.hint)
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr(ENTRY, "{}")
        with pytest.raises(RefinerctlError, match="is not a saved plan"):
            read_record(tmp_path / "x.zip")

    def test_truncated_or_damaged_file(self, bare: Path, tmp_path: Path) -> None:
        saved, part = tmp_path / "saved", tmp_path / "part"
        save_plan(bare, RECORD, saved)
        whole = saved.read_bytes()
        damaged = bytearray(whole)
        damaged[damaged.index(b"\x00plan\x00plan")] ^= 1
        for content in [*(whole[:end] for end in range(0, len(whole), 37)), bytes(damaged)]:
            part.write_bytes(content)
            with pytest.raises(RefinerctlError, match=r"damaged|incomplete|not a saved plan"):
                read_record(part)

    @pytest.mark.parametrize(
        "record", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', '{"format": 1, "state": {}, "x": 1}']
    )
    def test_invalid_record(self, bare: Path, record: str) -> None:
        with zipfile.ZipFile(bare, "a") as archive:
            archive.writestr(ENTRY, record)
        with pytest.raises(RefinerctlError, match=r"another version|cannot read"):
            read_record(bare)


class TestConfigurationDigest:
    @pytest.fixture
    def roots(self, tmp_path: Path) -> list[Path]:
        for name in ("stack/main.tf", "modules/a/main.tf", "stack/.terraform.lock.hcl", "env/refiner.tfvars"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return [tmp_path / "stack", tmp_path / "modules", tmp_path / "env/refiner.tfvars", tmp_path / "env/none"]

    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            ("stack/main.tf", True),
            ("modules/a/main.tf", True),
            ("stack/.terraform.lock.hcl", True),
            ("env/refiner.tfvars", True),
            ("stack/new.tf", True),
            ("stack/.terraform/x", False),
            ("stack/errored.tfstate", False),
            ("env/other.tfvars", False),
        ],
    )
    def test_every_file_changes_it_except_terraforms_own_and_other_stacks_values(
        self, roots: list[Path], tmp_path: Path, name: str, changes: bool
    ) -> None:
        before = configuration_digest(roots, tmp_path)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("changed")
        assert (configuration_digest(roots, tmp_path) != before) == changes

    def test_names_change_it_and_the_place_of_the_checkout_does_not(self, roots: list[Path], tmp_path: Path) -> None:
        before = configuration_digest(roots, tmp_path)
        moved = tmp_path / "moved"
        moved.mkdir()
        for name in ("stack", "modules", "env"):
            (tmp_path / name).rename(moved / name)
        roots = [moved / path.relative_to(tmp_path) for path in roots]
        assert configuration_digest(roots, moved) == before
        (moved / "stack/main.tf").rename(moved / "stack/other.tf")
        assert configuration_digest(roots, moved) != before
