"""Whether what came back failed as before."""

from __future__ import annotations

import json
from datetime import timedelta

from refinerctl.aws.logs import LogEvent
from refinerctl.dlq.redrive.command_errors import SameErrors, compare, sentence
from refinerctl.dlq.redrive.returns import Original, Returned
from tests.unit.dlq.test_errors import finder
from tests.unit.fakes import FakeLogGroups
from tests.unit.redrive.letters import DLQ, SENT, letter

GROUP = "/aws/lambda/f"
REDRIVEN = SENT + timedelta(hours=1)


def body(key: str) -> str:
    return json.dumps({"detail": {"bucket": {"name": "b"}, "object": {"key": key}}})


def failed(message_id: str, key: str, error: str, minutes: int) -> LogEvent:
    record = {"message": "record failed", "messageId": message_id, "key": key, "requestId": "r", "error": error}
    return LogEvent(SENT + timedelta(minutes=minutes), GROUP, "s", json.dumps(record), f"{message_id}-{minutes}")


def returned(number: int, key: str) -> Returned:
    came = letter(f"new-{number}", body(key))
    return Returned(DLQ, came, Original(f"old-{number}", SENT))


def compared(*events: LogEvent) -> SameErrors:
    logs = FakeLogGroups()
    logs.written += events
    items = [returned(1, "in/a.txt"), returned(2, "in/b.txt")]
    until = SENT + timedelta(hours=3)
    return compare(items, finder(logs, GROUP, until=REDRIVEN), finder(logs, GROUP, until=until))


def test_the_same_error_of_other_keys_is_the_same() -> None:
    same = compared(
        failed("old-1", "in/a.txt", "NoSuchKey: there is no in/a.txt", 1),
        failed("old-2", "in/b.txt", "NoSuchKey: there is no in/b.txt", 2),
        failed("new-1", "in/a.txt", "NoSuchKey: there is no in/a.txt", 61),
        failed("new-2", "in/b.txt", "NoSuchKey: there is no in/b.txt", 62),
    )

    assert (same.compared, same.same) == (2, 2)
    assert list(same.errors.values()) == [2]
    assert sentence(2, 40, same).startswith("2 of 40 failed again the same way: NoSuchKey: ")


def test_another_error_is_not() -> None:
    same = compared(
        failed("old-1", "in/a.txt", "NoSuchKey: there is no in/a.txt", 1),
        failed("old-2", "in/b.txt", "NoSuchKey: there is no in/b.txt", 2),
        failed("new-1", "in/a.txt", "AccessDenied: no", 61),
        failed("new-2", "in/b.txt", "NoSuchKey: there is no in/b.txt", 62),
    )

    assert (same.compared, same.same) == (2, 1)
    assert "1 of 2 looked up failed the same way as before" in sentence(2, 40, same)


def test_an_error_that_nothing_tells_is_not_guessed() -> None:
    same = compared()

    assert (same.compared, same.same) == (0, 0)
    assert sentence(2, 40, same) == "2 of 40 came back"


def test_one_error_does_not_speak_for_all() -> None:
    same = SameErrors(15, 15, {"NoSuchKey: gone": 12, "InvalidEventError: not JSON": 3})

    assert sentence(15, 15, same) == "15 of 15 failed again the same way, most often: NoSuchKey: gone"
