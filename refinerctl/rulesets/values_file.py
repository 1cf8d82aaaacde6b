"""An environment's values for a stack: its rulesets, read and edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.rulesets.file_edit import FileEdit
from refinerctl.rulesets.hcl_edit import add_entry, remove_entry
from refinerctl.rulesets.model import StackValues, queue_for
from refinerctl.terraform.hcl import load_values, variable_defaults

_VARIABLE = "rulesets"


@dataclass(frozen=True)
class ValuesFile:
    """The file `path`, which need not exist, and the root module that it is for."""

    path: Path
    module: Path

    @classmethod
    def of(cls, project: Path, env: str, stack: str) -> ValuesFile:
        """In the folders of a project as docs/architecture.md has them."""
        terraform = project / "terraform"
        return cls(terraform / "environments" / env / f"{stack}.tfvars", terraform / "stacks" / stack)

    def read(self) -> StackValues:
        """Raises RefinerctlError, with the place, for what does not parse; UsageError for a stack without rulesets."""
        return StackValues.of(load_values(self.path, missing_ok=True), variable_defaults(self.module))

    def queue_for(self, prefix: str, name_prefix: str) -> str | None:
        """The queue of the ruleset whose objects those below `prefix` are; None if the file names none.

        The stack's defaults are not read, as their rulesets are called like their prefixes. What cannot be read
        names none, either.
        """
        try:
            return queue_for(prefix, load_values(self.path, missing_ok=True), name_prefix)
        except RefinerctlError:
            return None

    def add(self, name: str, entry: Mapping[str, Any]) -> FileEdit:
        """One ruleset more."""
        return add_entry(self.path, _VARIABLE, name, entry, self._defaults())

    def remove(self, name: str) -> FileEdit:
        """One ruleset less."""
        return remove_entry(self.path, _VARIABLE, name, self._defaults())

    def _defaults(self) -> Mapping[str, Any]:
        defaults: Mapping[str, Any] = variable_defaults(self.module)[_VARIABLE]
        return defaults
