"""Draws the pipelines of the stacks, from what `refinerctl/stacks/` says they are: as Mermaid, and as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.sax.saxutils import escape

from refinerctl.insight.report.pipeline import shared_components
from refinerctl.stacks import find_stack
from refinerctl.stacks.base import Bucket, Component, Pipeline, Queue, Stage

# What names follow from in stack rnr; those of stack refiner have defaults.
VALUES: Mapping[str, Mapping[str, Any]] = {"rnr": {"app_name": "rnr", "env": "production"}}
KINDS = {
    "Bucket": "S3 bucket",
    "EventBus": "Event bus",
    "EventRule": "Event rule",
    "Schedule": "Schedule",
    "Queue": "SQS queue",
    "Function": "Lambda function",
    "Service": "ECS service",
    "Broker": "Amazon MQ broker",
    "Cache": "ElastiCache",
}
SHAPES = {"Bucket": "[({})]", "Queue": "[/{}/]", "Schedule": "([{}])", "EventBus": "{{{{{}}}}}"}
_STYLE = """text{font:13px system-ui,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:#1a2330}
.kind{font-size:11px;fill:#526070}.stage{font-weight:bold}.stage .kind{font-weight:normal}
.box{fill:#fff;stroke:#6b7a8a}.other{fill:none;stroke:#6b7a8a;stroke-dasharray:4 3}.dlq{fill:#fdeae8;stroke:#b0211a}
.wire{fill:none;stroke:#6b7a8a;stroke-width:1.5}.dead{stroke:#b0211a;stroke-dasharray:4 3}"""
WIDTH, HEIGHT, GAP, LEFT, TOP = 236, 44, 34, 24, 24
LANE, LANE_TOP, DLQ_TOP = 158, 44, 62
LONG_NAME = 30
_COLUMNS = 4


def pipeline_of(name: str) -> Pipeline:
    """The pipeline of a stack with its default settings."""
    stack = find_stack(name)
    assert stack.pipeline is not None, name  # noqa: S101 - each stack that is drawn has one
    return stack.pipeline(dict(stack.settings), VALUES.get(name, {}))


def kind(component: Component) -> str:
    if isinstance(component, Queue) and component.broker:
        return "RabbitMQ queue"
    return KINDS[type(component).__name__]


def _dlq(component: Component) -> Queue | None:
    return getattr(component, "dlq", None)


def mermaid(pipeline: Pipeline) -> str:
    """A flow chart of every component and edge, the components of a stage together."""
    ids = {component: f"c{number}" for number, component in enumerate(pipeline.components)}
    lines = ["flowchart LR"]
    lines += (f"  {_node(ids[item], item)}" for item in pipeline.shared)
    for number, stage in enumerate(pipeline.stages):
        lines.append(f'  subgraph s{number} ["{stage.name}"]')
        lines += (f"    {_node(ids[item], item)}" for item in stage.components if item not in pipeline.shared)
        lines.append("  end")
    dlqs = {_dlq(item) for item in pipeline.components}
    lines += (f"  {ids[a]} {'-.->' if b in dlqs else '-->'} {ids[b]}" for a, b in pipeline.edges)
    return "\n".join(lines)


def _node(identifier: str, component: Component) -> str:
    text = f'"{component.name}<br><small>{kind(component)}</small>"'
    return identifier + SHAPES.get(type(component).__name__, "[{}]").format(text)


@dataclass(frozen=True)
class Box:
    """A component at a place of the picture; `style` is `other` if it belongs to another stage or to all."""

    x: int
    y: int
    kind: str
    name: str
    style: str = "box"

    def __str__(self) -> str:
        # The reader's font is unknown: a long name must not be wider than its box.
        fit = f' textLength="{WIDTH - 20}" lengthAdjust="spacingAndGlyphs"' if len(self.name) > LONG_NAME else ""
        return (
            f'<rect class="{self.style}" x="{self.x}" y="{self.y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
            f'<text class="kind" x="{self.x + 10}" y="{self.y + 17}">{escape(self.kind)}</text>'
            f'<text x="{self.x + 10}" y="{self.y + 34}"{fit}>{escape(self.name)}</text>'
        )


def svg(pipeline: Pipeline, title: str) -> str:
    """A lane of boxes for each stage, below the shared components that lead to them; DLQs are below their sources."""
    top, body = _leading(pipeline)
    for number, stage in enumerate(sorted(pipeline.stages, key=lambda stage: stage.consumer is None)):
        body += _lane(pipeline, stage, top + number * LANE)
    width = 2 * LEFT + _COLUMNS * WIDTH + (_COLUMNS - 1) * GAP
    height = top + len(pipeline.stages) * LANE + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    arrow = '<path d="M0 0 8 4 0 8Z" fill="{}"/></marker>'
    marker = '<marker id="{}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return "\n".join(
        (
            head,
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f"<defs>{marker.format('to')}{arrow.format('#6b7a8a')}{marker.format('dead')}{arrow.format('#b0211a')}</defs>",
            f'<rect width="{width}" height="{height}" fill="#f4f6f8"/>',
            *body,
            "</svg>\n",
        )
    )


def _x(column: int) -> int:
    return LEFT + column * (WIDTH + GAP)


def _leading(pipeline: Pipeline) -> tuple[int, list[str]]:
    """Where the lanes begin, and what is above them: the shared components that lead to the stages."""
    leading = shared_components(pipeline)
    if not leading:
        return 0, []
    places = [Box(_x(column), TOP, *item) for column, item in enumerate(leading)]
    body = [str(box) for box in places]
    body += [_arrow(_x(column) + WIDTH, TOP + HEIGHT // 2, _x(column + 1)) for column in range(len(places) - 1)]
    by_name = {item.name: item for item in pipeline.shared}
    top = TOP + HEIGHT + 30
    for box in places:
        dlq = _dlq(by_name[box.name])
        if dlq is not None:
            body += _dead(box, Box(box.x, box.y + DLQ_TOP, "DLQ", dlq.name, "dlq"))
            top = TOP + DLQ_TOP + HEIGHT + 30
    middle = LANE_TOP + HEIGHT // 2
    last = top + (len(pipeline.stages) - 1) * LANE + middle
    x, side = LEFT - 12, places[-1].x + WIDTH // 2
    body.append(f'<path class="wire" d="M{side} {TOP + HEIGHT}V{top - 4}H{x}V{last}"/>')
    body += [_arrow(x, top + number * LANE + middle, LEFT) for number in range(len(pipeline.stages))]
    return top, body


def _lane(pipeline: Pipeline, stage: Stage, top: int) -> Iterator[str]:
    reads = (
        [item.name for item in pipeline.upstream_of(stage.consumer) if isinstance(item, Bucket)]
        if stage.consumer
        else []
    )
    notes = ([f"key prefix {stage.prefix}"] if stage.prefix else []) + [f"reads S3 bucket {name}" for name in reads]
    yield f'<text class="stage" x="{LEFT}" y="{top + 32}">{escape(stage.name)}'
    yield f'<tspan class="kind">{escape("".join(f" · {note}" for note in notes))}</tspan></text>'
    y = top + LANE_TOP
    own = [item for item in (stage.source, stage.queue, stage.consumer) if item is not None]
    columns = {item: _column(stage, item) for item in own}
    boxes = {item: Box(_x(column), y, kind(item), item.name) for item, column in columns.items()}
    others = _others(pipeline, stage, own, y)
    yield from map(str, (*boxes.values(), *others))
    row = sorted((*boxes.values(), *others), key=lambda box: box.x)
    yield from (_arrow(a.x + WIDTH, y + HEIGHT // 2, b.x) for a, b in pairwise(row))
    for item, box in boxes.items():
        dlq = _dlq(item)
        if dlq is not None:
            name = "DLQ of RabbitMQ" if dlq.broker else "DLQ"
            yield from _dead(box, Box(box.x, y + DLQ_TOP, name, dlq.name, "dlq"))


def _column(stage: Stage, component: Component) -> int:
    return 0 if component == stage.source else 1 if component == stage.queue else 2


def _others(pipeline: Pipeline, stage: Stage, own: Sequence[Component], y: int) -> list[Box]:
    """What is before and after the stage: as one box on each side of it."""
    found = []
    if stage.source is None:
        senders = [item for item in pipeline.upstream_of(own[0]) if item not in own]
        found += [Box(_x(0), y, kind(item), item.name, "other") for item in senders[:1]]
    dlqs = [_dlq(item) for item in own]
    targets = [item for item in pipeline.downstream_of(own[-1]) if item not in (*own, *dlqs)]
    if stage.writes:
        found.append(Box(_x(3), y, "S3 bucket", ", ".join(stage.writes), "other"))
    elif targets:
        found.append(Box(_x(3), y, kind(targets[-1]), targets[-1].name, "other"))
    elif stage.consumer is None:
        found.append(Box(_x(2), y, "Consumers", "downstream of this stack", "other"))
    return found


def _arrow(left: int, y: int, right: int) -> str:
    return f'<path class="wire" marker-end="url(#to)" d="M{left} {y}H{right}"/>'


def _dead(box: Box, dlq: Box) -> tuple[str, str]:
    path = f'<path class="wire dead" marker-end="url(#dead)" d="M{box.x + 20} {box.y + HEIGHT}V{dlq.y}"/>'
    return str(dlq), path
