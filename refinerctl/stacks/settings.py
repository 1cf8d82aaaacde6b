"""Where a stack keeps things."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.keys import MAX_KEY_BYTES


@dataclass(frozen=True)
class Pipeline:
    """Where a stack keeps things in its bucket. Prefixes have no leading slash and end in one."""

    bucket: str = "data-repository"
    input_prefix: str = "RefinerInput/"
    output_prefix: str = "RefinerOutput/"
    complete_prefix: str = "RefinerComplete/"
    name_prefix: str = "dibbs-ecr"
    bus_name: str = "data-repository-bus"

    def completion_keys(self, input_key: str, input_prefix: str | None = None) -> tuple[str, ...]:
        """The keys under which the completion of `input_key` may appear, the likelier first.

        This repository's image appends `.json`; the production refiner does not. Keys that S3 cannot take are left out.
        """
        below = self._below_input_prefix(input_key, input_prefix)
        candidates = (f"{self.complete_prefix}{below}.json", f"{self.complete_prefix}{below}")
        return tuple(key for key in candidates if len(key.encode()) <= MAX_KEY_BYTES)

    def _below_input_prefix(self, input_key: str, input_prefix: str | None) -> str:
        prefix = input_prefix or self.input_prefix
        if input_key.startswith(prefix):
            return input_key.removeprefix(prefix)
        # Another ruleset's input: its prefix is the first part, as the image has it by default.
        return input_key.partition("/")[2] or input_key

    def queue_name(self, prefix: str) -> str:
        """The queue of the ruleset that handles `prefix`, if the ruleset is called like its prefix."""
        return f"{self.name_prefix}-{prefix.rstrip('/').replace('/', '-')}"
