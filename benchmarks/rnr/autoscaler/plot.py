"""The plot of docs/: work that arrives, and the number of tasks of each policy, over a day."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.rnr.autoscaler.load import DAY, HOUR, MINUTE, Load
from benchmarks.rnr.autoscaler.simulation import STEP, Outcome

WIDTH, LEFT, TOP, HEIGHT, GAP = 960, 56, 34, 96, 42
PLOT = WIDTH - LEFT - 12
STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.axis{stroke:#999;stroke-width:1}.grid{stroke:#ddd}"
    ".backlog{fill:#9ec5e8}.busy{fill:#b7dfb0}.desired{fill:none;stroke:#b3261e;stroke-width:1.2}.failed{fill:#f0d060;opacity:.7}"
)


def svg(load: Load, outcomes: Sequence[tuple[str, Outcome]]) -> str:
    """Return the document: a panel for the backlog of the first outcome, then one for the tasks of each."""
    first = outcomes[0][1]
    backlog = [(sample.at, sample.backlog) for sample in first.samples]
    panels = [_panel(0, f"Backlog ({outcomes[0][0]}), yellow: readings fail", 150, [("backlog", backlog)], load)]
    for number, (name, outcome) in enumerate(outcomes, 1):
        busy = [(sample.at, sample.busy) for sample in outcome.samples]
        desired = [(sample.at, sample.desired) for sample in outcome.samples]
        panels.append(
            _panel(
                number, f"{name}: desired tasks (line), busy tasks (area)", 12, [("busy", busy), ("desired", desired)]
            )
        )
    height = TOP + len(panels) * (HEIGHT + GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
    title = "<title>A simulated day: backlog, and tasks by policy</title>"
    return "\n".join(
        [
            head,
            title,
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            *panels,
            "</svg>\n",
        ]
    )


def _panel(
    number: int, title: str, top: int, curves: list[tuple[str, list[tuple[int, int]]]], load: Load | None = None
) -> str:
    floor = TOP + number * (HEIGHT + GAP) + HEIGHT
    parts = [f'<text class="title" x="{LEFT}" y="{floor - HEIGHT - 8}">{title}</text>']
    for value in (0, top // 2, top):
        y = floor - HEIGHT * value / top
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{value}</text>')
    parts += [
        f'<rect class="failed" x="{_x(minute * MINUTE):.1f}" y="{floor - HEIGHT}" width="1" height="{HEIGHT}"/>'
        for minute in (sorted(load.failures) if load else ())
    ]
    parts += [_curve(name, points, floor, top) for name, points in curves]
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{floor}" y2="{floor}"/>')
    parts += [
        f'<text text-anchor="middle" x="{_x(hour * HOUR):.1f}" y="{floor + 15}">{hour:02d}:00</text>'
        for hour in range(0, 24, 3)
    ]
    return "\n".join(parts)


def _curve(name: str, points: list[tuple[int, int]], floor: int, top: int) -> str:
    """Return a stepped path with a point for each change, one sample a minute."""
    path, before = [f"M{LEFT} {floor}"], 0
    for at, value in points[:: MINUTE // STEP]:
        if at >= DAY:
            break
        if value != before:
            path.append(f"H{_x(at):.1f}V{floor - HEIGHT * min(value, top) / top:.1f}")
            before = value
    path.append(f"H{LEFT + PLOT}" + ("" if name == "desired" else f"V{floor}"))
    return f'<path class="{name}" d="{"".join(path)}"/>'


def _x(at: int) -> float:
    return LEFT + PLOT * at / DAY
