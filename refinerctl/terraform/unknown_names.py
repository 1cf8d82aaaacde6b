"""Unknown variables and attributes in a tfvars file: Terraform ignores them, so a value with a typo has no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from refinerctl.errors import RefusedError, known_names
from refinerctl.terraform.hcl import HclFile, blocks_of, unwrapped

if TYPE_CHECKING:
    from lark import Tree

Shape: TypeAlias = Any
"""For an object the shapes of its attributes by name, for a collection `Elements`, for anything else None."""


@dataclass(frozen=True)
class Elements:
    """A map, list or set whose elements all have this shape."""

    shape: Shape


@dataclass(frozen=True)
class UnknownName:
    """A variable, or an attribute of an object within `path`, that the root module does not know."""

    file: Path
    line: int
    path: str
    name: str
    known: tuple[str, ...]

    @property
    def what(self) -> str:
        return "unknown attribute" if self.path else "unknown variable"

    @property
    def key(self) -> str:
        """Its name with the path to it."""
        return f"{self.path}.{self.name}" if self.path else self.name

    @property
    def question(self) -> str:
        """The most similar known name, if there is one."""
        near, question, _ = self.hint.partition("? ")
        return f" ({near}?)" if question else ""

    @property
    def hint(self) -> str:
        """The most similar known name, and all known names."""
        return known_names(self.name, self.known, "Attributes" if self.path else "Variables")


def unknown_names(values: Path, module: Path) -> Iterator[UnknownName]:
    """The names of a tfvars file that the root module does not know, in the order of the file.

    Raises RefinerctlError for files that cannot be parsed.
    """
    file = HclFile(values)
    shapes = _variables(module)
    for attribute in file.attributes(None):
        name = file.name_of(attribute)
        if name not in shapes:
            yield UnknownName(values, file.line_of(attribute), "", name, tuple(shapes))
        else:
            yield from _unknown_within(file, attribute.children[2], shapes[name], name)


def refuse_unknown_names(values: Path, module: Path) -> None:
    """Raises RefusedError, with all of them, if the root module does not know a name. The file need not exist."""
    found = list(unknown_names(values, module)) if values.is_file() else []
    if len(found) == 1:
        (one,) = found
        raise RefusedError(f"{values}:{one.line}: {one.what} {one.key}", hint=f"{one.hint} Terraform would ignore it.")
    if found:
        lines = [f"line {item.line}: {item.what} {item.key}{item.question}" for item in found]
        raise RefusedError(f"{values}: {'; '.join(lines)}", hint="Correct or remove them: Terraform would ignore them.")


def _variables(module: Path) -> Mapping[str, Shape]:
    """The shapes of a root module's variables, by name."""
    found: dict[str, Shape] = {}
    for file, block in blocks_of(module, "variable"):
        types = [attribute.children[2] for attribute in file.attributes(block) if file.name_of(attribute) == "type"]
        found[file.labels(block)[-1]] = _shape(file, types[0]) if types else None
    return found


def _shape(file: HclFile, term: Any) -> Shape:
    """https://developer.hashicorp.com/terraform/language/expressions/type-constraints"""
    tree = unwrapped(term)
    if getattr(tree, "data", None) != "function_call":
        return None
    kind, (argument, *_) = file.call_of(tree)
    if kind == "optional":
        return _shape(file, argument)
    if kind in ("map", "list", "set"):
        return Elements(_shape(file, argument))
    if kind == "object" and (attributes := unwrapped(argument)).data == "object":
        return {file.key_of(item): _shape(file, item.children[2]) for item in file.elements_of(attributes)}
    return None


def _unknown_within(file: HclFile, term: Tree[Any], shape: Shape, path: str) -> Iterator[UnknownName]:
    tree, kind = unwrapped(term), getattr(unwrapped(term), "data", None)
    if isinstance(shape, Elements) and kind == "tuple":
        for number, item in enumerate(file.items_of(tree)):
            yield from _unknown_within(file, item, shape.shape, f"{path}[{number}]")
    if kind != "object" or not isinstance(shape, Elements | dict):
        return
    for element in file.elements_of(tree):
        key = file.key_of(element)
        if isinstance(shape, Elements):
            yield from _unknown_within(file, element.children[2], shape.shape, f"{path}.{key}")
        elif key in shape:
            yield from _unknown_within(file, element.children[2], shape[key], f"{path}.{key}")
        else:
            yield UnknownName(file.path, file.line_of(element), path, key, tuple(shape))
