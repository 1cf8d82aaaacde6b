"""What killed a message: from its attributes, from the function's own lines, from Lambda's."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from refinerctl.aws.log_events import LogEvent
from refinerctl.aws.messages import Message
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.views import Brief, MessageError, grouped
from refinerctl.errors import AccessDeniedError
from tests.unit.dead_letters.letters import SENT, letter, undelivered
from tests.unit.fakes import FakeLogGroups

GROUP = "/aws/lambda/a"
REQUEST = "8f3c2c1e-6a0b-4f7e-9a43-0c7b1d5e2f{:02}"


class Logs(FakeLogGroups):
    """Counts what is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.patterns: list[str] = []
        self.denied = False

    def say(self, number: int, message: str, **more: Any) -> None:
        """The image's line on message `number`, in request `number`."""
        record = {"message": message, "messageId": f"m{number}", "requestId": REQUEST.format(number % 100), **more}
        self.write(json.dumps(record), number)

    def write(self, line: str, minute: float = 0, group: str = GROUP) -> None:
        self.written.append(LogEvent(SENT + timedelta(minutes=minute, seconds=1), group, "s", line))

    def events(self, group: str, since: datetime, pattern: str | None = None, **more: Any) -> Any:
        self.patterns.append(pattern or "")
        if self.denied:
            raise AccessDeniedError("access denied: FilterLogEvents on log group /aws/lambda/a")
        return super().events(group, since, pattern, **more)


def finder(logs: Logs) -> ErrorFinder:
    return ErrorFinder(logs, [GROUP], SENT + timedelta(days=1))


def failed(name: str, text: str = "gone") -> dict[str, Any]:
    return {"error": {"name": name, "message": text}}


def test_the_last_failure_that_names_the_message() -> None:
    logs = Logs()
    logs.say(1, "record received", key="RefinerInput/1.txt")
    logs.say(1, "record failed", **failed("TimeoutError"))
    logs.say(1, "record received")
    logs.say(1, "record failed", **failed("NoSuchKey"))
    logs.say(2, "record failed", **failed("Other"))

    found = finder(logs).find([letter(1), letter(3)])

    assert found == {"m1": MessageError("NoSuchKey: gone", REQUEST.format(1))}


def test_what_eventbridge_wrote_asks_no_log() -> None:
    logs = Logs()
    assert finder(logs).find([undelivered(1, message="not allowed")]) == {
        "m1": MessageError("NO_PERMISSIONS: not allowed")
    }
    assert logs.patterns == []


def test_an_invocation_that_did_not_live_to_tell() -> None:
    logs = Logs()
    request = REQUEST.format(1)
    logs.say(1, "record failed", **failed("NoSuchKey") | {"requestId": REQUEST.format(9)})
    logs.say(1, "record received")
    logs.write(f"2026-03-01T14:01:08.000Z {request} Task timed out after 6.00 seconds", 1)
    logs.write(f"REPORT RequestId: {request}\tDuration: 6000.00 ms\tStatus: timeout", 1)
    assert finder(logs).find([letter(1)]) == {"m1": MessageError("Task timed out after 6.00 seconds", request)}


def test_a_function_that_logs_keys_but_no_message_ids() -> None:
    logs = Logs()
    request = REQUEST.format(7)
    logs.write(f"2026-03-01T14:01:08.000Z\t{request}\tINFO\tworking on RefinerInput/1.txt", 1)
    logs.write(f"RequestId: {request} Error: Runtime exited with error: exit status 3", 1)
    found = finder(logs).find([letter(1)])
    assert found == {"m1": MessageError("Runtime exited with error: exit status 3", request)}


def test_a_function_that_names_nothing_leaves_it_unknown() -> None:
    logs = Logs()
    logs.write("ERROR long before", -60)
    logs.write('ERROR {"errorType":"Error","errorMessage":"cannot start"}', 2)
    logs.write(f"RequestId: {REQUEST.format(1)} Error: Runtime exited with error: exit status 1", 3)
    find = finder(logs)
    assert find.find([letter(1), letter(2, "no event")]) == {}
    assert list(find.notes()) == [
        "errors of the function since the first message that no log names: "
        "Error: cannot start | Runtime exited with error: exit status 1"
    ]
    assert ErrorFinder(logs, [], SENT).find([letter(1)]) == {}


def test_many_are_found_in_one_reading_and_the_rest_one_by_one() -> None:
    logs = Logs()
    for number in range(50):
        logs.say(number, "record failed", **failed("NoSuchKey"))
    letters = [letter(number) for number in range(55)]
    find = finder(logs)
    find.max_lookups = 3

    assert len(find.find(letters)) == 50
    assert logs.patterns.count('"record failed"') == 1
    assert find.not_looked_up == 2
    asked = len(logs.patterns)
    assert len(find.find(letters[:50])) == 50
    assert len(logs.patterns) == asked  # all of it is known
    assert list(find.notes()) == ["what killed 2 messages was not looked up: they are not among the logged failures"]


def test_older_messages_are_read_from_where_reading_began() -> None:
    logs = Logs()
    logs.say(0, "record failed", **failed("Old"))
    logs.say(600, "record failed", **failed("New"))
    find = finder(logs)
    late = [letter(number) for number in range(600, 610)]
    early = [letter(number) for number in range(10)]
    assert set(find.find(late)) == {"m600"}
    assert set(find.find(early)) == {"m0"}
    assert logs.patterns.count('"record failed"') == 2


@pytest.mark.parametrize("count", [1, 20])
def test_of_several_functions_the_one_that_failed_last_counts(count: int) -> None:
    logs = Logs()
    for number in range(count):
        said = {"message": "record failed", "messageId": f"m{number}", "requestId": REQUEST.format(number)}
        logs.write(json.dumps(said | failed("Late")), 100)
        logs.write(json.dumps(said | failed("Early")), 50, "/aws/lambda/b")

    for groups in ([GROUP, "/aws/lambda/b"], ["/aws/lambda/b", GROUP]):
        find = ErrorFinder(logs, groups, SENT + timedelta(days=1))
        found = find.find([letter(number) for number in range(count)])
        assert {error.text for error in found.values()} == {"Late: gone"}


def test_who_asks_about_many_one_by_one_reads_all_at_once() -> None:
    logs = Logs()
    for number in range(50):
        logs.say(number, "record failed", **failed("NoSuchKey"))
    find = finder(logs)
    find.many = True

    assert all(find.find([letter(number)]) for number in reversed(range(50)))
    assert set(logs.patterns) == {'"record failed"'}
    assert len(logs.patterns) <= 2


def test_failures_beyond_what_is_read_are_told() -> None:
    logs = Logs()
    for number in range(20):
        logs.say(number, "record failed", **failed("NoSuchKey"))
    find = finder(logs)
    find.max_lines = 10
    find.find([letter(number) for number in range(20)])
    assert f"errors are not known: of {GROUP} no more than the first 10 failures were read" in list(find.notes())


def test_logs_that_may_not_be_read_are_told_once() -> None:
    logs = Logs()
    logs.denied = True
    find = finder(logs)
    assert find.find([letter(1), letter(2), undelivered(3)]) == {"m3": MessageError("NO_PERMISSIONS")}
    assert list(find.notes()) == ["errors are not known: access denied: FilterLogEvents on log group /aws/lambda/a"]


def test_counted_by_what_errors_have_in_common() -> None:
    briefs = [
        *(Brief(f"m{n}", f"RefinerInput/{n}.txt", f"NoSuchKey: no key RefinerInput/{n}.txt") for n in range(4)),
        Brief("m8", None, "OutOfMemory: 192 MB"),
        *(Brief(f"u{n}", None, None) for n in range(9)),
    ]
    groups = grouped(briefs)
    assert [(group.count, group.signature.split(":")[0]) for group in groups] == [
        (4, "NoSuchKey"),
        (1, "OutOfMemory"),
        (9, "unknown"),
    ]
    assert (groups[0].example_id, groups[0].example_key) == ("m0", "RefinerInput/0.txt")


def test_a_body_that_is_anything() -> None:
    logs = Logs()
    bodies = ["", "\x00", "[" * 100_000, '{"detail": {"object": {"key": "\\u0000"}}}']
    letters: list[Message] = [letter(number, body) for number, body in enumerate(bodies)]
    assert finder(logs).find(letters) == {}
