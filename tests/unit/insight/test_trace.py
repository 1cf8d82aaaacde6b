"""Where an input is: one test for each place."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pexpect
import pytest

from refinerctl.aws.lambda_ import SourceMapping
from refinerctl.aws.logs import LogEvent
from refinerctl.aws.messages import Message, MessageAttribute
from refinerctl.aws.s3 import ObjectInfo, ObjectVersion
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.insight.attempts import MAX_LINES, MAX_LINES_OF_INVOCATION
from refinerctl.insight.trace import hops_of
from refinerctl.insight.trace_facts import Facts, Place, TraceOutcome
from refinerctl.insight.trace_search import trace_input
from refinerctl.insight.trace_verdict import is_lost, verdict
from refinerctl.stacks.base import EventRule, Function, Queue, Stack, Stage
from refinerctl.stacks.refiner import STACK
from tests.unit.fakes import START, FakeBucket, FakeFunctions, FakeLogGroups
from tests.unit.insight.fakes import STORAGE, TINY_STAGES, Account, stage_of

KEY = "RefinerInput/a b.txt"
INPUT, DONE = stage_of("RefinerInput"), stage_of("RefinerComplete", has_function=False)
QUEUE, DLQ, DELIVERY = "x-RefinerInput", "x-RefinerInput-dlq", "x-RefinerInput-delivery-dlq"
FORWARD = "x-forward-delivery-dlq"
ID = "8f5df350-6a1c-4b2b-9e0e-0a1b2c3d4e5{}"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event_of(key: str = KEY, version: str | None = "v1") -> str:
    return json.dumps(
        {"detail": {"bucket": {"name": "data-repository"}, "object": {"key": key, "version-id": version}}}
    )


@dataclass
class World(Account):
    """The account, and what happens to an input there."""

    stages: tuple[Stage, ...] = (INPUT, DONE)
    shared: tuple[Any, ...] = (EventRule("x-forward", "default", dlq=Queue(FORWARD)), Queue(FORWARD))

    def log(self, seconds: float, line: str | dict[str, Any], stream: str = "s") -> None:
        text = line if isinstance(line, str) else json.dumps(line)
        self.logs.written.append(LogEvent(at(seconds), f"/aws/lambda/{QUEUE}", stream, text))

    def attempt(self, number: int, seconds: float, outcome: dict[str, Any] | None = None, version: str = "v1") -> None:
        """What the image logs of one attempt."""
        common = {"requestId": ID.format(number), "messageId": f"m-{version}", "key": KEY}
        times = {"eventTime": at(0).isoformat(), "sentTimestamp": at(0.2).timestamp() * 1000}
        received = {"message": "record received", "versionId": version, "receiveCount": number, **times}
        self.log(seconds, {"timestamp": at(seconds).isoformat(), **common, **received})
        if outcome is not None:
            self.log(seconds + 0.1, {"timestamp": at(seconds + 0.1).isoformat(), **common, **outcome})

    def fail(self, number: int, seconds: float) -> None:
        error = {"name": "NoSuchKey", "message": "The specified key does not exist."}
        self.attempt(number, seconds, {"message": "record failed", "error": error, "durationMs": 100})

    def complete(self, body: str = '["/RefinerOutput/1.txt"]', version: str = "v1", key: str | None = None) -> None:
        self.bucket.write("RefinerOutput/1.txt", "x")
        self.bucket.write(key or "RefinerComplete/a b.txt.json", body, {"source-version": version}, at=at(2))

    def hide(self, name: str, count: int = 1) -> None:
        self.queues.states[name] = QueueState(name, "", 60, 345600, max_receive_count=5, in_flight=count)

    def trace(self, seconds: float = 600, key: str = KEY, version: str | None = None, *, look: bool = False) -> Facts:
        return trace_input(self.app, key, at(-86400), at(seconds), version, look=look)


@pytest.fixture
def world() -> World:
    world = World()
    world.bucket.write(KEY, "content", at=at(0))
    return world


OUTCOMES = {
    **dict.fromkeys((Place.COMPLETED, Place.DELIVERED), TraceOutcome.COMPLETED),
    **dict.fromkeys((Place.WAITING, Place.IN_FLIGHT, Place.FAILING), TraceOutcome.UNDER_WAY),
}


def check(found: Facts, place: Place, *said: str) -> Facts:
    """The verdict has this place, and these texts."""
    given = verdict(found)
    assert (given.place, given.outcome) == (place, OUTCOMES.get(place, TraceOutcome.FAILED))
    for text in said:
        assert text in given.text
    return found


class TestCompleted:
    def test_each_hop_with_its_time(self, world: World) -> None:
        world.attempt(1, 1, {"message": "record done", "durationMs": 44})
        world.complete()
        found = check(world.trace(), Place.COMPLETED)
        assert verdict(found).text == "completed at 14:00:02Z: 1 output, RefinerComplete/a b.txt.json"
        hops = [(hop.component, hop.elapsed_s) for hop in hops_of(found)]
        assert hops == [("S3", 0), ("EventBridge", 0), ("SQS", 0.2), ("Lambda", 1), ("Lambda", 1.1), ("S3", 2)]

    def test_hops_fit_a_terminal_of_80_columns(self) -> None:
        key = f"RefinerOutput/{'a long name ' * 9}.txt"
        script = (
            "from refinerctl.console import Renderer; from refinerctl.insight.trace import Hop, show_hops;"
            "from datetime import UTC, datetime; at = datetime(2026, 3, 1, tzinfo=UTC);"
            f"show_hops(Renderer('text', 0), [Hop('EventBridge', {f'output {key}'!r}, at, 0.0)])"
        )
        environ = {name: value for name, value in os.environ.items() if name not in ("CI", "GITLAB_CI")}
        terminal = pexpect.spawn(sys.executable, ["-c", script], dimensions=(24, 80), encoding="utf-8", env=environ)
        lines = terminal.read().splitlines()
        assert lines[0].split() == ["AT", "HOP", "DETAIL"]
        assert lines[1].startswith("2026-03-01T00:00:00.000Z  EventBridge  output RefinerOutput/a long ")
        assert max(map(len, lines)) <= 80
        assert " ".join(line[39:] for line in lines[1:]) == f"output {key}"

    def test_a_completion_is_not_shown_before_its_outputs(self, world: World) -> None:
        world.attempt(1, 2.3, {"message": "completion written", "completionKey": "RefinerComplete/a b.txt.json"})
        world.attempt(1, 2.4, {"message": "record done", "durationMs": 200})
        world.complete()  # at 2 s, by S3
        hops = hops_of(world.trace())
        assert [hop.elapsed_s for hop in hops][-2:] == [2.5, 2.5]

    def test_the_production_refiners_completion(self, world: World) -> None:
        world.complete(
            '{"RefinerSkip": false, "RefinerOutputFiles": ["RefinerOutput/1.txt"]}', key="RefinerComplete/a b.txt"
        )
        check(world.trace(), Place.COMPLETED)

    def test_a_completion_of_another_input_is_not_this_ones(self, world: World) -> None:
        """As an image that is not this repository's may write it."""
        source = {"source-bucket-key": "data-repository/Lab/x", "source-version": "v1"}
        world.bucket.write("RefinerComplete/a b.txt.json", "[]", source, at=at(2))
        found = world.trace()
        assert found.completion is None
        assert "RefinerComplete/a b.txt.json is the completion of data-repository/Lab/x" in found.notes

    def test_a_completion_that_reports_an_error(self, world: World) -> None:
        world.complete('{"RefinerSkip": true, "Error": "no condition"}')
        check(world.trace(), Place.REFUSED, "no condition")

    def test_outputs_that_do_not_exist_any_more(self, world: World) -> None:
        world.complete()
        world.bucket.delete("RefinerOutput/1.txt")
        check(world.trace(), Place.REFUSED, "RefinerOutput/1.txt")

    def test_a_completion_of_another_version_is_not_that_of_this_one(self, world: World) -> None:
        world.attempt(1, 1, {"message": "record done", "durationMs": 44})
        world.complete(version="v9")
        check(world.trace(), Place.COMPLETED, "a newer version has replaced its completion")
        world.stages = (INPUT, stage_of("Other"), DONE)
        other = verdict(world.trace()).text
        assert "a newer version, or an input of the same name of another stage, has replaced its completion" in other

    def test_an_object_that_was_deleted_after_it_was_completed(self, world: World) -> None:
        world.complete()
        real = ObjectVersion(KEY, "v1", at(0), 7)
        world.bucket.histories[KEY] = [ObjectVersion(KEY, "d", at(3), is_delete_marker=True), real]
        found = check(world.trace(), Place.COMPLETED)
        assert verdict(found).text.endswith("; the object was deleted at 14:00:03Z")
        assert hops_of(found)[-1].detail == "deleted"

    def test_ignored(self, world: World) -> None:
        world.attempt(1, 1, {"message": "record ignored", "reason": "a folder marker"})
        assert verdict(world.trace()).text == "ignored by RefinerInput: a folder marker"


class TestFailing:
    def test_between_two_attempts(self, world: World) -> None:
        world.fail(1, 1)
        world.fail(2, 61)
        world.hide(QUEUE)
        found = check(world.trace(70), Place.FAILING)
        assert verdict(found).text == (
            "failed 2 times in RefinerInput: NoSuchKey: The specified key does not exist.; "
            "attempt 2 of 5, again about 14:02:01Z"
        )
        assert world.queues.requests["peek"] == 0  # the log tells where it is

    def test_a_message_in_the_dlq(self, world: World) -> None:
        for number in range(1, 6):
            world.fail(number, number * 60)
        world.queues.messages[DLQ] = [Message(event_of("other"), at(0), 1), Message(event_of(), at(0.2), 7)]
        found = check(world.trace(3600), Place.DEAD)
        assert verdict(found).text == (
            "failed 5 times in RefinerInput: NoSuchKey: The specified key does not exist.; "
            f"in {DLQ} since 14:05:30Z, expires 2026-03-15 14:00Z"
        )
        assert [attempt.receive_count for attempt in found.attempts] == [1, 2, 3, 4, 5]

    def test_a_message_of_another_version_in_the_dlq_is_not_its_message(self, world: World) -> None:
        world.queues.messages[DLQ] = [Message(event_of(version="v0"), at(-9), 5)]
        assert verdict(world.trace()).place is Place.UNKNOWN

    def test_a_message_that_is_in_no_queue_any_more(self, world: World) -> None:
        world.fail(5, 60)
        check(world.trace(3600), Place.UNKNOWN, "redriven, purged or expired")

    def test_other_messages_in_flight_are_not_its_message(self, world: World) -> None:
        """It was hidden for 60 s, and a new receive would be in the log."""
        world.fail(2, 60)
        world.hide(QUEUE)
        check(world.trace(200), Place.FAILING)
        check(world.trace(3600), Place.UNKNOWN)

    def test_counts_that_have_not_settled_do_not_prove_that_its_message_left_the_queue(self, world: World) -> None:
        world.fail(5, 60)
        check(world.trace(60 + 30 + 80), Place.FAILING, "attempt 5 of 5, moves to the DLQ about")

    def test_a_dlq_of_which_only_a_part_was_scanned_may_hold_it(self, world: World) -> None:
        world.fail(5, 60)
        world.queues.messages[DLQ] = [Message(event_of("other"), at(0), 1) for _ in range(250)]
        check(
            world.trace(3600), Place.UNKNOWN, f"is now is unknown: {DLQ}: 200 messages were received, about 50 were not"
        )

    def test_a_dlq_with_messages_in_flight_may_hold_it(self, world: World) -> None:
        world.fail(5, 60)
        world.hide(DLQ, 3)
        found = world.trace(3600)
        assert f"is now is unknown: {DLQ}: 3 messages are in flight" in verdict(found).text

    def test_receives_without_an_attempt_are_not_counted_as_failures(self, world: World) -> None:
        world.fail(4, 60)  # it was received three times to look at it
        world.hide(QUEUE)
        assert verdict(world.trace(70)).text.startswith("failed once (4 receives) in RefinerInput: NoSuchKey")

    def test_a_function_that_logs_no_keys(self, world: World) -> None:
        world.log(2, 'ERROR {"errorType": "Error", "errorMessage": "thrown"}')
        world.queues.messages[DLQ] = [Message(event_of(), at(0.2), 5)]
        check(world.trace(), Place.DEAD, "errors of the function since then: Error: thrown")

    @pytest.mark.parametrize("name", [DELIVERY, FORWARD])
    def test_undelivered(self, world: World, name: str) -> None:
        texts = {"ERROR_CODE": "NO_PERMISSIONS", "TARGET_ARN": f"arn:aws:sqs:us-east-1:0:{QUEUE}", "RULE_ARN": "r"}
        given = {key: MessageAttribute("String", text) for key, text in texts.items()}
        world.queues.messages[name] = [Message(event_of(), at(0.2), 1, given)]
        found = check(world.trace(), Place.UNDELIVERED)
        assert verdict(found).text.startswith(f"EventBridge could not deliver its event to {QUEUE}: NO_PERMISSIONS")


class LateBucket(FakeBucket):
    """A bucket in which completions appear right after they were read for the first time."""

    reads = 0

    def read(self, key: str, limit: int | None = None) -> tuple[ObjectInfo, bytes] | None:
        self.reads += 1
        return None if self.reads <= 2 else super().read(key, limit)


def test_completion_written_between_two_reads_is_found() -> None:
    world = World(bucket=LateBucket())
    world.bucket.write(KEY, "content", at=at(0))
    world.complete()
    world.attempt(1, 1, {"message": "completion written", "completionKey": "RefinerComplete/a b.txt.json"})
    world.attempt(1, 1, {"message": "record done", "durationMs": 100})
    assert check(world.trace(), Place.COMPLETED).completion is not None


class TestUnderWay:
    def test_waiting(self, world: World) -> None:
        world.queues.messages[QUEUE] = [Message(event_of(), at(0.2), 1)]
        world.functions.mapping_states[QUEUE] = "Disabled"
        found = check(world.trace(look=True), Place.WAITING)
        assert verdict(found).text == (f"waiting in {QUEUE} since 14:00:00Z; its event source mapping is Disabled")
        assert any("receive counts increased by 1" in note for note in found.notes)

    def test_a_mapping_is_missing_only_if_lambda_reports_that(self, world: World) -> None:
        world.queues.messages[QUEUE] = [Message(event_of(), at(0.2), 1)]
        world.functions.mapping_states[QUEUE] = None
        assert "its event source mapping is missing" in verdict(world.trace()).text

        class Denied(FakeFunctions):
            def mappings(self, function: str) -> tuple[SourceMapping, ...]:
                raise AccessDeniedError("access denied: ListEventSourceMappings")

        world.functions = Denied()
        assert "mapping" not in verdict(world.trace()).text

    def test_waiting_messages_are_received_only_with_look(self, world: World) -> None:
        """Traces in a loop would move all messages of the queue to the DLQ."""
        world.queues.states[QUEUE] = QueueState(QUEUE, "", 60, 345600, max_receive_count=5, visible=3, in_flight=2)
        found = check(world.trace(), Place.WAITING)
        assert verdict(found).text == (
            f"probably waiting: 3 messages in {QUEUE}, which were not received, 2 more in flight"
        )
        assert world.queues.requests["peek"] == 0

    def test_a_queue_of_which_only_a_part_was_received_may_hold_it(self, world: World) -> None:
        world.queues.messages[QUEUE] = [Message(event_of("other"), at(0), 1) for _ in range(250)]
        check(world.trace(look=True), Place.WAITING)
        world.queues.messages[QUEUE] = world.queues.messages[QUEUE][:150]
        check(world.trace(look=True), Place.UNKNOWN)

    def test_a_message_older_than_the_retention_period_does_not_wait(self, world: World) -> None:
        world.queues.states[QUEUE] = QueueState(QUEUE, "", 60, 3600, max_receive_count=5, visible=3, in_flight=2)
        check(world.trace(3500), Place.WAITING)
        check(world.trace(3700), Place.UNKNOWN)

    def test_messages_with_few_receives_are_not_received(self, world: World) -> None:
        world.queues.states[QUEUE] = QueueState(QUEUE, "", 60, 345600, max_receive_count=2, visible=3)
        check(world.trace(look=True), Place.WAITING, "probably")
        assert world.queues.requests["peek"] == 0

    def test_a_function_processes_it(self, world: World) -> None:
        world.attempt(1, 1)
        world.hide(QUEUE)
        check(world.trace(30), Place.IN_FLIGHT, ID.format(1))

    def test_a_function_that_logged_nothing_for_longer_than_its_timeout(self, world: World) -> None:
        world.attempt(1, 1)
        world.queues.states[QUEUE] = QueueState(QUEUE, "", 360, 345600, max_receive_count=5, in_flight=1)
        check(
            world.trace(200),
            Place.FAILING,
            "no log line says how that ended",
            "its message becomes visible again about 14:06:01Z",
        )
        check(world.trace(3600), Place.UNKNOWN)

    def test_in_flight_with_nothing_logged(self, world: World) -> None:
        world.hide(QUEUE)
        check(world.trace(), Place.IN_FLIGHT)

    def test_an_object_that_was_written_a_moment_ago(self, world: World) -> None:
        found = verdict(world.trace(5))
        assert (found.place, found.outcome) == (Place.UNKNOWN, TraceOutcome.UNDER_WAY)

    def test_a_completion_is_delivered_to_downstream_consumers(self, world: World) -> None:
        world.bucket.write("RefinerComplete/x.json", "[]")
        world.queues.messages["x-RefinerComplete"] = [Message(event_of("RefinerComplete/x.json"), at(0), 0)]
        check(world.trace(key="RefinerComplete/x.json"), Place.DELIVERED, "; 1 message waiting there, ")
        assert world.queues.requests["peek"] == 0  # that queue belongs to downstream consumers


class TestNowhere:
    def test_no_stage_receives_it(self, world: World) -> None:
        world.bucket.write("Elsewhere/x")
        check(world.trace(key="Elsewhere/x"), Place.NEVER_MATCHED, "prefixes: RefinerInput/, RefinerComplete/")

    def test_an_object_that_never_existed(self, world: World) -> None:
        check(world.trace(key="RefinerInput/never"), Place.NEVER_EXISTED)

    def test_without_access_to_logs_it_may_have_existed(self, world: World) -> None:
        world.logs.errors[f"/aws/lambda/{QUEUE}"] = AccessDeniedError("access denied: FilterLogEvents")
        found = check(world.trace(key="RefinerInput/never"), Place.UNKNOWN)
        assert verdict(found).text.startswith("unknown: S3 has no version of RefinerInput/never; access denied")

    def test_a_function_that_does_not_exist_does_not_matter_for_that(self, world: World) -> None:
        world.functions.known.clear()
        found = check(world.trace(key="RefinerInput/never"), Place.NEVER_EXISTED)
        assert "function x-RefinerInput does not exist" in found.notes

    def test_an_object_with_only_a_delete_marker(self, world: World) -> None:
        world.bucket.histories[KEY] = [ObjectVersion(KEY, "d", at(3), is_delete_marker=True)]
        found = check(world.trace(), Place.UNKNOWN)
        assert verdict(found).text.startswith(
            "unknown: S3 has no version of RefinerInput/a b.txt except its delete marker"
        )

    def test_an_object_older_than_the_searched_logs(self, world: World) -> None:
        world.bucket.write(KEY, at=at(-10 * 86400))
        found = world.trace()
        assert verdict(found).text == "unknown: logs before 2026-02-28 14:00Z were not searched, see --since"

    def test_two_stages_that_take_it(self, world: World) -> None:
        inner = stage_of("Inner", "RefinerInput/a", has_function=False)
        world = World(stages=(INPUT, inner))
        world.bucket.write(KEY)
        found = world.trace()
        assert found.stage == inner
        assert "RefinerInput also receives it; traced through Inner only" in found.notes

    def test_a_version_that_does_not_exist(self, world: World) -> None:
        with pytest.raises(NotFoundError, match="no version v7"):
            world.trace(version="v7")

    def test_an_object_that_left_no_other_trace(self, world: World) -> None:
        found = world.trace(86400)
        check(found, Place.UNKNOWN, "unknown after S3")
        assert is_lost(found, verdict(found))

    @pytest.mark.parametrize("what", ["recent", "deleted", "dead", "unread"])
    def test_an_object_that_is_not_certainly_lost(self, world: World, what: str) -> None:
        if what == "deleted":
            marker = ObjectVersion(KEY, "v2", at(5), is_delete_marker=True)
            world.bucket.histories[KEY] = [marker, ObjectVersion(KEY, "v1", at(0))]
        if what == "dead":
            world.queues.messages[DLQ] = [Message(event_of(), at(1), 5)]
        if what == "unread":
            world.queues.error = AccessDeniedError("access denied")
            world.queues.messages.clear()
        found = world.trace(10 if what == "recent" else 86400)
        assert not is_lost(found, verdict(found))

    def test_unreadable_sources_are_reported(self, world: World) -> None:
        world.queues.error = AccessDeniedError("access denied: GetQueueAttributes")
        found = world.trace(86400)
        assert verdict(found).text == "unknown: access denied: GetQueueAttributes"
        assert found.notes == ["access denied: GetQueueAttributes"]


class TestVersions:
    def test_an_older_version_by_its_id(self, world: World) -> None:
        old = ObjectVersion(KEY, "v0", at(-100), 3)
        world.bucket.histories[KEY] = [ObjectVersion(KEY, "v1", at(0), 7), old]
        world.attempt(1, 1, {"message": "record done", "durationMs": 44})
        world.complete()
        found = world.trace(version="v0")
        assert found.version == old
        assert found.attempts == ()
        assert any("a newer version was written" in note for note in found.notes)

    def test_events_without_a_version_are_distinguished_by_time(self, world: World) -> None:
        world.queues.messages[DLQ] = [Message(event_of(version=None), at(-60), 5)]
        assert verdict(world.trace()).place is Place.UNKNOWN
        world.queues.messages[DLQ].append(Message(event_of(version=None), at(0.2), 5))
        assert verdict(world.trace()).place is Place.DEAD

    def test_in_an_unversioned_bucket_an_earlier_attempt_is_not_that_of_this_content(self, world: World) -> None:
        world.bucket = FakeBucket(versioned=False)
        world.bucket.write(KEY, at=at(20))
        world.fail(1, 19.5)  # its message was sent at 0.2 s
        world.hide(QUEUE)
        assert world.trace(40).attempts == ()

    def test_without_access_to_versions_the_newest_is_traced(self, world: World) -> None:
        class Denied(FakeBucket):
            def versions(self, key: str) -> list[ObjectVersion]:
                raise AccessDeniedError("access denied: ListObjectVersions")

        world.bucket = Denied()
        world.bucket.write(KEY, "content", at=at(0))
        world.complete()
        check(world.trace(), Place.COMPLETED)

    def test_it_fails_without_the_bucket(self, world: World) -> None:
        class Gone(FakeBucket):
            def versions(self, key: str) -> list[ObjectVersion]:
                raise NotFoundError("there is no bucket")

        world.bucket = Gone()
        with pytest.raises(RefinerctlError, match="no bucket"):
            world.trace()


class TestOtherStacks:
    def test_a_rule_that_starts_a_function_without_a_queue(self) -> None:
        direct = Stage("Direct", EventRule(QUEUE, "bus", "RefinerInput/"), consumer=Function(QUEUE))
        world = World(stages=(direct,))
        world.bucket.write(KEY, at=at(0))
        world.attempt(1, 1, {"message": "record done", "durationMs": 44})
        found = check(world.trace(), Place.COMPLETED)
        assert [hop.component for hop in hops_of(found)] == ["S3", "EventBridge", "Lambda", "Lambda"]

    def test_a_stack_without_completions(self, world: World) -> None:
        world.stack = Stack("other", storage=lambda _: STORAGE, read_log_line=STACK.read_log_line)
        world.attempt(1, 1, {"message": "record done", "durationMs": 44})
        check(world.trace(), Place.COMPLETED)

    def test_no_stage_of_a_stack_without_prefixes_receives_an_input(self, world: World) -> None:
        world.stages = TINY_STAGES
        check(world.trace(), Place.NEVER_MATCHED, "prefixes: none")


def test_a_log_full_of_the_key_is_bounded(world: World) -> None:
    taken = 0

    class Endless(FakeLogGroups):
        def events(self, *_: Any, **__: Any) -> Iterator[LogEvent]:
            nonlocal taken
            while True:
                taken += 1
                yield LogEvent(at(1), f"/aws/lambda/{QUEUE}", "s", f"{KEY} once more")

    world.logs = Endless()
    assert world.trace().attempts == ()
    assert taken <= MAX_LINES + 3 * MAX_LINES_OF_INVOCATION


def test_a_verdict_names_the_day_unless_it_is_today(world: World) -> None:
    world.complete()
    assert "2026-03-01 14:00Z" in verdict(world.trace(3 * 86400)).text
