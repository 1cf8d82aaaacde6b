"""Terraform's events, and who holds a lock."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.releases.model import StateLock
from refinerctl.terraform.events import EventReader, parse_lock
from refinerctl.terraform.runner import lock_text

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
    datetime(2026, 11, 22, 5, 30, 19, tzinfo=UTC),
)


class TestLock:
    def test_everything_that_the_backend_tells(self) -> None:
        assert parse_lock(INFO) == LOCK

    def test_in_a_box_as_on_a_terminal(self) -> None:
        assert parse_lock("".join(f"│ {line}\n" for line in INFO.splitlines())) == LOCK

    @pytest.mark.parametrize(
        "text", ["", "Error: locked", "Lock Info:\n  Who: nobody", INFO.replace("  ID: ", "  No: ")]
    )
    def test_without_an_id_there_is_nothing_to_say(self, text: str) -> None:
        assert parse_lock(text) is None

    @pytest.mark.parametrize(
        "created", ["", "yesterday", "2026-13-45 99:99:99 +0000 UTC", "0000-00-00 00:00:00 +0000 UTC"]
    )
    def test_a_time_that_makes_no_sense_is_none(self, created: str) -> None:
        lock = parse_lock(f"Lock Info:\n  ID: x\n  Created: {created}\n")
        assert lock == StateLock("x")

    @given(st.text())
    def test_no_text_breaks_it(self, text: str) -> None:
        parse_lock(f"Lock Info:{text}")

    def test_in_words(self) -> None:
        text = lock_text(LOCK)
        assert "alice smith@runner-7 holds the state's lock since 2026-11-22 05:30:19Z" in text
        assert LOCK.id in text
        assert "another run" in lock_text(None)


class TestEventReader:
    def diagnostic(self, summary: str, detail: str = "") -> str:
        diagnostic = {"severity": "error", "summary": summary, "detail": detail}
        return json.dumps({"type": "diagnostic", "diagnostic": diagnostic})

    def test_a_lock_is_known_by_its_message(self) -> None:
        reader = EventReader()
        reader.line(self.diagnostic("Error acquiring the state lock", INFO))
        assert reader.is_locked
        assert reader.lock == LOCK

    def test_a_stale_plan_is(self) -> None:
        reader = EventReader()
        reader.line(self.diagnostic("Saved plan is stale"))
        reader.line(self.diagnostic("another"))
        assert reader.is_stale
        assert not reader.is_locked

    def test_a_saved_plans_total_comes_from_what_it_announces(self) -> None:
        """It has no summary: nothing is planned."""
        seen: list[tuple[int, int]] = []
        reader = EventReader(lambda at: seen.append((at.done, at.total)))
        for action in ("create", "update", "replace", "noop", "read"):
            reader.line(json.dumps({"type": "planned_change", "change": {"action": action}}))
        hook = {"action": "create", "resource": {"addr": "a.b"}}
        reader.line(json.dumps({"type": "apply_complete", "hook": hook}))
        assert seen == [(1, 4)]
