"""Routing of a hydrograph through a river reach: the bundled processor.

Muskingum, and Muskingum-Cunge with constant parameters. The input is CSV: parameters in lines that begin with `#`,
then the columns `time` (hours, or ISO 8601) and `inflow`. The output is `routed.csv` with time, inflow, outflow.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MAX_ERRORS = 20
_EVEN = 1e-6  # by how much of itself an interval may differ from the first


class InvalidHydrographError(ValueError):
    """An input that cannot be routed; the message names each invalid line."""


@dataclass(frozen=True)
class Row:
    """One line of the input: its time as it was written, and in hours."""

    line: int
    time: str
    hours: float
    inflow: float


def process(input_file: Path, output_folder: Path) -> None:
    """Route the hydrograph of `input_file`, write `routed.csv`. Raises `InvalidHydrographError`."""
    parameters, rows = read_hydrograph(input_file)
    step_hours = rows[1].hours - rows[0].hours
    k_hours, x = reach(parameters)
    outflows = route([row.inflow for row in rows], k_hours, x, step_hours, parameters.get("initial_outflow"))
    with (output_folder / "routed.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["time", "inflow", "outflow"])
        for row, outflow in zip(rows, outflows, strict=True):
            table.writerow([row.time, f"{row.inflow:.3f}", f"{outflow:.3f}"])


def coefficients(k_hours: float, x: float, step_hours: float) -> tuple[float, float, float]:
    """Return C1, C2, C3 of Muskingum's equation (Chow, Maidment, Mays: Applied Hydrology, 1988, section 8.4).

    Raises `InvalidHydrographError` if the step is so long or short for the reach that a coefficient would be negative:
    the outflow would oscillate or begin below zero.
    """
    shortest, longest = 2 * k_hours * x, 2 * k_hours * (1 - x)
    tolerance = _EVEN * longest
    if not shortest - tolerance <= step_hours <= longest + tolerance:
        raise InvalidHydrographError(
            f"the time step is {step_hours:g} h; with K = {k_hours:.4g} h and X = {x:.4g} it must be "
            f"from {shortest:.4g} h (2KX) to {longest:.4g} h (2K(1-X))"
        )
    divisor = longest + step_hours
    return (step_hours - shortest) / divisor, (step_hours + shortest) / divisor, (longest - step_hours) / divisor


def route(
    inflows: Sequence[float], k_hours: float, x: float, step_hours: float, initial_outflow: float | None = None
) -> list[float]:
    """Return the outflow of the reach for each inflow; the first is the first inflow unless it is given."""
    c1, c2, c3 = coefficients(k_hours, x, step_hours)
    outflows = [inflows[0] if initial_outflow is None else initial_outflow]
    for before, now in itertools.pairwise(inflows):
        outflows.append(c1 * now + c2 * before + c3 * outflows[-1])
    return outflows


def muskingum_cunge(
    length_m: float, slope: float, flow: float, area_m2: float, top_width_m: float, beta: float
) -> tuple[float, float]:
    """Return K (hours) and X of a reach from its channel at a reference flow (m3/s).

    Cunge 1969, as in Ponce: Engineering Hydrology, 1989, section 9.4: celerity c = beta Q/A, K = length/c,
    X = (1 - (Q/T) / (slope c length)) / 2.
    """
    celerity = beta * flow / area_m2
    return length_m / celerity / 3600, (1 - flow / top_width_m / (slope * celerity * length_m)) / 2


def reach(parameters: dict[str, float]) -> tuple[float, float]:
    """Return K (hours) and X: given, or computed from the channel if `length_m` is given."""
    if "length_m" in parameters:
        names = ("length_m", "slope", "reference_flow", "area_m2", "top_width_m")
        _require(parameters, names)
        length_m, slope, flow, area_m2, top_width_m = (parameters[name] for name in names)
        k_hours, x = muskingum_cunge(length_m, slope, flow, area_m2, top_width_m, parameters.get("beta", 5 / 3))
    else:
        _require(parameters, ("k_hours", "x"))
        k_hours, x = parameters["k_hours"], parameters["x"]
    if not (k_hours > 0 and x <= 0.5):
        raise InvalidHydrographError(f"K = {k_hours:g} h and X = {x:g}: K must be above 0 and X at most 0.5")
    return k_hours, x


_POSITIVE = {"k_hours", "length_m", "slope", "reference_flow", "area_m2", "top_width_m", "beta"}
_PARAMETERS = _POSITIVE | {"x", "initial_outflow"}


def _require(parameters: dict[str, float], names: Iterable[str]) -> None:
    missing = [name for name in names if name not in parameters]
    if missing:
        raise InvalidHydrographError(f"missing parameters: {', '.join(missing)} (lines like `# {missing[0]} = 1`)")


def read_hydrograph(path: Path) -> tuple[dict[str, float], list[Row]]:
    """Return the parameters and at least two rows of equal time steps. Raises `InvalidHydrographError`."""
    errors: list[str] = []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidHydrographError(f"the file is not UTF-8: {error}") from None
    parameters = dict(_checked(_parameter, _numbered(lines, comments=True), errors))
    table = list(_numbered(lines, comments=False))
    if not table or [name.strip() for name in table[0][1].split(",")] != ["time", "inflow"]:
        at = f"line {table[0][0]}" if table else "the file"
        raise InvalidHydrographError(f"{at}: the header must be `time,inflow`")
    rows = list(_checked(_row, table[1:], errors))
    if not errors:
        errors.extend(_uneven(rows))
    if errors:
        more = [f"… {len(errors) - MAX_ERRORS} more"] if len(errors) > MAX_ERRORS else []
        raise InvalidHydrographError("\n".join(errors[:MAX_ERRORS] + more))
    if len(rows) < 2:
        raise InvalidHydrographError(f"{len(rows)} rows: at least 2 are necessary")
    return parameters, rows


def _numbered(lines: list[str], *, comments: bool) -> list[tuple[int, str]]:
    numbered = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [(number, line) for number, line in numbered if line and line.startswith("#") == comments]


def _checked(parse: Callable[[int, str], T], lines: Iterable[tuple[int, str]], errors: list[str]) -> list[T]:
    parsed: list[T] = []
    for number, line in lines:
        try:
            value = parse(number, line)
        except ValueError as error:
            errors.append(f"line {number}: {error}")
        else:
            parsed.append(value)
    return parsed


def _parameter(_: int, line: str) -> tuple[str, float]:
    name, equals, value = line.lstrip("# ").partition("=")
    name = name.strip()
    if not equals or name not in _PARAMETERS:
        raise ValueError(f"{line[:60]!r} is not `# NAME = NUMBER` with one of {', '.join(sorted(_PARAMETERS))}")
    number = _number(name, value)
    if (name in _POSITIVE and number <= 0) or (name == "initial_outflow" and number < 0):
        raise ValueError(f"{name} = {number:g} is not positive")
    return name, number


def _row(line: int, text: str) -> Row:
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) != 2:
        raise ValueError(f"{len(cells)} columns instead of 2")
    inflow = _number("inflow", cells[1])
    if inflow < 0:
        raise ValueError(f"inflow {inflow:g} is negative")
    return Row(line, cells[0], _hours(cells[0]), inflow)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} {text.strip()[:60]!r} is not a number")
    return number


def _hours(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(hours := float(text)):
            return hours
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time {text[:60]!r} is neither hours nor ISO 8601") from None
    return at.replace(tzinfo=at.tzinfo or UTC).timestamp() / 3600


def _uneven(rows: list[Row]) -> Iterable[str]:
    """Yield what is wrong with the times: a step that is not positive, or not as long as the first."""
    steps = [(row, row.hours - before.hours) for before, row in itertools.pairwise(rows)]
    for row, hours in steps:
        if not hours > 0:
            yield f"line {row.line}: time {row.time} is not after the time before it"
        elif abs(hours - steps[0][1]) > _EVEN * max(steps[0][1], 1):
            yield f"line {row.line}: time {row.time} is {hours:g} h after the time before it, not {steps[0][1]:g} h"
