"""Records `refinerctl demo` in a terminal, and draws the recording as an animated SVG: docs/demo.svg.

Run it as `make record`. It takes as long as the demo, so let the machine do nothing else. The picture plays the screen
several times faster, and then shows its last state for a while; a reader who prefers reduced motion sees only that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import pexpect
import pyte

COLUMNS, ROWS = 110, 24
FRAME_S = 1.5
SHOWN_S, LAST_SHOWN_S = 0.22, 12.0
TIMEOUT_S = 300
CELL, LINE, MARGIN, BAR = 8.43, 18, 14, 30
COLOURS = {
    "default": "#d5dbe2",
    "black": "#6b7a8a",
    "red": "#ff938a",
    "green": "#63d297",
    "brown": "#f2b45c",
    "blue": "#79b8ff",
    "magenta": "#d2a8ff",
    "cyan": "#6fd3e0",
    "white": "#f4f6f8",
}
_STYLE = (
    "text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;"
    "fill:{default}}}.b{{font-weight:bold}}{colours}#frames{{transform:translateX(-{last}px)}}"
    "@media(prefers-reduced-motion:no-preference){{#frames{{animation:play {seconds:.2f}s step-end infinite}}}}"
    "@keyframes play{{{keyframes}}}"
)


@dataclass(frozen=True)
class Run:
    """Neighbouring characters of a line with the same style."""

    column: int
    text: str
    colour: str
    is_bold: bool


Line = tuple[Run, ...]
Frame = tuple[Line, ...]


def record(command: Sequence[str], *, columns: int = COLUMNS, rows: int = ROWS) -> list[Frame]:
    """The states of a terminal's screen while `command` runs, each once. Raises RuntimeError if it fails."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.Stream(screen)
    stream.feed(f"$ {' '.join((Path(command[0]).name, *command[1:]))}\r\n")
    process = pexpect.spawn(command[0], list(command[1:]), dimensions=(rows, columns), encoding="utf-8")
    frames, ends, next_frame = [_frame(screen)], time.monotonic() + TIMEOUT_S, 0.0
    while time.monotonic() < ends:
        try:
            stream.feed(process.read_nonblocking(65536, timeout=1))
        except pexpect.TIMEOUT:
            continue
        except pexpect.EOF:
            break
        if time.monotonic() >= next_frame:
            frames.append(_frame(screen))
            next_frame = time.monotonic() + FRAME_S
    process.close()
    if process.exitstatus != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {process.exitstatus}\n" + "\n".join(screen.display))
    return [frame for frame, _ in groupby([*frames, _frame(screen)])]


def _frame(screen: pyte.Screen) -> Frame:
    return tuple(_line(screen, row) for row in range(screen.lines))


def _line(screen: pyte.Screen, row: int) -> Line:
    text = screen.display[row].rstrip()
    cells = [(column, screen.buffer[row][column]) for column in range(len(text))]
    runs = groupby(cells, key=lambda cell: (cell[1].fg, cell[1].bold))
    found = ((style, list(group)) for style, group in runs)
    return tuple(
        Run(group[0][0], "".join(char.data for _, char in group), style[0], style[1])
        for style, group in found
        if any(char.data.strip() for _, char in group)
    )


def draw(frames: Sequence[Frame], title: str) -> str:
    """An SVG that plays the frames beside each other, one at a time; each line is in it once."""
    lines = {
        line: f"l{number}" for number, line in enumerate(dict.fromkeys(line for frame in frames for line in frame))
    }
    width, height = round(COLUMNS * CELL + 2 * MARGIN), BAR + max(map(len, frames)) * LINE + MARGIN
    seconds = (len(frames) - 1) * SHOWN_S + LAST_SHOWN_S
    keyframes = "".join(
        f"{number * SHOWN_S / seconds:.2%}{{transform:translateX(-{number * width}px)}}"
        for number in range(len(frames))
    )
    colours = "".join(f".{name}{{fill:{colour}}}" for name, colour in COLOURS.items() if name != "default")
    style = _STYLE.format(
        default=COLOURS["default"],
        colours=colours,
        last=(len(frames) - 1) * width,
        seconds=seconds,
        keyframes=keyframes,
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style>",
        "<defs>",
        *(f'<g id="{name}">{"".join(map(_text, line))}</g>' for line, name in lines.items() if line),
        "</defs>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#171e26"/>',
        *(f'<circle cx="{18 + 18 * n}" cy="16" r="5" fill="#3d4a58"/>' for n in range(3)),
        '<g id="frames">',
        *(_drawn(frame, number * width, lines) for number, frame in enumerate(frames)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(run: Run) -> str:
    names = [run.colour] if run.colour in COLOURS and run.colour != "default" else []
    names += ["b"] if run.is_bold else []
    style = f' class="{" ".join(names)}"' if names else ""
    length = f' textLength="{len(run.text) * CELL:.1f}"' if len(run.text) > 1 else ""
    return f'<text x="{run.column * CELL:.1f}"{length}{style}>{escape(run.text)}</text>'


def _drawn(frame: Frame, left: int, lines: dict[Line, str]) -> str:
    used = "".join(
        f'<use href="#{lines[line]}" y="{BAR + (row + 1) * LINE - 4}"/>' for row, line in enumerate(frame) if line
    )
    return f'<g transform="translate({left + MARGIN})">{used}</g>'


def _shown(lines: Frame) -> Iterator[str]:
    for line in lines:
        yield " ".join(run.text for run in line)


def main() -> None:
    refinerctl = Path(sys.executable).with_name("refinerctl")
    frames = record([str(refinerctl), "demo"])
    picture = Path(__file__).with_name("demo.svg")
    picture.write_text(draw(frames, "Recording of `refinerctl demo` in a terminal"), encoding="utf-8")
    print(f"{picture.name} written: {len(frames)} frames, {picture.stat().st_size / 1000:.0f} kB; it ends with")
    print("\n".join(_shown(frames[-1])))


if __name__ == "__main__":
    main()
