"""The pipeline as a drawing: a trunk from the bucket to the bus, and a lane for each ruleset. Wide or narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from refinerctl.insight.report.page.lanes import Lane
from refinerctl.insight.report.page.numbers import Count, ago, duration, milliseconds, total
from refinerctl.insight.report.page.shapes import PADDING, Box, Drawing, Label, Wire
from refinerctl.insight.report.page.text import BOLD, fitted

MOST_LANES_WIDE, MOST_LANES_NARROW = 8, 4
_SMALL, _TALL = 28, 76


@dataclass(frozen=True)
class Trunk:
    """What all rulesets share."""

    bucket: str
    bus: str
    events: Count


def trunk(bucket: str, bus: str, all_lanes: Sequence[Lane]) -> Trunk:
    return Trunk(bucket, bus, total(lane.matched for lane in all_lanes))


def wide(shared: Trunk, shown: Sequence[Lane], now: datetime) -> Drawing:
    """The trunk on the left from top to bottom, lanes to the right of it."""
    drawing = Drawing(width=1120)
    _draw_trunk(drawing, shared, width=176, gap=44, arrow_at=24)
    bus, spine = drawing.boxes[-1], 200.0
    top = max(0.0, bus.middle - _WideLane.AXIS) if len(shown) == 1 else 0.0
    lanes = [_WideLane(drawing, lane, top + place * _WideLane.HEIGHT, spine, now) for place, lane in enumerate(shown)]
    for lane in lanes:
        lane.draw()
    if lanes:
        axes = [lane.axis for lane in lanes]
        drawing.wires.append(Wire(((bus.right, bus.middle), (spine, bus.middle)), is_arrow=False))
        ends = sorted((*axes, bus.middle))
        drawing.wires.append(Wire(((spine, ends[0]), (spine, ends[-1])), is_arrow=False))
    drawing.end()
    return drawing


def narrow(shared: Trunk, shown: Sequence[Lane], now: datetime) -> Drawing:
    """Everything from top to bottom, for a phone."""
    drawing = Drawing(width=320)
    _draw_trunk(drawing, shared, width=319, gap=36, arrow_at=24)
    bus, spine = drawing.boxes[-1], 8.0
    top = bus.bottom + 18
    last = bus.bottom
    for lane in shown:
        last = top + _NARROW_AXIS - _NARROW_ARROW
        top = _draw_narrow_lane(drawing, lane, top, spine, now)
    if shown:
        drawing.wires.append(Wire(((spine, bus.bottom), (spine, last)), is_arrow=False))
    drawing.end()
    return drawing


def _draw_trunk(drawing: Drawing, shared: Trunk, width: float, gap: float, arrow_at: float) -> None:
    stations = (
        ("bucket", "S3 bucket", shared.bucket, _with_noun(shared.events, "event")),
        ("bus", "Default event bus", "forward rule", ""),
        ("bus", "Event bus", shared.bus, ""),
    )
    y, height = 1.0, 48.0
    for place, (kind, title, name, leaving) in enumerate(stations):
        drawing.boxes.append(_box(1, y, width - 2, height, kind, title, (name,)))
        if place < len(stations) - 1:
            drawing.wires.append(Wire(((arrow_at, y + height), (arrow_at, y + height + gap))))
        if leaving:
            drawing.labels.append(
                Label(arrow_at + 10, y + height + gap / 2 + 4, fitted(leaving, width - arrow_at - 12))
            )
        y += height + gap


class _WideLane:
    """Title; rule, queue, function and completions in a row; what failed below."""

    HEIGHT = 168
    AXIS = 66  # where the row's middle is
    _QUEUE, _FUNCTION, _DONE, _END = 400, 680, 950, 1119

    def __init__(self, drawing: Drawing, lane: Lane, top: float, spine: float, now: datetime) -> None:
        self._drawing, self._lane, self._spine, self._now = drawing, lane, spine, now
        self._top = top
        self.axis = top + self.AXIS
        self._low = self.axis + _TALL / 2 + 18

    def draw(self) -> None:
        lane, drawing = self._lane, self._drawing
        drawing.labels += _titles(lane, self._spine + 14, self._top + 16, self._END - self._spine - 14)
        self._edge(self._spine, self._QUEUE, f"{lane.matched.short} matched by rule")
        if lane.undelivered:
            drawing.labels.append(Label(self._QUEUE - 12, self.axis + 17, _undelivered(lane), "bad", "end"))
        queue = self._station(self._QUEUE, 170, "queue", "SQS queue", _queue_lines(lane))
        delivery = self._small(self._spine + 16, 172, "delivery DLQ", lane.delivery_dead)
        self._branch(delivery.x + 20, self.axis, delivery.y, delivery.tone)
        dead = self._small(queue.x, 170, "DLQ", lane.dead)
        self._branch(queue.x + 20, queue.bottom, dead.y, dead.tone)
        if lane.has_function:
            self._function(queue, dead)
        else:
            drawing.labels.append(_end_label(lane, queue.right + 14, self.axis + 4, self._END - queue.right - 14))

    def _function(self, queue: Box, dead: Box) -> None:
        lane = self._lane
        self._edge(queue.right, self._FUNCTION, lane.attempts.short, _noun(lane.attempts, "attempt"))
        function = self._station(self._FUNCTION, 160, "function", "Lambda function", _function_lines(lane))
        failed = _failed(lane, function.x, self._low, 160)
        self._drawing.boxes.append(failed)
        self._branch(function.x + 20, function.bottom, failed.y, failed.tone)
        back = Wire(((failed.x, failed.middle), (dead.right, failed.middle)), failed.tone, is_dashed=True)
        self._drawing.wires.append(back)
        middle = (failed.x + dead.right) / 2
        self._drawing.labels.append(Label(middle, failed.middle - 6, "after retries", "muted", "middle"))
        self._edge(function.right, self._DONE, lane.completed.short, "completed")
        self._station(self._DONE, self._END - self._DONE, "done", "Completions", _done_lines(lane, self._now))

    def _station(self, x: float, width: float, kind: str, title: str, lines: tuple[str, ...]) -> Box:
        box = _box(x, self.axis - _TALL / 2, width, _TALL, kind, title, lines)
        self._drawing.boxes.append(box)
        return box

    def _small(self, x: float, width: float, title: str, number: Count) -> Box:
        box = _dead_letters(title, number, x, self._low, width)
        self._drawing.boxes.append(box)
        return box

    def _edge(self, start: float, end: float, text: str, below: str = "") -> None:
        self._drawing.wires.append(Wire(((start, self.axis), (end, self.axis))))
        middle = (start + end) / 2 - 2
        self._drawing.labels.append(Label(middle, self.axis - 7, fitted(text, end - start - 8), "", "middle"))
        if below:
            self._drawing.labels.append(Label(middle, self.axis + 17, below, "muted", "middle"))

    def _branch(self, x: float, start: float, end: float, tone: str = "") -> None:
        self._drawing.wires.append(Wire(((x, start), (x, end)), tone, is_dashed=True))


_NARROW_AXIS, _NARROW_ARROW = 66, 14  # where a lane's queue begins, and how far above its wire comes in


def _draw_narrow_lane(drawing: Drawing, lane: Lane, top: float, spine: float, now: datetime) -> float:
    """Returns where the next lane may begin."""
    left, width = 26.0, 293.0
    dead_x, failed_width = left + 176, 132.0
    drawing.labels += _titles(lane, left, top + 14, width, stacked=True)
    drawing.labels.append(Label(left + 24, top + _NARROW_AXIS - 10, f"{lane.matched.short} matched"))
    if lane.undelivered:
        drawing.labels.append(Label(left + width, top + _NARROW_AXIS - 10, _undelivered(lane), "bad", "end"))
    queue = _box(left, top + _NARROW_AXIS, width, _TALL, "queue", "SQS queue", _queue_lines(lane))
    drawing.wires.append(
        Wire(((spine, queue.y - _NARROW_ARROW), (left + 16, queue.y - _NARROW_ARROW), (left + 16, queue.y)))
    )
    dead_y = queue.bottom + 18
    delivery = _dead_letters("delivery DLQ", lane.delivery_dead, left, dead_y, 165)
    dead = _dead_letters("DLQ", lane.dead, dead_x, dead_y, left + width - dead_x)
    drawing.boxes += [queue, delivery, dead]
    drawing.wires.append(Wire(((dead.x + 20, queue.bottom), (dead.x + 20, dead.y)), dead.tone, is_dashed=True))
    drawing.wires.append(
        Wire(
            ((spine + 8, queue.y - _NARROW_ARROW), (spine + 8, delivery.middle), (left, delivery.middle)),
            delivery.tone,
            is_dashed=True,
        )
    )
    if not lane.has_function:
        drawing.labels.append(_end_label(lane, left, dead.bottom + 22, width))
        return dead.bottom + 52
    function_y = dead.bottom + 34
    function = _box(left, function_y, width, 60, "function", "Lambda function", _function_lines(lane))
    failed = _failed(lane, left + width - failed_width, function.bottom + 18, failed_width)
    done_y = failed.bottom + 18
    done = _box(left, done_y, width, 60, "done", "Completions", _done_lines(lane, now))
    drawing.boxes += [function, failed, done]
    between = dead_x - 5.5
    drawing.wires.append(Wire(((between, queue.bottom), (between, function.y))))
    drawing.labels.append(Label(between + 10, function.y - 12, _with_noun(lane.attempts, "attempt")))
    drawing.wires.append(Wire(((failed.x + 20, function.bottom), (failed.x + 20, failed.y)), failed.tone, True))
    drawing.wires.append(Wire(((left + 16, function.bottom), (left + 16, done.y))))
    drawing.labels.append(
        Label(left + 22, failed.middle + 4, fitted(f"{lane.completed.short} completed", failed.x - left - 26))
    )
    return done.bottom + 30


def _titles(lane: Lane, x: float, y: float, room: float, *, stacked: bool = False) -> list[Label]:
    name = Label(x, y, fitted(lane.name, (room if stacked else room * 0.6) / BOLD), "title", whole=lane.name)
    if stacked:
        return [name, Label(x, y + 17, fitted(lane.prefix, room), "muted", whole=lane.prefix)]
    left = x + name.width + 10
    return [name, Label(left, y, fitted(lane.prefix, x + room - left), "muted", whole=lane.prefix)]


def _end_label(lane: Lane, x: float, y: float, room: float) -> Label:
    if lane.attempts.value is None:
        text = "No function: others take them"
    else:
        text = f"No function: {lane.attempts.short} taken by others"
    return Label(x, y, fitted(text, room), "muted", whole=text)


def _queue_lines(lane: Lane) -> tuple[str, ...]:
    oldest = (f"oldest {duration(lane.oldest_s)}",) if lane.oldest_s is not None and lane.waiting else ()
    return (f"{lane.waiting.short} waiting", f"{lane.in_flight.short} in flight", *oldest)


def _function_lines(lane: Lane) -> tuple[str, ...]:
    return (f"p95 {milliseconds(lane.p95_ms)}",)


def _done_lines(lane: Lane, now: datetime) -> tuple[str, ...]:
    if lane.last is None:
        return ("last: —",)
    return (f"last {lane.last:%d %b %H:%M}", ago(lane.last, now))


def _undelivered(lane: Lane) -> str:
    return f"✗ {lane.undelivered.short} undelivered"


def _failed(lane: Lane, x: float, y: float, width: float) -> Box:
    return _outcome("failed", lane.failed, "failed", x, y, width)


def _dead_letters(queue: str, number: Count, x: float, y: float, width: float) -> Box:
    return _outcome("dead", number, f"in {queue}", x, y, width)


def _outcome(kind: str, number: Count, what: str, x: float, y: float, width: float) -> Box:
    """The number first: it is what stays where there is no room for all."""
    text = f"{'✗ ' if number else ''}{number.short} {what}"
    tone = "unknown" if number.value is None else "bad" if number else ""
    shown = fitted(text, width - 2 * PADDING)
    return Box(x, y, width, _SMALL, kind, shown, (), tone, text if shown != text else "")


def _with_noun(number: Count, noun: str) -> str:
    return f"{number.short} {_noun(number, noun)}"


def _noun(number: Count, noun: str) -> str:
    return noun if number.value == 1 else f"{noun}s"


def _box(x: float, y: float, width: float, height: float, kind: str, title: str, lines: tuple[str, ...]) -> Box:
    room = width - 2 * PADDING
    shown = tuple(fitted(line, room) for line in lines)
    whole = " ".join((title, *lines)) if shown != lines else ""
    return Box(x, y, width, height, kind, fitted(title, room / BOLD), shown, "", whole)
