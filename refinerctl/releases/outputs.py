"""A stack's outputs."""

from __future__ import annotations

from refinerctl.errors import NotFoundError
from refinerctl.releases.model import StackOutput
from refinerctl.terraform.stack import Stack


def read_outputs(stack: Stack, name: str | None = None) -> tuple[StackOutput, ...]:
    """All outputs by name, or the one called `name`. Raises NotFoundError without it."""
    stack.init()
    found = tuple(
        StackOutput(key, output["value"], bool(output.get("sensitive")))
        for key, output in sorted(stack.terraform.outputs().items())
    )
    if name is None:
        return found
    chosen = tuple(output for output in found if output.name == name)
    if not chosen:
        hint = f"It has: {', '.join(output.name for output in found)}." if found else "Nothing is deployed."
        raise NotFoundError(f"stack {stack.name} has no output {name!r}", hint=hint)
    return chosen
