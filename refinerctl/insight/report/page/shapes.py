"""What a drawing is made of, in pixels of its own; the templates turn it into SVG."""

from __future__ import annotations

from dataclasses import dataclass, field

from refinerctl.insight.report.page.text import BOLD, text_width

LINE_HEIGHT = 17
PADDING = 10
_HEAD = 7


@dataclass(frozen=True)
class Box:
    """A station. `tone`: bad, unknown, or nothing; `whole` is what the lines were cut from, if they were."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    lines: tuple[str, ...] = ()
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

    @property
    def baselines(self) -> tuple[float, ...]:
        """Of the title and the lines, centred as a block."""
        rows = 1 + len(self.lines)
        first = self.middle - rows * LINE_HEIGHT / 2 + LINE_HEIGHT - 4.5
        return tuple(round(first + row * LINE_HEIGHT, 1) for row in range(rows))


@dataclass(frozen=True)
class Wire:
    """A way that events or messages take, along `points`; an arrow is at its end if `is_arrow`."""

    points: tuple[tuple[float, float], ...]
    tone: str = ""
    is_dashed: bool = False
    is_arrow: bool = True

    @property
    def path(self) -> str:
        (x, y), *rest = self.points
        return f"M{x:g} {y:g}" + "".join(f"L{x:g} {y:g}" for x, y in rest)

    @property
    def head(self) -> str:
        """The arrow's outline."""
        (x0, y0), (x, y) = self.points[-2:]
        dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
        back_x, back_y, side = x - dx * _HEAD, y - dy * _HEAD, _HEAD / 2
        return (
            f"M{x:g} {y:g}L{back_x - dy * side:g} {back_y - dx * side:g}L{back_x + dy * side:g} {back_y + dx * side:g}Z"
        )


@dataclass(frozen=True)
class Label:
    """Text beside a wire or above a lane; `anchor` is SVG's text-anchor, `y` the baseline."""

    x: float
    y: float
    text: str
    kind: str = ""
    anchor: str = "start"
    whole: str = ""

    @property
    def width(self) -> float:
        """What it takes at most; a title is bold."""
        return text_width(self.text) * (BOLD if self.kind == "title" else 1)


@dataclass
class Drawing:
    """Everything in it, to be drawn in this order."""

    width: float
    height: float = 0
    wires: list[Wire] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def end(self) -> None:
        """As high as what is in it, with room for the lines' own width."""
        self.height = max(*(box.bottom for box in self.boxes), *(label.y + 3 for label in self.labels), 0) + 2
