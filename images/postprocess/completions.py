"""What a completion says about its outputs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


class BadFileError(ValueError):
    """A completion or an output that cannot be merged; its text says why."""


@dataclass(frozen=True)
class Output:
    """An output object in the version that the completion names; `etag` has no quotation marks."""

    key: str
    etag: str

    @property
    def id(self) -> str:
        """What the state remembers of a merged output."""
        return short_hash(f"{self.key}@{self.etag}")


def short_hash(text: str) -> str:
    """Return 64 bits as text. They are compared with the one value that is stored under the same name only."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def outputs_of(body: bytes, output_prefix: str) -> tuple[Output, ...]:
    """Return the CSV outputs of a completion, none unless its status is completed; raises BadFileError."""
    try:
        found = json.loads(body)
        if found["status"] != "completed":
            return ()
        outputs = [Output(_text(output["key"]), _text(output["etag"]).strip('"')) for output in found["outputs"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFileError(f"not a completion: {error!r}") from None
    for output in outputs:
        if not output.key.startswith(output_prefix):
            raise BadFileError(f"output {output.key} is not below {output_prefix}")
    csv = {output.key: output for output in outputs if output.key.lower().endswith(".csv")}
    return tuple(csv.values())


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a text")
    return value
