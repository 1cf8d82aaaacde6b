"""What a redrive has come to: one line, or one JSON document, and what is left to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refinerctl.dlq.redrive.command_errors import SameErrors, sentence
from refinerctl.dlq.redrive.command_view import messages, moved_json, summary
from refinerctl.errors import RefinerctlError, TimedOutError

if TYPE_CHECKING:
    from refinerctl.console import Renderer
    from refinerctl.dlq.redrive.journal import RedriveJournal
    from refinerctl.dlq.redrive.types import Moved, RedrivePlan

MAX_REASONS = 5


@dataclass
class Report:
    """Filled in as the run goes on. `came_back` None: nobody has watched; `is_settled`: all was processed meanwhile.

    `was_all_meant`: there was no limit, and nothing but a filter kept messages from being sent.
    """

    render: Renderer
    plan: RedrivePlan
    moved: Moved
    journal: RedriveJournal | None = None
    came_back: int | None = None
    same: SameErrors | None = None
    is_settled: bool = True
    was_all_meant: bool = True

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to resume. Without a journal only what stopped the run could tell."""
        return self.moved.stopped_by is None if self.journal is None else self.journal.is_finished

    @property
    def run(self) -> str | None:
        return None if self.journal is None else self.journal.path.stem

    def finish(self) -> None:
        """Show it, and raise what it means: what stopped the run, else RefinerctlError if something went wrong."""
        self.show()
        moved, name = self.moved, self.plan.origin.queue.name
        if not self.is_finished and self.run is not None:
            if moved.stopped_by is None:
                self.render.warning(f"some of what was sent may still be in {name}: its deletion is in doubt")
            self.render.note("--resume continues this run")
        if moved.stopped_by is not None:
            raise moved.stopped_by
        again = sentence(self.came_back, moved.moved, self.same) if self.came_back else None
        if again is not None and (moved.failed or moved.dropped_duplicates):
            self.render.warning(again)
        if moved.failed:
            raise RefinerctlError(
                f"{messages(moved.failed)} could not be sent, and {_are(moved.failed)} still in {name}"
            )
        if moved.dropped_duplicates:
            raise RefinerctlError(
                f"{messages(moved.dropped_duplicates)} would have been dropped as duplicates, and "
                f"{_are(moved.dropped_duplicates)} still in {name}",
                hint="A FIFO queue drops what has the same deduplication id within five minutes: run this again then.",
            )
        if again is not None:
            raise RefinerctlError(again)
        if not self.is_settled:
            raise TimedOutError("not all that was sent was processed in time", hint="`dlq list` shows what comes back.")

    def show(self) -> None:
        moved = self.moved
        ordered = sorted(moved.reasons.items(), key=lambda item: -item[1])
        for reason, count in ordered[:MAX_REASONS]:
            self.render.warning(f"{messages(count)} left: {reason}")
        if len(ordered) > MAX_REASONS:
            self.render.warning(f"{len(ordered) - MAX_REASONS} more reasons")
        if moved.returned and self.came_back is None:
            self.render.warning(f"{sentence(moved.returned, moved.moved, None)} while the others were being sent")
        others = (moved.left or 0) - moved.skipped - moved.failed - moved.dropped_duplicates - moved.returned
        if others > 0 and self.was_all_meant and moved.stopped_by is None and not self.came_back:
            self.render.warning(f"{messages(others)} more left: in other hands, or dead since this began")
        if self.render.is_json:
            self.render.json(moved_json(moved, self.came_back, self.same, self.run, is_finished=self.is_finished))
        else:
            self.render.line(summary(moved, self.came_back))


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
