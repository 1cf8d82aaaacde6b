"""The page's colours, for a light and a dark screen; tests hold them to WCAG 2.2's contrasts."""

from __future__ import annotations

from collections.abc import Mapping

# (light, dark). `-bg` is what the colour of that name stands on; `wire`, `done` and `lost` are graphics, not text.
COLOURS: Mapping[str, tuple[str, str]] = {
    "bg": ("#f4f6f8", "#0f1419"),
    "surface": ("#ffffff", "#171e26"),
    "text": ("#1a2330", "#e6edf3"),
    "muted": ("#526070", "#9dabb9"),
    "line": ("#d5dbe2", "#2e3945"),
    "wire": ("#6b7a8a", "#8494a5"),
    "accent": ("#0b57a4", "#79b8ff"),
    "good": ("#17663a", "#63d297"),
    "good-bg": ("#e4f4ea", "#10301f"),
    "warn": ("#854700", "#f2b45c"),
    "warn-bg": ("#fdf0dc", "#35260b"),
    "bad": ("#b0211a", "#ff938a"),
    "bad-bg": ("#fdeae8", "#3d1614"),
    "done": ("#2f72b9", "#5a9fe6"),
    "lost": ("#b0211a", "#ff938a"),
}


def style_variables() -> str:
    """CSS custom properties: light by default and on paper, dark where the reader prefers it."""
    light = "".join(f"--{name}:{light};" for name, (light, _) in COLOURS.items())
    dark = "".join(f"--{name}:{dark};" for name, (_, dark) in COLOURS.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
