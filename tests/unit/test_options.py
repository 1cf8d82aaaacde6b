"""The parameter types: durations, moments, prefixes; and consent."""

from __future__ import annotations

import io
import math
import sys
from datetime import UTC, datetime, timedelta

import click
import pexpect
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.options import Duration, Moment, Prefix, ask, check_consent


def duration(text: str) -> float:
    return Duration().convert(text, None, None)


def moment(text: str) -> datetime:
    return Moment().convert(text, None, None)


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("0", 0),
            ("90", 90),
            ("0.5", 0.5),
            ("90s", 90),
            ("5m", 300),
            ("1h30m", 5400),
            ("2d", 172800),
            ("1.5h", 5400),
            (" 5m ", 300),
        ],
    )
    def test_forms(self, text: str, seconds: float) -> None:
        assert duration(text) == seconds

    @pytest.mark.parametrize(
        "text", ["", "5 m", "m", "-5", "-5m", "5m-", "1e3", "inf", "nan", "5w", "5M", "1m 30", ".5s"]
    )
    def test_other_text_is_a_usage_error_that_shows_the_form(self, text: str) -> None:
        with pytest.raises(click.BadParameter, match="like 90s, 5m"):
            duration(text)

    def test_a_number_is_seconds(self) -> None:
        assert Duration().convert(300, None, None) == 300.0

    def test_more_than_a_float_holds_is_refused(self) -> None:
        with pytest.raises(click.BadParameter):
            duration("9" * 400 + "d")

    @given(st.text())
    def test_any_text_is_seconds_or_a_usage_error(self, text: str) -> None:
        try:
            seconds = duration(text)
        except click.BadParameter:
            return
        assert seconds >= 0
        assert math.isfinite(seconds)

    @given(*[st.integers(0, 100)] * 4)
    def test_units_add_up(self, days: int, hours: int, minutes: int, seconds: int) -> None:
        expected = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        assert duration(f"{days}d{hours}h{minutes}m{seconds}s") == expected


class TestMoment:
    def test_a_time_in_any_zone_becomes_utc(self) -> None:
        assert moment("2026-03-01T14:02:00Z") == datetime(2026, 3, 1, 14, 2, tzinfo=UTC)
        assert moment("2026-03-01T15:02:00+01:00").isoformat() == "2026-03-01T14:02:00+00:00"

    def test_a_time_without_a_zone_is_utc(self) -> None:
        assert moment("2026-03-01T14:02").isoformat() == "2026-03-01T14:02:00+00:00"
        assert moment("2026-03-01").isoformat() == "2026-03-01T00:00:00+00:00"

    def test_a_duration_is_how_long_ago(self) -> None:
        before = datetime.now(UTC)
        found = moment("1h30m")
        assert before <= found + timedelta(minutes=90) <= datetime.now(UTC)

    @pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "1430", "14:02"])
    def test_other_text_is_a_usage_error(self, text: str) -> None:
        with pytest.raises(click.BadParameter, match="neither a time"):
            moment(text)

    @pytest.mark.parametrize("text", ["9999999d", "999999999999d", "0001-01-01T00:00:00+01:00"])
    def test_a_time_before_all_calendars_is_a_usage_error(self, text: str) -> None:
        with pytest.raises(click.BadParameter):
            moment(text)


class TestPrefix:
    def test_it_is_normalized(self) -> None:
        assert Prefix().convert("/RefinerInput/", None, None) == "RefinerInput/"

    def test_an_invalid_value_is_a_usage_error_with_a_hint(self) -> None:
        with pytest.raises(click.BadParameter, match="ends in one slash"):
            Prefix().convert("RefinerInput", None, None)


class TestConsent:
    def answered(self, text: str, *, yes: bool = False) -> BaseException | None:
        @click.command()
        def asks() -> None:
            ask("Apply this?", yes)

        return CliRunner().invoke(asks, input=text).exception

    def test_only_a_yes_is_consent(self) -> None:
        assert self.answered("y\n") is None
        refused = self.answered("n\n")
        assert isinstance(refused, RefinerctlError)
        assert "nothing was changed" in refused.message
        assert self.answered("\n") is not None
        assert self.answered("") is not None

    def test_input_typed_before_the_question_is_ignored(self) -> None:
        script = (
            "import time; from refinerctl.options import ask; print('planning'); time.sleep(1); ask('Apply?', False)"
        )
        terminal = pexpect.spawn(sys.executable, ["-c", script], encoding="utf-8", timeout=30)
        terminal.expect("planning")
        terminal.sendline("y")
        terminal.expect_exact("Apply? [y/N]:")
        terminal.sendline("n")
        terminal.expect("not confirmed; nothing was changed")
        terminal.close()

    def test_flag_is_consent(self) -> None:
        assert self.answered("", yes=True) is None

    def test_flag_is_required_without_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        with pytest.raises(UsageError, match="pass --confirm NAME"):
            check_consent(False, "--confirm NAME")
        check_consent(True)
