"""Where every message of a redrive is, by the id that its body holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.sqs.server import SqsServer


@dataclass(frozen=True)
class Account:
    """How often each id is in the target, and how often still in the dead-letter queue."""

    target: Counter[int]
    dead: Counter[int]

    def missing(self, ids: Iterable[int]) -> set[int]:
        """Those that are nowhere."""
        return set(ids) - set(self.target) - set(self.dead)

    @property
    def twice(self) -> int:
        """Copies beyond the one that there should be of each."""
        return (self.target + self.dead).total() - len(self.target + self.dead)


def account(server: SqsServer, target: str, dead: str) -> Account:
    """What is in these queues, in whatever state."""
    return Account(*(Counter(json.loads(body)["id"] for body in server.bodies(name)) for name in (target, dead)))
