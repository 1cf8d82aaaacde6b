"""Terraform's events, the version of a state and its lock."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.terraform.events import EventReader, StateLock, StateVersion, lock_text, parse_lock

INFO = """Error message: operation error S3: PutObject, https response error StatusCode: 412
Lock Info:
  ID:        e53b3c40-218b-9029-79ce-43439c741cc3
  Path:      bucket/refiner/terraform.tfstate
  Operation: OperationTypeApply
  Who:       alice smith@runner-7
  Version:   1.11.4
  Created:   2026-11-22 05:30:19.41806303 +0000 UTC
  Info:


Terraform acquires a state lock to protect the state from being written
by multiple users at the same time.
"""
LOCK = StateLock(
    "e53b3c40-218b-9029-79ce-43439c741cc3",
    "alice smith@runner-7",
    "apply",
    datetime(2026, 11, 22, 5, 30, 19, 418063, tzinfo=UTC),
)


class TestLock:
    def test_lock_has_all_fields_of_the_backend(self) -> None:
        assert parse_lock(INFO) == LOCK

    def test_lock_in_a_terminals_box_is_read(self) -> None:
        assert parse_lock("".join(f"│ {line}\n" for line in INFO.splitlines())) == LOCK

    @pytest.mark.parametrize(
        "text", ["", "Error: locked", "Lock Info:\n  Who: nobody", INFO.replace("  ID: ", "  No: ")]
    )
    def test_lock_without_details_has_no_id(self, text: str) -> None:
        assert parse_lock(text).id is None

    @pytest.mark.parametrize(
        "created", ["", "yesterday", "2026-13-45 99:99:99 +0000 UTC", "0000-00-00 00:00:00 +0000 UTC"]
    )
    def test_invalid_time_is_ignored(self, created: str) -> None:
        lock = parse_lock(f"Lock Info:\n  ID: x\n  Created: {created}\n")
        assert lock == StateLock("x")

    @given(st.text())
    def test_any_text_is_read_without_error(self, text: str) -> None:
        parse_lock(f"Lock Info:{text}")

    def test_lock_text_names_holder_time_and_id(self) -> None:
        text = lock_text(LOCK)
        assert "alice smith@runner-7 holds the state's lock since 2026-11-22 05:30:19Z" in text
        assert "e53b3c40" in text
        assert "another run" in lock_text(StateLock())


class TestEventReader:
    def diagnostic(self, summary: str, detail: str = "") -> str:
        diagnostic = {"severity": "error", "summary": summary, "detail": detail}
        return json.dumps({"type": "diagnostic", "diagnostic": diagnostic})

    def test_lock_error_is_recognised(self) -> None:
        reader = EventReader()
        reader.line(self.diagnostic("Error acquiring the state lock", INFO))
        assert reader.lock == LOCK

    def test_stale_plan_is_recognised(self) -> None:
        reader = EventReader()
        reader.line(self.diagnostic("Saved plan is stale"))
        reader.line(self.diagnostic("another"))
        assert reader.is_stale
        assert reader.lock is None

    def test_total_of_a_saved_plan_counts_its_planned_changes(self) -> None:
        """It has no summary, because nothing is planned again."""
        seen: list[tuple[int, int]] = []
        reader = EventReader(lambda done, total, _: seen.append((done, total)))
        for action in ("create", "update", "replace", "noop", "read"):
            reader.line(json.dumps({"type": "planned_change", "change": {"action": action}}))
        hook = {"action": "create", "resource": {"addr": "a.b"}}
        reader.line(json.dumps({"type": "apply_complete", "hook": hook}))
        assert seen == [(1, 4)]


class TestStateVersion:
    @given(st.text("0123456789abcdef-", min_size=1, max_size=36), st.integers(0, 10**9))
    def test_version_is_read_from_the_start_of_a_state(self, lineage: str, serial: int) -> None:
        state = {
            "version": 4,
            "terraform_version": "1.11.4",
            "serial": serial,
            "lineage": lineage,
            "outputs": {"serial": {"value": '"serial": 77,\n  "lineage": "x"'}, "lineage": {"value": "other"}},
        }
        assert StateVersion.read(json.dumps(state, indent=2).encode()[:200]) == StateVersion(lineage, serial)

    def test_empty_state_has_no_version(self) -> None:
        assert StateVersion.read(b"") == StateVersion("", 0)
