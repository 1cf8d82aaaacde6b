"""`dlq inspect`: messages with objects and errors, error groups, and how both look."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from refinerctl.aws.messages import MessageAttribute
from refinerctl.aws.s3 import ObjectEvent, ObjectState
from refinerctl.console import Progress
from refinerctl.dlq.errors import MessageError
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.inspect import (
    TIMES,
    ErrorGroup,
    InspectedMessage,
    Inspection,
    group_errors,
    group_lines,
    inspect,
    inspection_json,
    message_json,
    message_parts,
)
from refinerctl.errors import AccessDeniedError
from tests.unit.dlq.fake_queue import FakeQueue, failing, filled
from tests.unit.dlq.messages import event, matching, message, queue, undelivered
from tests.unit.dlq.test_errors import Logs, failed, finder
from tests.unit.dlq.test_walk import walk_of


class FakeObjects:
    def __init__(self, **states: ObjectState) -> None:
        self.states = states
        self.asked: list[ObjectEvent] = []
        self._lock = threading.Lock()

    def of(self, about: ObjectEvent) -> ObjectState:
        with self._lock:
            self.asked.append(about)
        return self.states.get(about.key.rpartition("/")[2].removesuffix(".txt"), ObjectState.EXISTS)


def inspected(
    source: FakeQueue, which: MessageFilter | None = None, limit: int = 10, group: bool = False, **given: Any
) -> Inspection:
    objects: Any = given.pop("objects", FakeObjects())
    progress = given.pop("progress", Progress())
    walk = walk_of(source, which, limit=limit, workers=4, **given)
    return inspect(walk, objects.of, progress, group=group)


class TestInspect:
    def test_messages_are_released_before_objects_are_looked_up(self) -> None:
        source = filled(3)
        in_flight: list[int] = []

        class Objects(FakeObjects):
            def of(self, about: ObjectEvent) -> ObjectState:
                in_flight.append(len(source.in_flight))
                return super().of(about)

        found = inspected(source, objects=Objects(**{"1": ObjectState.GONE}))

        assert in_flight == [0, 0, 0]
        assert {item.message.id: item.object_state for item in found.messages}["m1"] is ObjectState.GONE
        assert (found.received, found.matched, found.is_complete) == (3, 3, True)
        assert found.notes == ("receive counts of 3 messages increased by 1",)
        assert len(source.visible) == 3

    def test_progress_has_counts(self) -> None:
        texts: list[str] = []

        class Recorded(Progress):
            def update(self, text: str) -> None:
                texts.append(text)

        inspected(filled(1500), limit=1500, group=True, progress=Recorded())

        assert any(re.fullmatch(r"received 1,500 of 1,500 messages \(.+/s, 0 s left\)", text) for text in texts)

    def test_empty_queue(self) -> None:
        found = inspected(filled(0))
        assert (found.messages, found.received, found.notes) == ((), 0, ())

    def test_limit(self) -> None:
        source = filled(100)
        assert len(inspected(source, limit=7).messages) == 7
        assert source.calls.count("receive") == 1

    def test_filter_finds_a_message_behind_others(self) -> None:
        source = filled(900)
        found = inspected(source, matching("key == 'RefinerInput/777.txt'"), limit=1)
        assert [item.message.id for item in found.messages] == ["m777"]
        assert len(source.visible) == 900

    def test_filter_by_error_of_a_message_that_is_no_event(self) -> None:
        logs = Logs()
        logs.say(2, "record failed", **failed("NoSuchKey"))
        logs.say(4, "record failed", **failed("AccessDenied"))
        source = FakeQueue([message(1), message(2, "no event"), message(4)])
        found = inspected(source, matching("contains(error, 'NoSuchKey')"), errors=finder(logs))
        (item,) = found.messages
        assert item.error
        assert (item.message.id, item.object, item.error.text) == ("m2", None, "NoSuchKey: gone")
        assert (found.received, found.matched) == (3, 1)

    def test_groups(self) -> None:
        logs = Logs()
        for number in range(40):
            logs.say(number, "record failed", **failed("NoSuchKey", f"no key RefinerInput/{number}.txt"))
        source = FakeQueue([*(message(number) for number in range(40)), undelivered(50), undelivered(51)])
        found = inspected(source, limit=1000, group=True, errors=finder(logs))
        assert [(group.count, group.example_key) for group in found.groups] == [
            (40, found.groups[0].example_key),
            (2, "RefinerInput/50.txt"),
        ]
        assert found.groups[0].signature.startswith("NoSuchKey")
        assert found.messages == ()

    def test_each_object_is_looked_up_once(self) -> None:
        objects = FakeObjects()
        inspected(FakeQueue([message(n, event("RefinerInput/same.txt")) for n in range(5)]), objects=objects)
        assert len(objects.asked) == 1

    def test_error_of_a_receive_is_raised(self) -> None:
        source = filled(3)
        source.fail = failing("receive", [AccessDeniedError("denied")])
        with pytest.raises(AccessDeniedError, match="denied"):
            inspected(source)


def test_groups_are_sorted_by_count_with_unknown_errors_last() -> None:
    messages = [message(number) for number in range(13)] + [message(20, "no event")]
    known = {f"m{n}": MessageError(f"NoSuchKey: no key RefinerInput/{n}.txt") for n in range(4)}
    groups = group_errors(messages, known | {"m20": MessageError("OutOfMemory: 192 MB")})
    assert [(group.count, group.signature.split(":")[0]) for group in groups] == [
        (4, "NoSuchKey"),
        (1, "OutOfMemory"),
        (9, "unknown"),
    ]
    assert (groups[0].example_id, groups[0].example_key) == ("m0", "RefinerInput/0.txt")


def text(item: InspectedMessage) -> str:
    return "\n".join("".join(part for part, _ in parts) for parts in message_parts(item))


class TestView:
    def test_message_with_everything(self) -> None:
        attributes, system = {"n": MessageAttribute("Number", "12")}, {"MessageGroupId": "g"}
        item = InspectedMessage(
            message(1, '{"a": [1]}', attributes=attributes, system=system),
            ObjectEvent("b", "k", "v7"),
            ObjectState.REPLACED,
            MessageError("NoSuchKey: gone", "8f3c"),
        )
        assert text(item).splitlines() == [
            "m1",
            "  sent: 2026-03-01T14:01:00Z, received 6 times (this receive included)",
            "  object: s3://b/k version v7: this version does not exist, another one does",
            "  error: NoSuchKey: gone",
            "  request: 8f3c",
            "  n: 12",
            "  MessageGroupId: g",
            "  body: ",
            "    {",
            '  "a": [',
            "    1",
            "  ]",
            "}",
        ]
        assert message_json(item)["body"] == {"a": [1]}

    def test_message_without_object_and_error(self) -> None:
        item = InspectedMessage(message(1, '{"a": NaN}'))
        assert "  error: unknown\n" in text(item)
        assert "object" not in text(item)
        assert message_json(item)["body"] == '{"a": NaN}'  # there is no such number in JSON
        assert message_json(item)["object"] is None

    def test_nested_and_long_bodies(self) -> None:
        deep = "[" * 500 + "]" * 500
        assert message_json(InspectedMessage(message(1, deep)))["body"] == deep
        long = text(InspectedMessage(message(1, "x" * 9000)))
        assert long.endswith("… (9000 characters; `dlq export` writes all of them)")

    def test_groups_are_aligned(self) -> None:
        groups = (ErrorGroup("NoSuchKey: …", 1412, "m1", "a/b.txt"), ErrorGroup("unknown", 3, "m2"))
        assert list(group_lines(groups)) == [
            f"1,412 {TIMES} NoSuchKey: …  e.g. a/b.txt",
            f"    3 {TIMES} unknown  e.g. m2",
        ]
        document = inspection_json(Inspection(queue("a-dlq"), 1415, 1415, True, groups=groups), group=True)
        assert document["groups"] == groups
        assert "messages" not in document
