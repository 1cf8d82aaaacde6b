"""The pipeline as a drawing: what all stages share, and a lane of components for each stage. Wide, or narrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from refinerctl.insight.report.activity import Flow, StageActivity
from refinerctl.insight.report.text import BOLD, Count, Label, ago, duration, fitted, total, utc
from refinerctl.stacks.base import Bucket, EventBus, EventRule, Pipeline, Queue, Schedule, Stage

if TYPE_CHECKING:
    from refinerctl.insight.status_types import RulesetStatus

MOST_LANES_WIDE, MOST_LANES_NARROW = 8, 4
LINE_HEIGHT, PADDING = 17, 10
_SMALL, _TALL = 28, 76  # heights of boxes
_LOGGED = ("attempts", "completed", "failed")  # counts that come from the log
_KINDS = {Bucket: "S3 bucket", EventBus: "Event bus", EventRule: "Event rule"}


@dataclass(frozen=True)
class Lane:
    """What the drawing shows of one stage, or of several with the worst of their ages and durations.

    `counts` has only what the stage has: without a function no `completed`, without a queue no `waiting`.
    """

    name: str
    prefix: str
    counts: Mapping[str, Count]
    schedule: str = ""
    has_completions: bool = False
    oldest_s: float | None = None
    p95_ms: float | None = None
    last: datetime | None = None

    def __getitem__(self, name: str) -> Count:
        return self.counts.get(name, Count())

    @property
    def has_function(self) -> bool:
        return "completed" in self.counts

    @property
    def trouble(self) -> tuple[int, int, int]:
        """The greater, the sooner somebody should look: messages in DLQs, failures, then load."""
        return (
            total((self["dlq"], self["delivery_dlq"])).value or 0,
            (self["failed"].value or 0) + (self["undelivered"].value or 0),
            self["attempts"].value or self["taken"].value or self["matched"].value or 0,
        )


def stage_lane(
    stage: Stage, status: RulesetStatus | None, activity: StageActivity | None, *, has_completions: bool
) -> Lane:
    """`status` and `activity` are the stage's; None if they could not be read."""
    flow, is_cut = (activity.flow, activity.is_cut) if activity else (Flow(), False)
    queue = status.queue if status else None
    counts: dict[str, int | None] = {}
    if isinstance(stage.source, EventRule):
        counts |= {"matched": flow.matched, "undelivered": flow.undelivered}
    if stage.delivery_dlq:
        counts["delivery_dlq"] = status.delivery_dlq.depth if status and status.delivery_dlq else None
    if stage.queue:
        counts |= {"queued": flow.queued, "waiting": queue.visible + queue.delayed if queue else None}
        counts["in_flight"] = queue.in_flight if queue else None
        if stage.queue.dlq:
            counts["dlq"] = status.dlq.depth if status and status.dlq else None
    if stage.consumer:
        counts |= {"attempts": flow.attempts, "completed": flow.completed, "failed": flow.failed}
    elif stage.queue:
        counts["taken"] = flow.attempts
    return Lane(
        stage.name,
        stage.prefix or "",
        {name: Count(number, is_cut and name in _LOGGED) for name, number in counts.items()},
        schedule=stage.source.name if isinstance(stage.source, Schedule) else "",
        has_completions=has_completions and stage.consumer is not None,
        oldest_s=queue.oldest_age_s if queue else None,
        p95_ms=status.function.duration_p95_ms if status and status.function else None,
        last=utc(status.last_completion.at) if status and status.last_completion else None,
    )


def shown_lanes(lanes: Sequence[Lane], most: int) -> tuple[Lane, ...]:
    """At most `most` lanes: those with the most trouble in their order, then one that sums up the others."""
    if len(lanes) <= most:
        return tuple(lanes)
    worst = sorted(range(len(lanes)), key=lambda place: lanes[place].trouble, reverse=True)[: most - 1]
    others = [lane for place, lane in enumerate(lanes) if place not in worst]
    return (*(lanes[place] for place in sorted(worst)), _together(others))


def _together(lanes: Sequence[Lane]) -> Lane:
    def worst(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    names = dict.fromkeys(name for lane in lanes for name in lane.counts)
    return Lane(
        f"{len(lanes)} other stages",
        "summed up; each of them is in the table below",
        {name: total(lane.counts[name] for lane in lanes if name in lane.counts) for name in names},
        schedule="" if "matched" in names else next((lane.schedule for lane in lanes if lane.schedule), ""),
        has_completions=any(lane.has_completions for lane in lanes),
        oldest_s=worst(lane.oldest_s for lane in lanes),
        p95_ms=worst(lane.p95_ms for lane in lanes),
        last=max((lane.last for lane in lanes if lane.last), default=None),
    )


class Box(NamedTuple):
    """A component. `tone`: bad, unknown, or empty; `whole` is the text before it was cut to fit."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    lines: tuple[str, ...]
    tone: str = ""
    whole: str = ""

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


class Wire(NamedTuple):
    """A way that events or messages take."""

    points: tuple[tuple[float, float], ...]
    tone: str = ""
    is_dashed: bool = False
    has_arrow: bool = True


@dataclass
class Drawing:
    """In pixels of its own; to be drawn in the order wires, boxes, labels."""

    width: float
    wires: list[Wire] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    @property
    def height(self) -> float:
        return max([0.0, *(box.bottom for box in self.boxes), *(label.y + 3 for label in self.labels)]) + 2

    def box(
        self, x: float, y: float, width: float, height: float, kind: str, lines: Sequence[str], tone: str = ""
    ) -> Box:
        """The first line of a component is its title."""
        room, bold = width - 2 * PADDING, 1 if kind == "outcome" else BOLD
        shown = tuple(fitted(line, room / (1 if place else bold)) for place, line in enumerate(lines))
        self.boxes.append(Box(x, y, width, height, kind, shown, tone, " ".join(lines) if shown != tuple(lines) else ""))
        return self.boxes[-1]

    def wire(self, *points: tuple[float, float], tone: str = "", dashed: bool = False, arrow: bool = True) -> None:
        self.wires.append(Wire(points, tone, dashed, arrow))

    def label(self, x: float, y: float, text: str, room: float, kind: str = "", anchor: str = "start") -> Label:
        shown = fitted(text, room / (BOLD if kind == "title" else 1))
        self.labels.append(Label(x, y, shown, kind, anchor, text if shown != text else ""))
        return self.labels[-1]


class _Node(NamedTuple):
    """A component of a lane. `lines` empty: a rule, which is the wire itself.

    `way_in` is a number and a noun on the wire that leads here; `outcome` is a count, and its text in a box below.
    """

    kind: str
    lines: tuple[str, ...]
    way_in: tuple[str, str] = ("", "")
    outcome: tuple[str, str] | None = None


def _nodes(lane: Lane, now: datetime) -> Iterator[_Node]:
    """In the direction of the data."""
    delivery = ("delivery_dlq", "in delivery DLQ") if "delivery_dlq" in lane.counts else None
    way_in = ("", "")
    if "matched" in lane.counts:
        way_in = (lane["matched"].short, "matched")
        yield _Node("rule", (), outcome=delivery)
    elif lane.schedule:
        yield _Node("schedule", ("Schedule", lane.schedule), outcome=delivery)
    if "waiting" in lane.counts:
        oldest = (f"oldest {duration(lane.oldest_s)}",) if lane.oldest_s is not None and lane["waiting"] else ()
        lines = ("SQS queue", f"{lane['waiting'].short} waiting", f"{lane['in_flight'].short} in flight", *oldest)
        yield _Node("queue", lines, way_in, ("dlq", "in DLQ") if "dlq" in lane.counts else None)
        way_in = ("", "")
    if not lane.has_function:
        return
    ended = () if lane.has_completions else (f"{lane['completed'].short} completed",)
    if not way_in[1]:
        way_in = (lane["attempts"].short, "attempt" if lane["attempts"].value == 1 else "attempts")
    lines = ("Lambda function", f"p95 {duration(lane.p95_ms, 0.001)}", *ended)
    yield _Node("function", lines, way_in, ("failed", "failed"))
    if lane.has_completions:
        times = (f"last {lane.last:%d %b %H:%M}", ago(lane.last, now)) if lane.last else ("last: —",)
        yield _Node("completions", ("Completions", *times), (lane["completed"].short, "completed"))


def _outcome(drawing: Drawing, lane: Lane, node: _Node, x: float, y: float, width: float) -> Box:
    """The number first: it stays if there is no room for all."""
    name, what = node.outcome or ("", "")
    number = lane[name]
    tone = "unknown" if number.value is None else "bad" if number else ""
    text = f"{'✗ ' if number else ''}{number.short} {what}"
    return drawing.box(x, y, width, _SMALL, "outcome", (text,), tone)


def _without_function(lane: Lane) -> str:
    if lane.has_function or "waiting" not in lane.counts:
        return ""
    taken = lane["taken"]
    return "No function: others take them" if taken.value is None else f"No function: {taken.short} taken by others"


def _draw_shared(drawing: Drawing, pipeline: Pipeline, lanes: Sequence[Lane], width: float) -> Box | None:
    """From top to bottom what the stages share; returns the component that leads to them, if any."""
    sources = {stage.source for stage in pipeline.stages}
    leading, y = None, 1.0
    shared = [item for item in pipeline.shared if not isinstance(item, Queue)]
    for item, following in zip_longest(shared, shared[1:]):
        box = drawing.box(1, y, width - 2, 48, "shared", (_KINDS.get(type(item), type(item).__name__), item.name))
        y = box.bottom + (24 if leading else 40)
        if (item, following) in pipeline.shared_edges:
            drawing.wire((24, box.bottom), (24, y))
        if following and not leading:
            events = total(lane["matched"] for lane in lanes if "matched" in lane.counts)
            text = f"{events.short} {'event' if events.value == 1 else 'events'}"
            drawing.label(34, box.bottom + 24, text, width - 36)
        if leading is None or any((item, source) in pipeline.shared_edges for source in sources):
            leading = box
    return leading


_SPINE = 200.0  # where wires branch off to the lanes
# Where components are, and how wide.
_COLUMNS = {
    "rule": (216.0, 172.0),
    "schedule": (214.0, 172.0),
    "queue": (400.0, 170.0),
    "function": (680.0, 160.0),
    "completions": (950.0, 169.0),
}
_END = 1119
_ROW_HEIGHT, _AXIS = 168, 66  # of a lane, and where its components' middle is


def wide(pipeline: Pipeline, lanes: Sequence[Lane], now: datetime) -> Drawing:
    """What stages share on the left, each lane in a row to the right of it."""
    has_shared = any(not isinstance(item, Queue) for item in pipeline.shared)
    shift = 0 if has_shared else -_SPINE
    drawing, shown = Drawing(1120 + shift), shown_lanes(lanes, MOST_LANES_WIDE)
    leading = _draw_shared(drawing, pipeline, lanes, 176)
    top = max(0.0, leading.middle - _AXIS) if leading and len(shown) == 1 else 0.0
    axes = []
    for place, lane in enumerate(shown):
        _draw_row(drawing, lane, top + place * _ROW_HEIGHT, shift, now)
        if "matched" in lane.counts:
            axes.append(top + place * _ROW_HEIGHT + _AXIS)
    if leading and axes:
        ends = sorted((*axes, leading.middle))
        drawing.wire((leading.right, leading.middle), (_SPINE, leading.middle), arrow=False)
        drawing.wire((_SPINE, ends[0]), (_SPINE, ends[-1]), arrow=False)
    return drawing


def _draw_row(drawing: Drawing, lane: Lane, top: float, shift: float, now: datetime) -> None:
    axis, left, end = top + _AXIS, _SPINE + 14 + shift, _END + shift
    title = drawing.label(left, top + 16, lane.name, 0.6 * (end - left), "title")
    if lane.prefix:
        drawing.label(left + title.width + 10, top + 16, lane.prefix, end - left - title.width - 10, "muted")
    below: dict[str, Box] = {}
    before: float | None = None
    for node in _nodes(lane, now):
        (x, width), bottom = _COLUMNS[node.kind], axis
        x += shift
        if not node.lines:
            before = _SPINE + shift
        else:
            if before is not None:
                _draw_edge(drawing, lane, node, before, x, axis)
            box = drawing.box(x, axis - _TALL / 2, width, _TALL, node.kind, node.lines)
            before, bottom = box.right, box.bottom
        if node.outcome:
            below[node.kind] = low = _outcome(drawing, lane, node, x, axis + _TALL / 2 + 18, width)
            drawing.wire((x + 20, bottom), (x + 20, low.y), tone=low.tone, dashed=True)
    if "queue" in below and "function" in below:
        dead, failed = below["queue"], below["function"]
        drawing.wire((failed.x, failed.middle), (dead.right, failed.middle), tone=failed.tone, dashed=True)
        drawing.label((failed.x + dead.right) / 2, failed.middle - 6, "after retries", 110, "muted", "middle")
    if (text := _without_function(lane)) and before:
        drawing.label(before + 14, axis + 4, text, end - before - 14, "muted")


def _draw_edge(drawing: Drawing, lane: Lane, node: _Node, start: float, end: float, axis: float) -> None:
    drawing.wire((start, axis), (end, axis))
    number, noun = node.way_in
    middle, room = (start + end) / 2 - 2, end - start - 8
    if noun == "matched":
        drawing.label(middle, axis - 7, f"{number} matched by rule", room, anchor="middle")
        if lane["undelivered"]:
            text = f"✗ {lane['undelivered'].short} undelivered"
            drawing.label(end - 12, axis + 17, text, room - 30, "bad", "end")
    elif noun:
        drawing.label(middle, axis - 7, number, room, anchor="middle")
        drawing.label(middle, axis + 17, noun, room, "muted", "middle")


def narrow(pipeline: Pipeline, lanes: Sequence[Lane], now: datetime) -> Drawing:
    """Everything from top to bottom, for a phone."""
    drawing, shown = Drawing(320), shown_lanes(lanes, MOST_LANES_NARROW)
    leading = _draw_shared(drawing, pipeline, lanes, 319)
    top = drawing.height + 16 if drawing.boxes else 0.0
    joined = []
    for lane in shown:
        if "matched" in lane.counts:
            joined.append(_below_titles(lane, top))
        top = _draw_column(drawing, lane, top, now)
    if leading and joined:
        drawing.wire((8, leading.bottom), (8, joined[-1]), arrow=False)
    return drawing


def _below_titles(lane: Lane, top: float) -> float:
    return top + (46 if lane.prefix else 26)


def _draw_column(drawing: Drawing, lane: Lane, top: float, now: datetime) -> float:
    """Components below each other, what failed to the right. Returns where the next lane may begin."""
    left, width, flow = 26.0, 293.0, 42.0
    drawing.label(left, top + 14, lane.name, width, "title")
    if lane.prefix:
        drawing.label(left, top + 31, lane.prefix, width, "muted")
    y, bottom, room = _below_titles(lane, top), 0.0, width - 28
    for node in _nodes(lane, now):
        if not node.lines:
            drawing.wire((8, y), (flow, y), arrow=False)
            bottom = y
        else:
            if bottom:
                drawing.wire((flow, bottom), (flow, y))
                drawing.label(flow + 8, (bottom + y) / 2 + 4, " ".join(node.way_in).strip(), room)
            if node.way_in[1] == "matched" and lane["undelivered"]:
                text = f"✗ {lane['undelivered'].short} undelivered"
                drawing.label(left + width, y - 5, text, width - 40, "bad", "end")
            box = drawing.box(left, y, width, 8 + LINE_HEIGHT * len(node.lines), node.kind, node.lines)
            bottom = box.bottom
        if node.outcome:
            wide_box = 165 if node.outcome[0] == "delivery_dlq" else 132
            room = width - wide_box - 28
            low = _outcome(drawing, lane, node, left + width - wide_box, bottom + 18, wide_box)
            corner = () if node.lines else ((flow, bottom),)
            drawing.wire(*corner, (low.x + 20, bottom), (low.x + 20, low.y), tone=low.tone, dashed=True)
        y = bottom + (_SMALL + 38 if node.outcome else 34)
    if text := _without_function(lane):
        drawing.label(left, y - 4, text, width, "muted")
        y += 10
    return y + 8
