"""What became of each input, from the logs of all processes, the bucket and the dead-letter queue."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.e2e.rnr_ledger.pipeline import COMPLETE, Pipeline


@dataclass
class Ledger:
    """Counts are by message id; results and rows by the input's name."""

    attempted: dict[str, str]  # message id → name
    claimed: Counter[str]
    confirmed: Counter[str]
    delivered: Counter[str]
    acknowledged: Counter[str]  # done or found done: an acknowledgement is sent after this line
    dead: Counter[str]
    results: set[str]
    merged: Counter[tuple[str, ...]]

    @property
    def lost(self) -> set[str]:
        """Inputs without a result that are not in the DLQ, either."""
        return set(self.attempted.values()) - self.results - {self.attempted.get(id_, id_) for id_ in self.dead}

    @property
    def doubled(self) -> set[tuple[str, ...]]:
        """Rows that are in merged files twice."""
        return {row for row, number in self.merged.items() if number > 1}

    def __str__(self) -> str:
        """The figures in one line: distinct inputs, and how often in all where this is more."""
        counts = {
            "claimed": self.claimed,
            "confirmed": self.confirmed,
            "delivered": self.delivered,
            "acknowledged": self.acknowledged,
            "dead-lettered": self.dead,
        }
        parts = [f"attempted {len(self.attempted)}"]
        for name, counter in counts.items():
            total = f" ({counter.total()} times)" if counter.total() > len(counter) else ""
            parts.append(f"{name} {len(counter)}{total}")
        parts += [f"results {len(self.results)}", f"merged {len({row[0] for row in self.merged})}"]
        return ", ".join([*parts, f"lost {len(self.lost)}", f"doubled {len(self.doubled)}"])


def read_ledger(pipeline: Pipeline) -> Ledger:
    """Return the ledger of a pipeline whose queue is empty."""

    def count(*messages: str) -> Counter[str]:
        return Counter(str(line.get("messageId")) for line in pipeline.lines(*messages))

    return Ledger(
        attempted={message.claim_id: name for name, message in pipeline.inputs.items()},
        claimed=count("record claimed") + Counter(pipeline.claimed_by_killed),
        confirmed=count("record published"),
        delivered=count("record received"),
        acknowledged=count("record done", "record ignored"),
        dead=pipeline.dead_letters(),
        results={key.removesuffix(".json") for key in pipeline.keys(COMPLETE)},
        merged=Counter(pipeline.merged_rows()),
    )
