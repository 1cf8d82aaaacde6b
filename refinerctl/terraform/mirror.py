"""Provider mirrors that images and packages bake in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

# Where images and packages bake provider mirrors in.
MIRROR_ROOTS = (
    Path("/opt"),
    Path("/usr/share"),
    Path("/usr/local/share"),
    Path("~/.terraform.d"),
)
PROVIDER = Path("registry.terraform.io/hashicorp/aws")


def find_provider_mirror(roots: Iterable[Path] = MIRROR_ROOTS) -> Path | None:
    """A folder, one or two levels below one of `roots`, that holds the AWS provider; None if there is none."""
    for root in roots:
        for pattern in ("*", "*/*"):
            with contextlib.suppress(OSError):
                for found in sorted(root.expanduser().glob(f"{pattern}/{PROVIDER}")):
                    return found.parents[len(PROVIDER.parts) - 1]
    return None


def mirror_configuration(mirror: Path) -> str:
    """The CLI configuration that takes all providers from `mirror`."""
    return f"provider_installation {{\n  filesystem_mirror {{\n    path = {json.dumps(str(mirror))}\n  }}\n}}\n"
