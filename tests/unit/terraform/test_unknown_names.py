"""Unknown variables and attributes in tfvars."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refinerctl.errors import RefusedError
from refinerctl.layout import Layout
from refinerctl.terraform.unknown_names import refuse_unknown_names, unknown_names

VARIABLES = """
variable "rulesets" {
  type = map(object({
    prefix    = string
    timeout_s = optional(number, 900)
    vpc       = optional(object({ subnet_ids = list(string) }))
    environment = optional(map(string), {})
    "anything" = any
  }))
}
variable "parts" {
  type = list(object({ name = string }))
}
variable "untyped" {}
"""

ATTRIBUTES = "Attributes: timeout_s, prefix, vpc, environment, anything."


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "variables.tf").write_text(VARIABLES)
    return tmp_path / "module"


def found(module: Path, text: str) -> list[tuple[int, str, str]]:
    values = module.parent / "x.tfvars"
    values.write_text(text)
    return [(item.line, item.key, item.hint) for item in unknown_names(values, module)]


def test_known_names_and_any_key_of_a_map_are_accepted(module: Path) -> None:
    text = """
rulesets = ({
  "A b" = { prefix = "a/", environment = { anything_s = "x" }, vpc = null, anything = { x = 1 } }
  B     = { prefix : "b/" }
})
parts   = [{ name = "x" }]
untyped = { x = { y = 1 } }
"""
    assert found(module, text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rulests = {}", (1, "rulests", "Did you mean rulesets? Variables: rulesets, parts, untyped.")),
        (
            "# x\nrulesets = {\n  A = {\n    timeuot_s = 1\n  }\n}",
            (
                4,
                "rulesets.A.timeuot_s",
                "Did you mean timeout_s? Attributes: timeout_s, prefix, vpc, environment, anything.",
            ),
        ),
        (
            "rulesets = { A = { vpc = { subnets_ids = [] } } }",
            (1, "rulesets.A.vpc.subnets_ids", "Did you mean subnet_ids? Attributes: subnet_ids."),
        ),
        ("parts = [{ name = 1 }, { size = 1 }]", (1, "parts[1].size", "Attributes: name.")),
    ],
)
def test_an_unknown_name_has_its_line_and_a_suggestion(module: Path, text: str, expected: tuple[int, str, str]) -> None:
    assert found(module, text) == [expected]


@pytest.mark.parametrize(
    "declared",
    [
        {"sizes": {"//": "comment", "type": "map(object({ cpu = number }))", "default": {}}, "any": {"type": "any"}},
        [{"sizes": [{"type": "map(object({ cpu = number }))"}]}, {"any": {}}],
        {"sizes": {"type": "map(object({ cpu = number }))"}, "any": {"type": "not ( a type"}},
    ],
)
def test_variables_in_json_syntax_are_known_with_their_types(module: Path, declared: object) -> None:
    (module / "more.tf.json").write_text(json.dumps({"//": "comment", "variable": declared}))
    assert found(module, "sizes = { A = { cpu = 1 } }\nany = { x = 1 }\nparts = []") == []
    assert found(module, "sizes = { A = { cpus = 1 } }") == [
        (1, "sizes.A.cpus", "Did you mean cpu? Attributes: cpu."),
    ]


def test_all_unknown_names_of_a_file_are_refused_at_once(module: Path) -> None:
    values = module.parent / "x.tfvars"
    refuse_unknown_names(values, module)  # need not exist
    values.write_text("rulests = 1\npart = 2\n")
    with pytest.raises(RefusedError, match=r"line 1: .* rulests \(Did you mean rulesets\?\); line 2: .* part \("):
        refuse_unknown_names(values, module)
    values.write_text("rulests = 1\n")
    with pytest.raises(RefusedError, match=r"x.tfvars:1: unknown variable rulests$") as refused:
        refuse_unknown_names(values, module)
    assert refused.value.hint == (
        "Did you mean rulesets? Variables: rulesets, parts, untyped. Terraform would ignore it."
    )


def test_the_environments_of_this_repository_have_known_names_only() -> None:
    layout = Layout(Path(__file__).parents[3])
    files = list(layout.environments.glob("*/*.tfvars"))
    assert files
    assert not [item for file in files for item in unknown_names(file, layout.root_module(file.stem))]
