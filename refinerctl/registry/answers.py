"""What a registry says besides content: errors, lists of tags, and where to go on. It may say anything."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin, urlsplit

from refinerctl.errors import RefinerctlError
from refinerctl.images import is_tag
from refinerctl.transport import Answer


def reason(answer: Answer) -> str:
    """https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes"""
    try:
        error: dict[str, Any] = json.loads(answer.body)["errors"][0]
        code, message = str(error.get("code") or ""), str(error.get("message") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return str(answer.status)
    return f"{answer.status} {code}: {message[:300]}"


def tags_of(body: bytes) -> list[str]:
    """Those that are tags: what is none could not be asked for, or would steer a terminal."""
    try:
        return [tag for tag in map(str, json.loads(body).get("tags") or []) if is_tag(tag)]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise RefinerctlError(f"the registry sent a list of tags that cannot be read: {error}") from error


def next_page(url: str, link: str | None) -> str | None:
    """https://www.rfc-editor.org/rfc/rfc8288: `<url>; rel="next"`. A path, as only the registry itself has it."""
    for part in (link or "").split(","):
        target, _, parameters = part.strip().partition(">")
        if target.startswith("<") and 'rel="next"' in parameters.replace("rel=next", 'rel="next"'):
            following = urlsplit(joined(url, target[1:]))
            return f"{following.path}?{following.query}"
    return None


def joined(base: str, location: str) -> str:
    """Where a header leads to from `base`. Raises RefinerctlError if it leads nowhere."""
    try:
        return urljoin(base, location)
    except ValueError as error:
        raise RefinerctlError("the registry leads to an address that is none") from error


def origin(url: str) -> tuple[str, str | None, int | None]:
    """https://www.rfc-editor.org/rfc/rfc6454: scheme, host and port, however they are written."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError as error:
        raise RefinerctlError("the registry leads to an address that is none") from error
