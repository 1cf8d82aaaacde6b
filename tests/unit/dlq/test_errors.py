"""Errors of messages: from their attributes, from the function's log lines, from Lambda's."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from refinerctl.aws.logs import LogEvent
from refinerctl.aws.messages import Message
from refinerctl.dlq.errors import ErrorFinder, MessageError, error_finder
from refinerctl.dlq.queues import DeadLetterQueue, DlqKind, MessageSource
from refinerctl.errors import AccessDeniedError
from refinerctl.insight.attempts import FunctionLog
from refinerctl.stacks import base
from refinerctl.stacks.records import RecordEvent
from refinerctl.stacks.refiner import STACK
from tests.unit.dlq.messages import SENT, message, queue, undelivered
from tests.unit.fakes import FakeLogGroups

GROUP = "/aws/lambda/a"
REQUEST = "8f3c2c1e-6a0b-4f7e-9a43-0c7b1d5e2f{:02}"


class Logs(FakeLogGroups):
    denied = False

    def say(self, number: int, text: str, **more: Any) -> None:
        """The image's line on message `number`, in request `number`."""
        record = {"message": text, "messageId": f"m{number}", "requestId": REQUEST.format(number % 100), **more}
        self.write(json.dumps(record), number)

    def write(self, line: str, minute: float = 0, group: str = GROUP) -> None:
        self.written.append(LogEvent(SENT + timedelta(minutes=minute, seconds=1), group, "s", line))

    def events(self, group: str, since: datetime, pattern: str | None = None, **more: Any) -> Any:
        if self.denied:
            raise AccessDeniedError("access denied: FilterLogEvents on log group /aws/lambda/a")
        return super().events(group, since, pattern, **more)


def finder(logs: FakeLogGroups, *groups: str, until: datetime = SENT + timedelta(days=1)) -> ErrorFinder:
    """Of stack refiner's functions with these log groups, or GROUP."""
    read = [FunctionLog(logs, group, STACK.read_log_line, until, until) for group in groups or (GROUP,)]
    return ErrorFinder(read, STACK.log_terms[RecordEvent.FAILED])


def failed(name: str, text: str = "gone") -> dict[str, Any]:
    return {"error": {"name": name, "message": text}}


def test_last_failure_that_names_the_message() -> None:
    logs = Logs()
    logs.say(1, "record received", key="RefinerInput/1.txt")
    logs.say(1, "record failed", **failed("TimeoutError"))
    logs.say(1, "record received")
    logs.say(1, "record failed", **failed("NoSuchKey"))
    logs.say(2, "record failed", **failed("Other"))

    found = finder(logs).find([message(1), message(3)])

    assert found == {"m1": MessageError("NoSuchKey: gone", REQUEST.format(1))}


def test_delivery_errors_of_rules_and_schedules_need_no_log() -> None:
    logs = Logs()
    found = finder(logs).find([undelivered(1, text="not allowed"), undelivered(2, source="SCHEDULE_ARN")])
    assert found == {"m1": MessageError("NO_PERMISSIONS: not allowed"), "m2": MessageError("NO_PERMISSIONS")}
    assert logs.patterns == []


def test_invocation_that_timed_out() -> None:
    logs = Logs()
    request = REQUEST.format(1)
    logs.say(1, "record failed", **failed("NoSuchKey") | {"requestId": REQUEST.format(9)})
    logs.say(1, "record received")
    logs.write(f"2026-03-01T14:01:08.000Z {request} Task timed out after 6.00 seconds", 1)
    logs.write(f"REPORT RequestId: {request}\tDuration: 6000.00 ms\tStatus: timeout", 1)
    assert finder(logs).find([message(1)]) == {"m1": MessageError("Task timed out after 6.00 seconds", request)}


def test_function_that_logs_keys_but_no_message_ids() -> None:
    logs = Logs()
    request = REQUEST.format(7)
    logs.write(f"2026-03-01T14:01:08.000Z\t{request}\tINFO\tworking on RefinerInput/1.txt", 1)
    logs.write(f"RequestId: {request} Error: Runtime exited with error: exit status 3", 1)
    found = finder(logs).find([message(1)])
    assert found == {"m1": MessageError("Runtime exited with error: exit status 3", request)}


def test_function_that_names_no_input_leaves_errors_unknown() -> None:
    logs = Logs()
    logs.write("ERROR long before", -60)
    logs.write('ERROR {"errorType":"Error","errorMessage":"cannot start"}', 2)
    logs.write(f"RequestId: {REQUEST.format(1)} Error: Runtime exited with error: exit status 1", 3)
    find = finder(logs)
    assert find.find([message(1), message(2, "no event")]) == {}
    assert list(find.notes()) == [
        "some messages are in no log; the last errors since they were sent: "
        "Error: cannot start | Runtime exited with error: exit status 1"
    ]
    assert ErrorFinder().find([message(1)]) == {}


def test_many_errors_are_read_together_and_the_rest_one_by_one() -> None:
    logs = Logs()
    for number in range(50):
        logs.say(number, "record failed", **failed("NoSuchKey"))
    messages = [message(number) for number in range(55)]
    find = finder(logs)
    find.max_lookups = 3

    assert len(find.find(messages)) == 50
    assert logs.patterns.count('"record failed"') == 1
    assert find.not_looked_up == 2
    asked = len(logs.patterns)
    assert len(find.find(messages[:50])) == 50
    assert len(logs.patterns) == asked  # all are known
    assert list(find.notes()) == ["errors of 2 messages unknown: too many to look up one by one"]


def test_failures_of_older_messages_are_read_only_up_to_those_read_before() -> None:
    logs = Logs()
    logs.say(0, "record failed", **failed("Old"))
    logs.say(600, "record failed", **failed("New"))
    find = finder(logs)
    late = [message(number) for number in range(600, 610)]
    early = [message(number) for number in range(10)]
    assert set(find.find(late)) == {"m600"}
    assert set(find.find(early)) == {"m0"}
    assert logs.patterns.count('"record failed"') == 2


@pytest.mark.parametrize("count", [1, 20])
def test_last_failure_of_several_functions_counts(count: int) -> None:
    logs = Logs()
    for number in range(count):
        said = {"message": "record failed", "messageId": f"m{number}", "requestId": REQUEST.format(number)}
        logs.write(json.dumps(said | failed("Late")), 100)
        logs.write(json.dumps(said | failed("Early")), 50, "/aws/lambda/b")

    for groups in ([GROUP, "/aws/lambda/b"], ["/aws/lambda/b", GROUP]):
        find = finder(logs, *groups)
        found = find.find([message(number) for number in range(count)])
        assert {error.text for error in found.values()} == {"Late: gone"}


def test_many_messages_one_by_one_need_two_reads() -> None:
    logs = Logs()
    for number in range(50):
        logs.say(number, "record failed", **failed("NoSuchKey"))
    find = finder(logs)
    find.many = True

    assert all(find.find([message(number)]) for number in reversed(range(50)))
    assert set(logs.patterns) == {'"record failed"'}
    assert len(logs.patterns) <= 2


def test_note_if_not_all_failures_were_read() -> None:
    logs = Logs()
    for number in range(20):
        logs.say(number, "record failed", **failed("NoSuchKey"))
    find = finder(logs)
    find.max_lines = 10
    find.find([message(number) for number in range(20)])
    assert f"errors unknown: only the first 10 failures in {GROUP} were read" in list(find.notes())


def test_unreadable_logs_are_noted_once() -> None:
    logs = Logs()
    logs.denied = True
    find = finder(logs)
    assert find.find([message(1), message(2), undelivered(3)]) == {"m3": MessageError("NO_PERMISSIONS")}
    assert list(find.notes()) == ["errors unknown: access denied: FilterLogEvents on log group /aws/lambda/a"]


def test_any_body_is_looked_up() -> None:
    logs = Logs()
    bodies = ["", "\x00", "[" * 100_000, '{"detail": {"object": {"key": "\\u0000"}}}']
    messages: list[Message] = [message(number, body) for number, body in enumerate(bodies)]
    assert finder(logs).find(messages) == {}


def app_of(*stages: base.Stage) -> Any:
    pipeline = base.Pipeline("p", stages)
    return SimpleNamespace(stack=STACK, pipeline=pipeline, log_groups=FakeLogGroups())


class TestErrorFinder:
    def test_of_a_queue_of_the_stack_reads_the_log_of_its_consumer(self) -> None:
        app = app_of(base.Stage("a", queue=base.Queue("a"), consumer=base.Function("f")))
        assert [log.group for log in error_finder(app, [queue("a")]).logs] == ["/aws/lambda/f"]

    def test_of_a_queue_without_consumer_reads_no_log(self) -> None:
        app = app_of(base.Stage("a", queue=base.Queue("a")))
        assert error_finder(app, [queue("a")]).logs == []

    @pytest.mark.parametrize("kind", [DlqKind.DELIVERY, DlqKind.UNKNOWN])
    def test_of_a_schedule_or_rule_reads_no_log(self, kind: DlqKind) -> None:
        app = app_of(base.Stage("a", base.Schedule("a"), base.Queue("a"), base.Function("a")))
        dlq = DeadLetterQueue("a-dlq", kind=kind, sources=(MessageSource("a", exists=None),))
        found = error_finder(app, dlq.source_queues)
        assert (found.logs, found.failure) == ([], None)
