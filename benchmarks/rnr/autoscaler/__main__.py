"""Compare the autoscaler with KEDA and target tracking over five simulated days.

PYTHONPATH=images python -m benchmarks.rnr.autoscaler [docs/autoscaler.svg]: prints the table, writes the plot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.rnr.autoscaler.load import day
from benchmarks.rnr.autoscaler.plot import svg
from benchmarks.rnr.autoscaler.policies import Autoscaler, Keda, Policy, TargetTracking
from benchmarks.rnr.autoscaler.simulation import Outcome, Simulation

SEEDS = range(1, 6)
POLICIES: tuple[tuple[str, Callable[[], Policy], bool], ...] = (
    ("autoscaler", Autoscaler, True),
    ("KEDA", Keda, False),
    ("KEDA, tasks protected", Keda, True),
    ("the same, cool-downs of 600 and 900 s", lambda: Keda(cooldown_s=900, window_s=600), True),
    ("target tracking", TargetTracking, False),
    ("target tracking, tasks protected", TargetTracking, True),
)
PLOTTED = ("autoscaler", "KEDA", "target tracking")
HEADINGS = (
    "per day",
    "reaction to a burst, median / longest",
    "from zero to work, median / longest",
    "changes / of direction / flaps",
    "scaled in below busy workers",
    "jobs killed / work lost",
    "wait for a task, 95 % / longest",
    "task-hours",
)


def row(name: str, outcomes: list[Outcome]) -> tuple[str, ...]:
    """Return the cells of a policy: of all days together, or as a mean per day."""
    days = len(outcomes)
    reactions = [value for outcome in outcomes for value in outcome.reactions]
    from_zero = [value for outcome in outcomes for value in outcome.from_zero]
    waits = sorted(value for outcome in outcomes for value in outcome.waits)
    changes = sum(len(outcome.changes) for outcome in outcomes) / days
    reversals, flaps = sum(o.reversals for o in outcomes) / days, sum(o.flaps() for o in outcomes) / days
    kills, lost = sum(o.kills for o in outcomes) / days, sum(o.lost_s for o in outcomes) / days / 60
    return (
        name,
        f"{median(reactions):.0f} s / {max(reactions)} s",
        f"{median(from_zero):.0f} s / {max(from_zero)} s",
        f"{changes:.0f} / {reversals:.0f} / {flaps:.1f}",
        f"{sum(o.below_busy for o in outcomes) / days:.1f}",
        f"{kills:.1f} / {lost:.0f} min",
        f"{waits[int(len(waits) * 0.95)] / 60:.0f} min / {waits[-1] / 60:.0f} min",
        f"{sum(o.task_s for o in outcomes) / days / 3600:.1f}",
    )


def main() -> None:
    """Print the table; write the plot of the first day to the path that is given."""
    rows, plotted = [HEADINGS], []
    for name, policy, protection in POLICIES:
        outcomes = [Simulation(policy(), day(seed), protection=protection, seed=seed).run() for seed in SEEDS]
        rows.append(row(name, outcomes))
        if name in PLOTTED:
            plotted.append((name, outcomes[0]))
    work = sum(sum(map(sum, day(seed).arrivals.values())) for seed in SEEDS) / len(SEEDS) / 3600
    columns = list(zip(*rows, strict=True))  # a line for each figure, a column for each policy
    for number, cells in enumerate(columns):
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            print("| --- " * len(cells) + "|")
    jobs = sum(len(found) for found in day(SEEDS[0]).arrivals.values())
    print(f"\n{jobs} jobs on the first day; {work:.1f} hours of work per day")
    for path in sys.argv[1:2]:
        Path(path).write_text(svg(day(SEEDS[0]), plotted), encoding="utf-8")


if __name__ == "__main__":
    main()
