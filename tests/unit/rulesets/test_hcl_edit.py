"""One entry more or less in a file of variables: every other byte stays."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.rulesets.hcl_edit import MARKER, add_entry, quoted, remove_entry
from refinerctl.terraform.hcl import load_values
from tests.conftest import ROOT

FILES = sorted((ROOT / "tests" / "fixtures" / "tfvars").glob("*.tfvars"))
ENVIRONMENTS = sorted((ROOT / "terraform" / "environments").glob("*/refiner.tfvars"))
DEFAULTS = {"R": {"prefix": "R/", "image_uri": "i"}, "C": {"prefix": "C/"}}
NEW = {"prefix": "n/", "image_uri": "x:v1", "batch_size": 1, "environment": {"A1": 'a${b} "q" %{ if } ü\n'}}
BLOCK = """\
  New = {
    prefix = "n/"
  }
"""


def added(path: Path, value: Any = NEW, defaults: Any = DEFAULTS) -> bytes:
    """The file with ruleset New: by parsing it again, it has that and nothing else more, and no byte less."""
    before = path.read_bytes() if path.exists() else b""
    old = load_values(path, missing_ok=True)
    add_entry(path, "rulesets", "New", value, defaults).write()
    after = path.read_bytes()
    assert load_values(path) == {**old, "rulesets": {**old.get("rulesets", defaults), "New": value}}
    head = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), len(before))
    assert after.endswith(before[head:]), "more than an insertion"
    return after


def round_trip(path: Path, defaults: Any = DEFAULTS) -> None:
    before = path.read_bytes()
    added(path, defaults=defaults)
    remove_entry(path, "rulesets", "New", defaults).write()
    assert path.read_bytes() == before


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "refiner.tfvars"


@pytest.mark.parametrize("path", [*FILES, *ENVIRONMENTS], ids=lambda path: f"{path.parent.name}-{path.name}")
@pytest.mark.parametrize("defaults", [DEFAULTS, {}], ids=["defaults", "none"])
def test_add_then_remove_restores_the_file(path: Path, file: Path, defaults: Any) -> None:
    file.write_bytes(path.read_bytes())
    round_trip(file, defaults)


LAYOUTS: list[tuple[str, str]] = [
    ("rulesets = {}\n", f"rulesets = {{\n{BLOCK}}}\n"),
    ("rulesets = {\n}\n", f"rulesets = {{\n\n{BLOCK}}}\n"),
    ("rulesets = {} # soon", f"rulesets = {{\n{BLOCK}}} # soon"),
    ("a        = 1\nrulesets = {}\n", 'a        = 1\nrulesets = { New = { prefix = "n/" } }\n'),
    ('rulesets = { A = { prefix = "a/" } }', 'rulesets = { A = { prefix = "a/" }, New = { prefix = "n/" } }'),
    ('rulesets = { A = { prefix = "a/" }, }', 'rulesets = { A = { prefix = "a/" }, New = { prefix = "n/" }, }'),
    ("rulesets = {\n  A = {}\n  # end\n}\n", f"rulesets = {{\n  A = {{}}\n  # end\n\n{BLOCK}}}\n"),
    ("rulesets = {\n  A = {},\n}\n", f"rulesets = {{\n  A = {{}},\n\n{BLOCK[:-1]},\n}}\n"),
    ("rulesets = {\n  A = {} /* c */ }", 'rulesets = {\n  A = {}, New = { prefix = "n/" } /* c */ }'),
    ("rulesets = ({})", f"rulesets = ({{\n{BLOCK}}})"),
    ("rulesets = { /* a\nb */ }", f"rulesets = {{\n{BLOCK} /* a\nb */ }}"),
    ("# none", f'# none\n\n{MARKER}\nrulesets = {{\n  C = {{\n    prefix = "C/"\n  }}\n\n{BLOCK}}}'),
    ("", f'{MARKER}\nrulesets = {{\n  C = {{\n    prefix = "C/"\n  }}\n\n{BLOCK}}}\n'),
]
NEWLINES = [(before, after, "\n") for before, after in LAYOUTS] + [
    (before, after, "\r\n") for before, after in LAYOUTS if "\n" in before
]


@pytest.mark.parametrize(("before", "after", "newline"), NEWLINES)
def test_layout_of_an_added_entry(file: Path, before: str, after: str, newline: str) -> None:
    file.write_bytes(before.replace("\n", newline).encode())
    defaults = {"C": {"prefix": "C/"}}
    assert added(file, {"prefix": "n/"}, defaults).decode() == after.replace("\n", newline)
    assert remove_entry(file, "rulesets", "New", defaults).after.decode() == before.replace("\n", newline)


def test_new_file_is_written_and_emptied(file: Path) -> None:
    edit = add_entry(file, "rulesets", "New", {"prefix": "n/"}, {})
    assert edit.diff("x").startswith("--- /dev/null\n+++ b/x\n")
    edit.write()
    assert file.read_text() == f"{MARKER}\nrulesets = {{\n{BLOCK}}}\n"
    edit.undo()
    assert not file.exists()


class TestRemove:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("{\n  # about A\n  A = {}\n\n  # about B\n  B = {}\n}", "{\n  # about B\n  B = {}\n}"),
            (
                "{\n  # about B\n  B = {}\n\n  # about A,\n  /* and\n\n more */\n  A = {} # x\n}",
                "{\n  # about B\n  B = {}\n}",
            ),
            ("{\n  # heading\n\n  A = {}\n  B = {}\n}", "{\n  # heading\n  B = {}\n}"),
            ("{ A = {}, B = {} }", "{ B = {} }"),
            ("{ B = {}, A = {} }", "{ B = {} }"),
            ("{ B = {}, A = {}, C = {}, }", "{ B = {}, C = {}, }"),
            ("{\n  B = {}, A = {},\n  C = {}\n}", "{\n  B = {},\n  C = {}\n}"),
            ("{\n  A = {}, B = {}\n}", "{\n  B = {}\n}"),
            ('{\n  "A" : {} }', "{ }"),
            ("{ A = {},\n  B = {} }", "{\n  B = {} }"),
            ("{ # all\n  A = {} }", "{ # all\n }"),
            ("{\n  B = {}, // b\n  A = {} }", "{\n  B = {}, // b\n }"),
            ("{\n  B = {}\n  Ä = {}\n  A = {}\n}", "{\n  B = {}\n  Ä = {}\n}"),
            ("{\n  A = {}\n}", "{}"),
        ],
    )
    def test_entry_written_by_hand_is_removed(self, file: Path, before: str, after: str) -> None:
        file.write_bytes(f"x = 1\nrulesets = {before}\n".encode())
        assert remove_entry(file, "rulesets", "A", {}).after.decode() == f"x = 1\nrulesets = {after}\n"

    def test_default_entry_is_removed(self, file: Path) -> None:
        file.write_text("a = 1\n")
        remove_entry(file, "rulesets", "C", DEFAULTS).write()
        assert load_values(file) == {"a": 1, "rulesets": {"R": DEFAULTS["R"]}}

    def test_removal_in_any_order_restores_the_file(self, file: Path) -> None:
        file.write_text("rulesets = {}\n")
        for name in ("One", "Two", "Three"):
            add_entry(file, "rulesets", name, {"prefix": f"{name}/"}, {}).write()
        for name in ("Two", "One", "Three"):
            remove_entry(file, "rulesets", name, {}).write()
        assert file.read_text() == "rulesets = {}\n"

    @pytest.mark.parametrize(
        ("text", "said"), [("rulesets = {}", "has no A"), ("rulesets = { A = {}, A = {} }", "has more than one A")]
    )
    def test_missing_or_duplicate_entry_is_an_error(self, file: Path, text: str, said: str) -> None:
        file.write_text(text)
        with pytest.raises(NotFoundError, match=said):
            remove_entry(file, "rulesets", "A", {})


class TestFile:
    def test_mode_and_link_are_kept(self, tmp_path: Path, file: Path) -> None:
        target = tmp_path / "elsewhere" / "real.tfvars"
        target.parent.mkdir()
        target.write_text("rulesets = {}\n")
        target.chmod(0o640)
        file.symlink_to(Path("elsewhere") / "real.tfvars")
        added(file)
        assert file.is_symlink()
        assert target.stat().st_mode & 0o777 == 0o640
        assert [path.name for path in target.parent.iterdir()] == ["real.tfvars"]

    def test_concurrent_change_is_an_error(self, file: Path) -> None:
        file.write_text("rulesets = {}\n")
        edit = add_entry(file, "rulesets", "New", NEW, {})
        file.write_text("rulesets = { A = {} }\n")
        with pytest.raises(RefinerctlError, match="was changed by another process"):
            edit.write()
        assert file.read_text() == "rulesets = { A = {} }\n"

    def test_read_only_file_is_not_changed(self, file: Path) -> None:
        file.write_text("rulesets = {}\n")
        file.chmod(0o444)
        with pytest.raises(RefinerctlError, match="is read-only; nothing was written"):
            add_entry(file, "rulesets", "New", NEW, {}).write()
        assert file.read_text() == "rulesets = {}\n"

    def test_diff_shows_a_missing_newline(self, file: Path) -> None:
        file.write_bytes(b"rulesets = { }")
        assert add_entry(file, "rulesets", "N", {"prefix": "n/"}, {}).diff("f") == (
            "--- a/f\n+++ b/f\n@@ -1 +1,5 @@\n-rulesets = { }\n\\ No newline at end of file\n"
            '+rulesets = {\n+  N = {\n+    prefix = "n/"\n+  }\n+ }\n\\ No newline at end of file\n'
        )

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("a = 1\nrulesets = { A = { }\n", ":3:1: invalid HCL"),
            ("rulesets = {}\nx = 1 2\n", ":2:7: invalid HCL"),
            ("rulesets = { A = { prefix = var.x } }", ":1: variable rulesets is not a literal"),
            ("a = 1\nrulesets = []", ":2: rulesets is not a map in braces"),
            ("rulesets = null", ":1: rulesets is not a map in braces"),
        ],
    )
    def test_unsafe_layout_is_refused(self, file: Path, text: str, place: str) -> None:
        file.write_text(text)
        with pytest.raises(RefinerctlError) as caught:
            add_entry(file, "rulesets", "New", NEW, DEFAULTS)
        assert caught.value.message.startswith(f"{file}{place}")
        assert file.read_text() == text


# Odd, and valid: what people, editors and generators leave in such files.
SPACES = st.sampled_from(["", " ", "   ", "\t", " /* } */ ", "/* {\n# */"])
ENDS = st.sampled_from(
    ["\n", "\n\n", " \n", "  # } { ü\n", "// ]\n", "\n\n\t\n", "\n/* \n\n} */\n", "\n  # a\n  # b\n"]
)
KEYS = st.sampled_from(["A", '"B b"', "C-c", '"D"', "E", '"Ü"', "Öl"])
ENTRIES = st.sampled_from(
    [
        "{}",
        '{ prefix = "a/" }',
        '{prefix="{",}',
        '{\n    prefix = "x/" # }\n  }',
        '{\n\tprefix = "x/"\n\n\ttext = <<-EOT\n\t  } {\n\t  # no\n\tEOT\n\t}',
        '{ a : "# no }", b = [1, 2,], }',
    ]
)
OTHERS = st.sampled_from(
    ["a = 1", 'name     = "x"', "list = [\n  1,\n]", "text = <<EOT\nrulesets = {}\nEOT\n", "# rulesets = {"]
)


@st.composite
def maps(draw: st.DrawFn) -> str:
    names = draw(st.lists(KEYS, unique=True, max_size=4))
    parts = [draw(st.one_of(SPACES, ENDS))]
    for number, name in enumerate(names):
        separator = draw(st.sampled_from(["=", " = ", " : ", "="]))
        parts += [draw(SPACES).replace("\n", " ") if number else "", name, separator, draw(ENTRIES)]
        is_last = number == len(names) - 1
        parts.append(draw(st.sampled_from([",", ", ", "", ",\n", " ,"] if is_last else [",", ", ", "\n", ",\n"])))
        if parts[-1].endswith("\n") or is_last or "," in parts[-1]:
            parts.append(draw(st.one_of(SPACES, ENDS)))
    return f"{{{''.join(parts)}}}"


@st.composite
def files(draw: st.DrawFn) -> bytes:
    others = draw(st.lists(OTHERS, unique=True, max_size=3))
    lines = [f"{other}{draw(ENDS)}" for other in others]
    if draw(st.integers(0, 4)):
        inner = draw(st.sampled_from(["{}", "({})"])).replace("{}", draw(maps()))
        indent, equals = draw(st.sampled_from(["", "  "])), draw(st.sampled_from([" = ", "=", "    = "]))
        lines.insert(draw(st.integers(0, len(lines))), f"{indent}rulesets{equals}{inner}{draw(ENDS)}")
    text = "".join(lines)
    if draw(st.booleans()) and not text.rstrip("\n").endswith("EOT"):  # a heredoc must end with a newline
        text = text.rstrip("\n")
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return (draw(st.sampled_from(["", "", "\ufeff"])) + text).encode()


@given(files())
def test_any_file_is_restored_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.tfvars"
    file.write_bytes(content)
    round_trip(file)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_quoted_exactly(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "text.tfvars"
    file.write_text(f"a = {quoted(text)}\n", encoding="utf-8")
    assert load_values(file) == {"a": unicodedata.normalize("NFC", text)}
