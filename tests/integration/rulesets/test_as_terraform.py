"""Edited tfvars keep Terraform's format, and rulesets that are refused here are refused by Terraform."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from refinerctl.errors import RefinerctlError
from refinerctl.rulesets.edit import kept_formatted
from refinerctl.rulesets.hcl_edit import add_entry, remove_entry
from refinerctl.rulesets.model import Ruleset, RulesetValues, check_conflicts, check_form
from refinerctl.terraform.hcl import load_values, variable_defaults
from tests.conftest import ROOT
from tests.needs import needs_terraform
from tests.unit.rulesets.test_hcl_edit import files

STACK = ROOT / "terraform" / "stacks" / "refiner"
MODULE = ROOT / "terraform" / "modules" / "prefix-ruleset"
FILES = [
    *sorted((ROOT / "tests" / "fixtures" / "tfvars").glob("*.tfvars")),
    *sorted((ROOT / "terraform" / "environments").glob("*/refiner.tfvars")),
]
SETTINGS = {
    "image_uri": "123456789012.dkr.ecr.us-east-1.amazonaws.com/app:v1",
    "memory_mb": 512,
    "environment": {"LONGER_NAME": "a${b}", "B1": '"\\'},
    "read_access": ["a/", "s3://config/"],
}


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    needs_terraform()
    return subprocess.run(
        ["terraform", f"-chdir={folder}", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_formatted_file_stays_formatted(tmp_path: Path) -> None:
    layouts = {
        "empty": "rulesets = {}\n",
        "lines": "rulesets = {\n}\n",
        "last": 'region = "a"\n\nrulesets = {} # soon\n',
        "beside": 'region      = "a"\nrulesets    = {}\nbucket_name = "b"\n',
        "commas": 'rulesets = {\n  A = { prefix = "a/" },\n  Longer = { prefix = "b/" },\n}\n',
        "none": 'region = "a"\n',
        "nothing": "",
    }
    for number, path in enumerate(FILES):
        shutil.copy(path, tmp_path / f"{number}.tfvars")
    for name, text in layouts.items():
        (tmp_path / f"{name}.tfvars").write_text(text)
    terraform(tmp_path, "fmt")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    defaults = variable_defaults(STACK)["rulesets"]
    for path in before:
        for name in ("New", "0", "for"):
            add_entry(path, "rulesets", name, {"prefix": f"{name}/", **SETTINGS}, defaults).write()

    formatted = terraform(tmp_path, "fmt", "-check", "-diff")

    assert (formatted.returncode, formatted.stdout) == (0, "")
    for path, content in before.items():
        for name in ("for", "0", "New"):
            remove_entry(path, "rulesets", name, defaults).write()
        assert path.read_bytes() == content


ONE_LINE = 'rulesets = {\n  A      = { prefix = "a/" }\n  Longer = { prefix = "l/" } # longer\n}\nregion = "a"\n'
BLOCK = 'region = "a"\nrulesets = {\n  A = {\n    prefix = "a/"\n  }\n}\nbucket_name = "b"\n'


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        (BLOCK, "A", 'region      = "a"\nrulesets    = {}\nbucket_name = "b"\n'),
        (ONE_LINE, "Longer", 'rulesets = {\n  A = { prefix = "a/" }\n}\nregion = "a"\n'),
        # Not formatted before: only the entry is removed.
        (ONE_LINE.replace(" = ", "="), "A", 'rulesets={\n  Longer={ prefix="l/" } # longer\n}\nregion="a"\n'),
    ],
)
def test_formatted_file_is_formatted_again_after_a_removal(tmp_path: Path, before: str, name: str, after: str) -> None:
    needs_terraform()
    path = tmp_path / "refiner.tfvars"
    path.write_text(before)
    edit = kept_formatted(remove_entry(path, "rulesets", name, {}), "terraform")
    assert edit.after.decode() == after


def test_edit_is_made_without_terraform(tmp_path: Path) -> None:
    path = tmp_path / "refiner.tfvars"
    path.write_text(BLOCK)
    edit = remove_entry(path, "rulesets", "A", {})
    assert kept_formatted(edit, "no-such-terraform") == edit


def test_any_formatted_file_stays_formatted_and_is_restored(tmp_path: Path) -> None:
    """Odd layouts, formatted by Terraform; the edits are checked in one run of it."""
    found: list[bytes] = []

    @settings(max_examples=25)
    @given(files())
    def collect(content: bytes) -> None:
        found.append(content)

    collect()
    for number, content in enumerate(found):
        (tmp_path / f"{number}.tfvars").write_bytes(content)
    terraform(tmp_path, "fmt")
    before = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    removals = tmp_path / "removals"
    removals.mkdir()
    for path, content in before.items():
        kept_formatted(add_entry(path, "rulesets", "New", {"prefix": "n/"}, {}), "terraform").write()
        shutil.copy(path, removals / f"{path.stem}-added.tfvars")
        kept_formatted(remove_entry(path, "rulesets", "New", {}), "terraform").write()
        # Spaces at the end of a file without a newline are formatted only if they are not at the end.
        assert path.read_bytes().rstrip(b" \t") == content.rstrip(b" \t")
        for name in load_values(path).get("rulesets", {}):
            kept_formatted(remove_entry(path, "rulesets", name, {}), "terraform").write()
        shutil.copy(path, removals)
        assert not load_values(path).get("rulesets")

    formatted = terraform(removals, "fmt", "-check", "-diff")

    assert (formatted.returncode, formatted.stdout) == (0, "")


def test_terraform_reads_the_edited_file(tmp_path: Path) -> None:
    """Also files that are not formatted."""
    names = []
    for number, path in enumerate(FILES):
        file = tmp_path / f"{number}.tfvars"
        shutil.copy(path, file)
        add_entry(file, "rulesets", "New", {"prefix": "n/", **SETTINGS}, {"C": {"prefix": "c/"}}).write()
        values = load_values(file)
        lines = "".join(f'variable "{name}" {{}}\n' for name in values)
        module = tmp_path / f"module-{number}"
        module.mkdir()
        (module / "main.tf").write_text(f'{lines}output "rulesets" {{\n  value = var.rulesets\n}}\n')
        names.append((file, module, values["rulesets"]))
    for file, module, rulesets in names:
        applied = terraform(module, "apply", "-auto-approve", f"-var-file={file}")
        assert applied.returncode == 0, applied.stderr
        assert json.loads(terraform(module, "output", "-json", "rulesets").stdout) == rulesets


ACCEPTED: list[dict[str, Any]] = [
    {"prefix": "team/My New+%/ü/", "image_uri": "localhost:5000/a__b/c-d:v_1.0"},
    {"prefix": "x" * 511 + "/", "image_uri": "a@sha256:" + "0" * 64},
    {
        "name": "n" * 54,
        "prefix": "n/",
        "environment": {"Ab": "x"},
        "read_access": ["a b/", "s3://config/", "s3://c.d/e/"],
    },
]
REFUSED: list[dict[str, Any]] = [
    {"prefix": "a*/"},
    {"prefix": "a/\x85/"},
    {"prefix": "x" * 512 + "/"},
    {"prefix": "RefinerInput/sub/"},
    {"prefix": "Refiner"},
    {"name": "a b", "prefix": "n/"},
    {"name": "n" * 63, "prefix": "n/"},
    {"name": "forward", "prefix": "n/"},
    {"name": "x-DLQ", "prefix": "n/"},
    {"name": "x-delivery", "prefix": "n/"},
    {"name": "REFINERINPUT", "prefix": "n/"},
    {"prefix": "n/", "image_uri": "a:v1@sha256:" + "0" * 64},
    {"prefix": "n/", "image_uri": "https://a/b"},
    {"prefix": "n/", "image_uri": "A/b"},
]
# What `add-prefix` leaves to Terraform.
REFUSED_BY_TERRAFORM: list[dict[str, Any]] = [
    {"prefix": "n/", "image_uri": "a_.b.example.com/x"},
    {"prefix": "n/", "environment": {"A": "one letter"}},
    {"prefix": "n/", "environment": {"AWS_REGION": "x"}},
    {"prefix": "n/", "environment": {"REFINER_INPUT_PREFIX": "x"}},
    {"prefix": "n/", "read_access": ["a"]},
    {"prefix": "n/", "read_kms_key_arns": ["alias/a"]},
]


def is_accepted(settings: dict[str, Any], values: RulesetValues) -> bool:
    ruleset = Ruleset(**{"name": "New", "image_uri": "a", **settings})
    try:
        check_form(ruleset, values.name_prefix)
        check_conflicts(ruleset, values)
    except RefinerctlError:
        return False
    return True


def problems(folder: Path, defaults: dict[str, Any], settings: dict[str, Any]) -> str:
    """What Terraform says of a ruleset: the validations of the stack, and those of the module that it calls."""
    name, entry = settings.get("name", "New"), {"image_uri": "a", **settings}
    entry.pop("name", None)
    stack = {"rulesets": {**defaults["rulesets"], name: entry}}
    module = {"name": f"{defaults['name_prefix']}-{name}", "bucket": "data-repository", "bus_name": "bus", **entry}
    said = ""
    for source, variables in ((STACK, stack), (MODULE, module)):
        inputs = folder / f"{source.name}-{len(list(folder.iterdir()))}"
        inputs.mkdir()
        shutil.copy(source / "variables.tf", inputs)
        (inputs / "x.tfvars.json").write_text(json.dumps(variables))
        said += terraform(inputs, "plan", "-refresh=false", "-lock=false", "-var-file=x.tfvars.json").stderr
    return said


@pytest.mark.parametrize("settings", ACCEPTED, ids=lambda settings: repr(settings)[:40])
def test_accepted_ruleset_is_accepted_by_terraform(tmp_path: Path, settings: dict[str, Any]) -> None:
    defaults = variable_defaults(STACK)
    assert is_accepted(settings, RulesetValues.of(defaults))
    assert problems(tmp_path, defaults, settings) == ""


@pytest.mark.parametrize("settings", REFUSED, ids=lambda settings: repr(settings)[:40])
def test_refused_ruleset_is_refused_by_terraform(tmp_path: Path, settings: dict[str, Any]) -> None:
    defaults = variable_defaults(STACK)
    assert not is_accepted(settings, RulesetValues.of(defaults))
    assert "Invalid value for variable" in problems(tmp_path, defaults, settings)


@pytest.mark.parametrize("settings", REFUSED_BY_TERRAFORM, ids=lambda settings: repr(settings)[:40])
def test_settings_are_validated_by_terraform(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert "Invalid value for variable" in problems(tmp_path, variable_defaults(STACK), settings)
