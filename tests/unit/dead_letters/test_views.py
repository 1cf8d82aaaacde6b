"""How lists and messages look."""

from __future__ import annotations

from refinerctl.aws.messages import MessageAttribute
from refinerctl.aws.objects import ObjectEvent
from refinerctl.dlq.inspect_view import TIMES, group_lines, looked_json, message_json, message_parts
from refinerctl.dlq.list_command import HEADER, _row, _warnings
from refinerctl.dlq.queues import DeadLetterQueue, DlqKind, MessageSource
from refinerctl.dlq.views import ErrorGroup, InspectedMessage, Looked, MessageError, ObjectState, standing
from tests.unit.dead_letters.letters import letter, queue


def found(name: str, **given: object) -> DeadLetterQueue:
    return DeadLetterQueue(name, **given)  # type: ignore[arg-type]


def text(seen: InspectedMessage) -> str:
    return "\n".join("".join(part for part, _ in parts) for parts in message_parts(seen))


class TestList:
    def test_a_row_says_what_is_known(self) -> None:
        sources = (MessageSource("a", ""), MessageSource("b", "", is_there=False))
        full = found(
            "a-dlq",
            kind=DlqKind.PROCESSING,
            sources=sources,
            depth=415,
            in_flight=2,
            oldest_age_s=7500.0,
            expires_in_s=1_200_000.0,
        )
        assert dict(zip(HEADER, _row(full), strict=True)) == {
            "QUEUE": "a-dlq",
            "KIND": "processing",
            "FROM": "a, b (gone)",
            "DEPTH": "415",
            "IN FLIGHT": "2",
            "OLDEST": "2h5m",
            "EXPIRES": "13d21h",
        }
        assert _row(found("x", error="denied")) == ("x", "unknown", "", "", "", "-", "-")

    def test_warned_of_what_expires_within_a_day_and_of_what_could_not_be_seen(self) -> None:
        queues = (
            found("late", expires_in_s=86_399.0),
            found("soon", expires_in_s=86_400.0),
            found("gone", error="there is no queue 'gone'"),
        )
        assert list(_warnings(queues)) == [
            "late: its oldest message expires in 23h59m, at the latest",
            "gone: there is no queue 'gone'",
        ]


class TestInspect:
    def test_a_message_with_everything(self) -> None:
        seen = InspectedMessage(
            letter(1, '{"a": [1]}', attributes={"n": MessageAttribute("Number", "12")}, system={"MessageGroupId": "g"}),
            ObjectEvent("b", "k", "v7"),
            ObjectState.REPLACED,
            MessageError("NoSuchKey: gone", "8f3c"),
        )
        assert text(seen).splitlines() == [
            "m1",
            "  sent: 2026-03-01T14:01:00Z, received 6 times (this look counts)",
            "  object: s3://b/k version v7: this version is gone, there is another one",
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
        assert message_json(seen)["body"] == {"a": [1]}

    def test_a_message_of_which_nothing_is_known(self) -> None:
        seen = InspectedMessage(letter(1, '{"a": NaN}'))
        assert "  error: unknown\n" in text(seen)
        assert "object" not in text(seen)
        assert message_json(seen)["body"] == '{"a": NaN}'  # there is no such number in JSON
        assert message_json(seen)["object"] is None

    def test_bodies_that_are_nested_or_long(self) -> None:
        deep = "[" * 500 + "]" * 500
        assert message_json(InspectedMessage(letter(1, deep)))["body"] == deep
        assert text(InspectedMessage(letter(1, "x" * 9000))).endswith("… (9000 characters; `dlq export` has all of it)")

    def test_groups_are_lined_up(self) -> None:
        groups = (ErrorGroup("NoSuchKey: …", 1412, "m1", "a/b.txt"), ErrorGroup("unknown", 3, "m2"))
        assert list(group_lines(groups)) == [
            f"1,412 {TIMES} NoSuchKey: …  e.g. a/b.txt",
            f"    3 {TIMES} unknown  e.g. m2",
        ]
        looked = Looked(queue("a-dlq"), 1415, 1415, is_whole=True, groups=groups)
        assert looked_json(looked, group=True)["groups"] == groups
        assert "messages" not in looked_json(looked, group=True)


def test_how_far_it_is_and_for_how_long_still() -> None:
    assert standing(1200, 5000, 2.0) == "1,200 of 5,000 messages (600/s, 6 s left)"
    assert standing(1200, None, 2.0) == "1,200 messages (600/s)"
    assert standing(0, 10, 0.0) == "0 of 10 messages (0/s)"
