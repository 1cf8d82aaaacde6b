"""Files of variables, defaults and backend blocks, as plain Python values."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.rulesets.hcl_edit import quoted
from refinerctl.terraform.hcl import backend_block, load_values, variable_defaults
from refinerctl.terraform.hcl_mask import masked
from tests.command import spawn

SECRET = "hunter2-secret"


def load(text: str, folder: Path) -> dict[str, Any]:
    path = folder / "x.tfvars"
    path.write_bytes(text.encode())
    return load_values(path)


def refused(text: str, folder: Path) -> str:
    with pytest.raises(RefinerctlError) as caught:
        load(text, folder)
    assert (folder / "x.tfvars").read_bytes() == text.encode()
    return caught.value.message.replace(f"{folder}/", "")


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("a = ", "1:5"),
            ("a = 1\nb = [1,\n", "3:1"),
            (f'a = "{SECRET}"\nb = "{SECRET}" = 2\n', "2:22"),
            ("a = 1\n}\n", "2:1"),
            ("/* a\n comment */ a = = 1", "2:17"),
            ("a = <<EOT\nno end\n", "1:5"),
            ('a = "no end', "1:6"),
            ("a = " + "[" * 2000, "1:2005"),
        ],
    )
    def test_invalid_hcl_is_an_error_with_its_place(self, tmp_path: Path, text: str, place: str) -> None:
        assert refused(text, tmp_path) == f"x.tfvars:{place}: invalid HCL"

    @pytest.mark.parametrize(
        "expression",
        [
            'upper("x")',
            "var.x",
            "x",
            '"a${b}"',
            '"%{ if true }a%{ endif }"',
            "<<-EOT\n  a ${b}\n  EOT",
            "[1, [local.x]]",
            "{ a = { b = f() } }",
            "{ a.b = 1 }",
            "{ (k) = 1 }",
            "{ (null) = 1 }",
            "[for x in [1] : x]",
            "1 + 1",
            "!true",
            "true ? 1 : 2",
            "[1][0]",
            '-"1"',
            r'"\q"',
            r'"\u12"',
            r'"\ud800"',
            r'"\U00110000"',
            '"a\nb"',
            "1e9999",
            "<<EOT\na\nEOT",
        ],
    )
    def test_expression_is_an_error_that_names_the_variable(self, tmp_path: Path, expression: str) -> None:
        third = "" if expression.startswith("<<EOT") else "\nthird = 3\n"  # Terraform wants a newline behind it
        said = refused(f"first = 1\nsecond = {expression}{third}", tmp_path)
        assert said.startswith("x.tfvars:2: variable second is not a literal: ")

    def test_variable_that_is_set_twice_is_an_error(self, tmp_path: Path) -> None:
        assert refused("a = 1\nb = 2\na = 3\n", tmp_path) == "x.tfvars:3: variable a is set twice"

    def test_block_in_tfvars_is_an_error(self, tmp_path: Path) -> None:
        assert refused("a = 1\nb {\n}\n", tmp_path) == "x.tfvars:2: a tfvars file has no blocks"

    def test_other_encoding_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "x.tfvars").write_bytes(b'a = "\xff"')
        with pytest.raises(RefinerctlError, match="is not UTF-8"):
            load_values(tmp_path / "x.tfvars")

    def test_missing_file_is_an_error_unless_allowed(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="does not exist"):
            load_values(tmp_path / "x.tfvars")
        assert load_values(tmp_path / "x.tfvars", missing_ok=True) == {}


class TestSize:
    """Time and memory are bounded, whatever a file has."""

    pytestmark = pytest.mark.timeout(60)  # before, each took minutes, or raised RecursionError

    def test_a_large_file_is_refused_before_it_is_parsed(self, tmp_path: Path) -> None:
        entries = "".join(f'  R{number} = {{\n    prefix = "{"x" * 90}/"\n  }}\n' for number in range(8500))
        said = refused(f"rulesets = {{\n{entries}}}\n", tmp_path)
        assert said == "x.tfvars is too large: 1,044,405 characters, more than 262,144"

    def test_many_rulesets_are_read(self, tmp_path: Path) -> None:
        entries = "".join(f'  R{number} = {{ prefix = "{"x" * 200}/" }}\n' for number in range(1000))
        assert len(load(f"rulesets = {{\n{entries}}}\n", tmp_path)["rulesets"]) == 1000

    @pytest.mark.parametrize(
        "unit", ['${"', "${", '"%{', "{", "[", "(", "-", "/*", "<<A\n", "a = <<EOT\n", "\n", "  \n"]
    )
    def test_unclosed_and_nested_text_is_an_error(self, tmp_path: Path, unit: str) -> None:
        assert "invalid HCL" in refused(f'a = "{unit * 3000}', tmp_path)
        assert "invalid HCL" in refused(f"a = {unit * 3000}", tmp_path)

    @pytest.mark.parametrize("unit", ['"${', "/*", "<<A\n", "a = <<EOT\n", "a = <<A\nx\nA\n"])
    def test_masking_takes_linear_time(self, unit: str) -> None:
        assert len(masked(unit * 100_000)) == 100_000 * len(unit)

    def test_a_heredoc_of_empty_lines_is_read(self, tmp_path: Path) -> None:
        lines = "\n" * 100_000 + "  \n" * 20_000
        assert load(f"a = <<EOT\n{lines}EOT\n", tmp_path) == {"a": lines}

    def test_a_module_of_empty_lines_is_searched(self, tmp_path: Path) -> None:
        (tmp_path / "main.tf").write_text("\n" * 1_000_000)
        assert variable_defaults(tmp_path) == {}


class TestModules:
    @pytest.fixture
    def module(self, tmp_path: Path) -> Path:
        files = {
            "variables.tf": (
                '# variable "no" {}\nvariable "none" {}\nvariable "null" {\n  default = null\n}\n'
                'variable "map" {\n  type    = map(object({ a = optional(string, "x}") }))\n'
                '  default = { k = { a = "//" } }\n  validation {\n    condition     = var.map != {}\n'
                '    error_message = "no ${length(var.map)} #\\"{"\n  }\n}\n'
            ),
            "override.tf": 'variable "none" {\n  default = 7\n}\n',
            "versions.tf": (
                'terraform {\n  required_version = ">= 1.10"\n  backend "s3" {\n    key     = "a/b.tfstate"\n'
                '    encrypt = true\n  }\n}\nlocals {\n  url = "http://${var.none}/#{x}"\n}\n'
            ),
            "broken.tf": "this is = = not HCL, but no business of ours\n",
        }
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    def test_defaults_of_variables(self, module: Path) -> None:
        assert variable_defaults(module) == {"null": None, "map": {"k": {"a": "//"}}, "none": 7}

    def test_default_that_is_an_expression_is_an_error(self, module: Path) -> None:
        (module / "more.tf").write_text('variable "x" {\n  default = f()\n}\n', encoding="utf-8")
        with pytest.raises(RefinerctlError, match=r"more\.tf:2: the default of variable x is not a literal"):
            variable_defaults(module)

    def test_defaults_of_variables_in_json_syntax(self, module: Path) -> None:
        """Their strings are no templates."""
        values = {"${a}": [1.5, -2, True, None, 'é "\\ \n %{b} $${c}'], "{": {}}
        document = {"variable": {"json": {"default": values}, "none": {"default": 1}, "late": [{"default": 1}]}}
        (module / "a.tf.json").write_text(json.dumps(document), encoding="utf-8")
        (module / "a_override.tf.json").write_text('{"variable": {"late": {"default": 2}}}', encoding="utf-8")
        found = variable_defaults(module)
        assert {name: found[name] for name in ("json", "none", "late")} == {"json": values, "none": 7, "late": 2}

    def test_invalid_json_is_an_error_with_its_position(self, module: Path) -> None:
        (module / "a.tf.json").write_text('{"variable":\n  x}', encoding="utf-8")
        with pytest.raises(RefinerctlError, match=r"a\.tf\.json:2:3: invalid JSON"):
            variable_defaults(module)

    def test_backend_block(self, module: Path) -> None:
        assert backend_block(module) == {"key": "a/b.tfstate", "encrypt": True}

    def test_module_without_backend(self, module: Path) -> None:
        (module / "versions.tf").unlink()
        assert backend_block(module) == {}

    def test_missing_module_is_an_error(self, tmp_path: Path) -> None:
        module = tmp_path / "terraform" / "stacks" / "no"
        with pytest.raises(NotFoundError, match=r"no refinerctl\.toml in "):
            variable_defaults(module)
        module.parent.mkdir(parents=True)
        with pytest.raises(NotFoundError, match=r"root module .* does not exist"):
            variable_defaults(module)


WORDS = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,8}", fullmatch=True)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.sampled_from('$%{}"\\\n\r\t#/*<-EOT ab~')),
).map(lambda text: unicodedata.normalize("NFC", text))
NUMBERS = st.one_of(st.integers(), st.floats(-1e15, 1e15))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)
FILLERS = st.sampled_from(["", " ", "\t", '/* ] } " */', " /* <<EOT */ "])
BREAKS = st.sampled_from(["\n", "\r\n", ' # ] } " ${\n', "// <<EOT\n", '\n\n  /* "\n */ '])


def escaped(text: str) -> str:
    """The same string, every character by its number."""
    return '"' + "".join(f"\\U{ord(char):08X}" for char in text) + '"'


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """HCL for a value, in one of the ways to write it."""
    filler = draw(FILLERS)
    if isinstance(value, str):
        return filler + draw(st.sampled_from([quoted, escaped]))(value)
    if isinstance(value, dict):
        separator = draw(st.sampled_from([" = ", ":", " =\t"]))
        lines = [f"{quoted(key)}{separator}{draw(written(item))}" for key, item in value.items()]
        return "{" + draw(BREAKS) + "".join(line + draw(BREAKS) for line in lines) + "}"
    if isinstance(value, list):
        items = [draw(written(item)) for item in value]
        between, last = draw(st.sampled_from([",", ", ", ",\n"])), draw(st.sampled_from(["", ",", "\n"]))
        return f"{filler}[{between.join(items)}{last if items else ''}]"
    return filler + (json.dumps(value) if not isinstance(value, float) else f"{value!r}")


@st.composite
def files(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    values = draw(st.dictionaries(WORDS, VALUES, max_size=4))
    lines = [f"{name} ={draw(written(value))}{draw(BREAKS)}" for name, value in values.items()]
    return values, draw(st.sampled_from(["", "# $ first\n", "\ufeff"])) + "".join(lines)


class TestProperties:
    @given(files())
    def test_any_values_are_read_as_written(
        self, tmp_path_factory: pytest.TempPathFactory, made: tuple[dict[str, Any], str]
    ) -> None:
        values, text = made
        assert load(text, tmp_path_factory.getbasetemp()) == values

    @given(st.text(st.sampled_from('a="{}[]()<-EOT\n\\$%#/*,: 1.')))
    def test_any_text_is_values_or_an_error(self, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
        assert len(masked(text)) == len(text)
        with contextlib.suppress(RefinerctlError):
            load(text, tmp_path_factory.getbasetemp())


def test_parser_is_imported_on_use(tmp_path: Path) -> None:
    done = spawn(
        cwd=tmp_path,
        python=("-c", "import sys, refinerctl.terraform.hcl; print({'hcl2', 'lark'} & sys.modules.keys())"),
    )
    assert done.stdout.strip() == "set()", done.stderr
