"""`dlq inspect`: messages with objects and errors, error groups, and how both look."""

from __future__ import annotations

import re
import threading
from typing import Any

from refinerctl.aws.messages import Message, MessageAttribute
from refinerctl.aws.s3 import ObjectEvent, ObjectState
from refinerctl.console import Progress
from refinerctl.dlq.errors import MessageError
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.inspect import (
    TIMES,
    ErrorGroup,
    InspectedMessage,
    group_errors,
    group_lines,
    message_json,
    message_parts,
    receive,
    with_objects,
)
from refinerctl.dlq.walk import Walk
from tests.unit.dlq.fake_queue import FakeQueue, filled
from tests.unit.dlq.messages import event, matching, message, undelivered
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


def received(
    source: FakeQueue, which: MessageFilter | None = None, limit: int = 10, progress: Progress | None = None
) -> tuple[Walk, list[Message]]:
    walk = walk_of(source, which, limit=limit, workers=4)
    return walk, receive(walk, progress or Progress())


class TestInspect:
    def test_progress_has_counts(self) -> None:
        texts: list[str] = []

        class Recorded(Progress):
            def update(self, text: str) -> None:
                texts.append(text)

        received(filled(1500), limit=1500, progress=Recorded())

        assert any(re.fullmatch(r"received 1,500 of 1,500 messages \(.+/s, 0 s left\)", text) for text in texts)

    def test_filter_by_error_of_a_message_that_is_no_event(self) -> None:
        logs = Logs()
        logs.say(2, "record failed", **failed("NoSuchKey"))
        logs.say(4, "record failed", **failed("AccessDenied"))
        source = FakeQueue([message(1), message(2, "no event"), message(4)])
        walk = walk_of(source, matching("contains(error, 'NoSuchKey')"), errors=finder(logs))
        assert [item.id for item in receive(walk, Progress())] == ["m2"]
        assert (walk.received, walk.matched) == (3, 1)

    def test_errors_are_grouped_without_the_bodies(self) -> None:
        logs = Logs()
        for number in range(40):
            logs.say(number, "record failed", **failed("NoSuchKey", f"no key RefinerInput/{number}.txt"))
        source = FakeQueue([*(message(number) for number in range(40)), undelivered(50), undelivered(51)])
        messages = receive(walk_of(source), Progress(), bodies=False)
        groups = group_errors(messages, finder(logs).find(messages))
        assert [(group.count, group.example_key) for group in groups] == [
            (40, groups[0].example_key),
            (2, "RefinerInput/50.txt"),
        ]
        assert groups[0].signature.startswith("NoSuchKey")

    def test_each_object_is_looked_up_once(self) -> None:
        objects: Any = FakeObjects(same=ObjectState.GONE)
        messages = [message(n, event("RefinerInput/same.txt")) for n in range(5)]
        assert {item.object_state for item in with_objects(messages, {}, objects.of)} == {ObjectState.GONE}
        assert len(objects.asked) == 1


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

    def test_long_keys_of_groups_are_shortened_in_the_middle(self) -> None:
        line = "".join(group_lines([ErrorGroup("NoSuchKey: …", 1, "m1", f"RefinerInput/{'x' * 1000}/report.txt")]))
        assert len(line) <= 100
        assert "e.g. RefinerInput/xxx" in line
        assert line.endswith("xxx/report.txt")
