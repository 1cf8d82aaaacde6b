"""Reads HCL as Terraform does: tfvars files, defaults of variables, the backend block.

python-hcl2 parses; the values of strings, heredocs and numbers are read here, after
https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md, because python-hcl2 returns them as they are written.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from refinerctl.config import check_root_module
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.parallel import attempt
from refinerctl.terraform.hcl_mask import masked

if TYPE_CHECKING:
    from lark import Token, Tree

# To parse this much takes some seconds, whatever it is.
MAX_CHARACTERS = 262_144
# A larger exponent is a mistake, or an attempt to exhaust the memory.
MAX_EXPONENT = 500

_ESCAPE = re.compile(r'\\(?:([nrt"\\])|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_IGNORED = {"new_line_or_comment"}


def load_values(path: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    """The variables of a `.tfvars` file: str, int, float, bool, None, list and dict by name.

    Raises NotFoundError if the file does not exist (`missing_ok`: returns no variables), RefinerctlError with line and
    column for a file that does not parse or has values other than literals.
    """
    if missing_ok and not path.exists():
        return {}
    return HclFile(path).variables()


def variable_defaults(module: Path) -> dict[str, Any]:
    """The defaults of a root module's variables, by name; without variables that have none."""
    return declared_variables(module)[1]


def declared_variables(module: Path) -> tuple[frozenset[str], dict[str, Any]]:
    """The names of a root module's variables, and the defaults of those that have one."""
    names, defaults = set(), {}
    for file, block in blocks_of(module, "variable"):
        name = file.labels(block)[-1]
        names.add(name)
        for attribute in file.attributes(block):
            if file.name_of(attribute) == "default":
                defaults[name] = file.value_of(attribute, f"the default of variable {name}")
    return frozenset(names), defaults


def backend_block(module: Path) -> dict[str, Any]:
    """The arguments of the backend that a root module declares; empty without one."""
    found: dict[str, Any] = {}
    for file, block in blocks_of(module, "terraform"):
        for inner in file.blocks(block, "backend"):
            for attribute in file.attributes(inner):
                name = file.name_of(attribute)
                found[name] = file.value_of(attribute, f"the backend's {name}")
    return found


def blocks_of(module: Path, kind: str) -> Iterator[tuple[HclFile, Tree[Any]]]:
    """All blocks of a kind; those of override files last, because they take precedence.

    Of files in JSON syntax only blocks `variable` are read.
    """
    check_root_module(module)
    paths = [*module.glob("*.tf"), *(module.glob("*.tf.json") if kind == "variable" else ())]
    for path in sorted(paths, key=lambda path: (path.name.partition(".tf")[0].endswith("override"), path.name)):
        text = _text(path)
        if path.suffix == ".json":
            text = _variables_in_hcl(path, text)
        # Parsing takes far longer than searching, and most files have no such block.
        if re.search(rf"^[ \t]*{kind}\b", text, re.MULTILINE):
            file = HclFile(path, text)
            for block in file.blocks(None, kind):
                yield file, block


@lru_cache(maxsize=64)
def _variables_in_hcl(path: Path, text: str) -> str:
    """The variables of a `.tf.json` file, with their types and defaults.

    https://developer.hashicorp.com/terraform/language/syntax/json
    """
    try:
        root = json.loads(text)
    except json.JSONDecodeError as error:
        raise RefinerctlError(f"{path}:{error.lineno}:{error.colno}: invalid JSON") from None
    except RecursionError:
        raise RefinerctlError(f"{path} is nested too deeply") from None
    lines: list[str] = []
    for block in (block for part in _objects(root) for block in _objects(part.get("variable"))):
        for name, body in ((name, body) for name, bodies in block.items() for body in _objects(bodies)):
            lines.append(f"variable {json.dumps(name)} {{")
            kind = body.get("type")
            if isinstance(kind, str) and attempt(partial(HclFile, path, f"type = {kind}\n")).error is None:
                lines.append(f"type = {kind}")
            if "default" in body:
                default = json.dumps(body["default"], ensure_ascii=False)
                default = re.sub(r"[$%](?={)", r"\g<0>\g<0>", default)  # it is no template in JSON syntax
                lines.append(f"default = {default}")
            lines.append("}\n")
    return "\n".join(lines)


def _objects(value: Any) -> list[dict[str, Any]]:
    """An object may stand for a list with one."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


@lru_cache(maxsize=64)
def _tree(text: str) -> Tree[Any]:
    """Parsed text, cached: a command reads a module several times, and parsing takes some tenths of a second."""
    import hcl2

    return cast("Tree[Any]", hcl2.parses_to_tree(text).children[0])


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise RefinerctlError(f"{path} is not UTF-8") from None


class _NotLiteralError(RefinerctlError):
    """An expression that only Terraform can evaluate, or an invalid literal."""


class HclFile:
    """A parsed file, or parsed `text` as its content.

    Positions are offsets in `text`; they are the same in `masked`, in which comments and plain strings are blanked.
    Raises RefinerctlError for more than MAX_CHARACTERS, with line and column for invalid HCL.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self.text = _text(path) if text is None else text
        if len(self.text) > MAX_CHARACTERS:
            size = f"{len(self.text):,} characters, more than {MAX_CHARACTERS:,}"
            raise RefinerctlError(f"{path} is too large: {size}", hint="Move a part of it to another file.")
        self.masked = masked(self.text)
        self._body = self._parse()

    def variables(self) -> dict[str, Any]:
        """All attributes by name, as plain values. Raises RefinerctlError for anything else."""
        found: dict[str, Any] = {}
        for child in self.children():
            if child.data == "block":
                raise self.error(child, "a tfvars file has no blocks")
            name = self.name_of(child)
            if name in found:
                raise self.error(child, f"variable {name} is set twice")
            found[name] = self.value_of(child, f"variable {name}")
        return found

    def map_of(self, attribute: Tree[Any]) -> Tree[Any]:
        """The map that an attribute is set to. Raises RefinerctlError for anything but `{ … }`."""
        term = unwrapped(attribute.children[2])
        if getattr(term, "data", None) != "object":
            raise self.error(attribute, f"{self.name_of(attribute)} is not a map in braces")
        return cast("Tree[Any]", term)

    def key_of(self, element: Tree[Any]) -> str:
        """The key of a map's element."""
        return self._key(element.children[0].children[0])

    def elements_of(self, tree: Tree[Any]) -> Iterator[Tree[Any]]:
        """The elements of a map or an object."""
        return _trees(tree, "object_elem")

    def items_of(self, tree: Tree[Any]) -> Iterator[Tree[Any]]:
        """The items of a list."""
        return (part for part in _meaningful(tree) if hasattr(part, "data"))

    def call_of(self, tree: Tree[Any]) -> tuple[str, list[Tree[Any]]]:
        """The name of a function that is called, and its arguments."""
        arguments = next(_trees(tree, "arguments"), None)
        return self._word(tree.children[0]), list(self.items_of(arguments)) if arguments is not None else []

    def _parse(self) -> Tree[Any]:
        from lark.exceptions import LarkError

        try:
            return _tree(self.masked)
        except LarkError as error:
            # The error itself contains the text, which may be secret.
            raise self._invalid(getattr(error, "pos_in_stream", None)) from None
        except RecursionError:
            raise RefinerctlError(f"{self.path} is nested too deeply") from None

    def _invalid(self, at: int | None) -> RefinerctlError:
        if at is not None:  # otherwise the file is incomplete
            at += len(self.text[at:]) - len(self.text[at:].lstrip(" \t"))
        before = self.text[:at]
        line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
        return RefinerctlError(f"{self.path}:{line}:{column}: invalid HCL", hint="Run `terraform fmt` for details.")

    def children(self, block: Tree[Any] | None = None) -> Iterator[Tree[Any]]:
        body = self._body if block is None else next(_trees(block, "body"))
        yield from _trees(body, "attribute", "block")

    def attributes(self, block: Tree[Any] | None) -> Iterator[Tree[Any]]:
        return (child for child in self.children(block) if child.data == "attribute")

    def blocks(self, block: Tree[Any] | None, kind: str) -> Iterator[Tree[Any]]:
        return (child for child in self.children(block) if child.data == "block" and self.labels(child)[0] == kind)

    def labels(self, block: Tree[Any]) -> list[str]:
        """The block's type and its labels."""
        parts = _trees(block, "identifier", "keyword", "literal_value", "string")
        return [self._string(part) if part.data == "string" else self._word(part) for part in parts]

    def name_of(self, attribute: Tree[Any]) -> str:
        return self._word(attribute.children[0])

    def _word(self, tree: Tree[Any]) -> str:
        token = cast("Token", tree.children[0])
        return unicodedata.normalize("NFC", self.text[token.start_pos : token.end_pos])

    def value_of(self, attribute: Tree[Any], what: str) -> Any:
        """The value of an attribute; `what` names it in the error if it is not a literal."""
        try:
            return self._value(attribute.children[2])
        except _NotLiteralError as error:
            raise self.error(attribute, f"{what} is not a literal: {error.message}") from None
        except RecursionError:
            raise self.error(attribute, f"{what} is nested too deeply") from None

    def line_of(self, tree: Tree[Any]) -> int:
        return self.text.count("\n", 0, tree.meta.start_pos) + 1

    def error(self, tree: Tree[Any], message: str) -> RefinerctlError:
        return RefinerctlError(f"{self.path}:{self.line_of(tree)}: {message}")

    def _value(self, tree: Any) -> Any:
        if tree.data == "expr_term":
            return self._term(tree)
        if tree.data == "unary_op" and str(tree.children[0]) == "-":
            negated = self._value(tree.children[1])
            if isinstance(negated, int | float) and not isinstance(negated, bool):
                return -negated
        raise _NotLiteralError("it is an expression")

    def _term(self, tree: Tree[Any]) -> Any:
        parts = _meaningful(tree)
        if len(parts) == 3:  # in parentheses
            return self._value(parts[1])
        (part,) = parts
        reader = _READERS.get(str(part.data))
        if reader is None:
            raise _NotLiteralError(_WHAT.get(str(part.data), "it is an expression"))
        return reader(self, part)

    def _string(self, tree: Tree[Any]) -> str:
        opening, closing = cast("list[Token]", (tree.children[0], tree.children[-1]))
        return _template(self.text[opening.end_pos : closing.start_pos], quoted=True)

    def _heredoc(self, tree: Tree[Any]) -> str:
        token = cast("Token", tree.children[0])
        if token.end_pos > len(self.text):  # type: ignore[operator]  # always a number here
            raise _NotLiteralError("it has a heredoc that ends without a newline")
        # The lines between the opening and the closing line.
        lines = [f"{line}\n" for line in self.text[token.start_pos : token.end_pos].split("\n")[1:-2]]
        trimmed = _without_indent(lines) if tree.data == "heredoc_template_trim" else lines
        return _template("".join(trimmed), quoted=False)

    def _number(self, tree: Tree[Any]) -> int | float:
        return _exact(str(tree.children[0]))

    def _literal(self, tree: Tree[Any]) -> bool | None:
        return {"true": True, "false": False, "null": None}[str(tree.children[0])]

    def _tuple(self, tree: Tree[Any]) -> list[Any]:
        return [self._value(part) for part in self.items_of(tree)]

    def _object(self, tree: Tree[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for element in self.elements_of(tree):
            found[self.key_of(element)] = self._value(element.children[2])
        return found

    def _key(self, tree: Tree[Any]) -> str:
        parts = _meaningful(tree)
        if tree.data == "keyword":
            return self._word(tree)
        if tree.data == "expr_term" and len(parts) == 1 and parts[0].data in ("identifier", "literal_value"):
            return self._word(parts[0])  # a bare word is a key, not a reference
        value = self._value(tree)
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return format(Decimal(repr(value)), "f")
        raise _NotLiteralError("a key is not a string")


_READERS = {
    "string": HclFile._string,
    "heredoc_template": HclFile._heredoc,
    "heredoc_template_trim": HclFile._heredoc,
    "int_lit": HclFile._number,
    "float_lit": HclFile._number,
    "literal_value": HclFile._literal,
    "tuple": HclFile._tuple,
    "object": HclFile._object,
}
_WHAT = {
    "function_call": "it calls a function",
    "identifier": "it is a reference",
    "get_attr_expr_term": "it is a reference",
    "for_tuple_expr": "it is a for expression",
    "for_object_expr": "it is a for expression",
}


def unwrapped(term: Any) -> Any:
    """The content of an expression, without parentheses around it."""
    while getattr(term, "data", None) == "expr_term":
        parts = _meaningful(term)
        term = parts[1] if len(parts) == 3 else parts[0]
    return term


def _trees(tree: Tree[Any], *kinds: str) -> Iterator[Tree[Any]]:
    return (child for child in tree.children if getattr(child, "data", None) in kinds)


def _meaningful(tree: Tree[Any]) -> list[Any]:
    return [child for child in tree.children if getattr(child, "data", None) not in _IGNORED]


def _exact(text: str) -> int | float:
    """A number as Terraform reads it: integers exactly, whatever their size or notation."""
    value = Decimal(text)
    if value and abs(value.adjusted()) > MAX_EXPONENT:
        raise _NotLiteralError("a number is out of range")
    return int(value) if value == value.to_integral_value() else float(value)


def _template(text: str, *, quoted: bool) -> str:
    """The string of a template without interpolation. Only quoted templates have backslash escapes."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if text.startswith(("$${", "%%{"), at):
            parts.append(text[at + 1 : at + 3])
            at += 3
        elif text.startswith(("${", "%{"), at):
            raise _NotLiteralError("it contains ${…} or %{…}")
        elif quoted and char == "\\":
            match = _ESCAPE.match(text, at)
            parts.append(_unescaped(match))
            at += len(match[0]) if match else 0
        elif quoted and char in '"\n':
            raise _NotLiteralError("it has an invalid string")
        else:
            parts.append(char)
            at += 1
    # Terraform normalizes all strings to this form.
    return unicodedata.normalize("NFC", "".join(parts))


def _unescaped(match: re.Match[str] | None) -> str:
    if match is not None and match[1]:
        return _ESCAPED[match[1]]
    code = int((match and (match[2] or match[3])) or "110000", 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise _NotLiteralError("it has a string with an invalid escape")
    return chr(code)


def _without_indent(lines: list[str]) -> list[str]:
    """`<<-` removes the white space that all lines start with; empty lines do not count and stay as they are."""
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    least = min(indents, default=0)
    return [line[least:] if line.strip() else line for line in lines]
