"""Addresses of servers: with TLS, or on this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit


def server_address(variable: str, url: str, secure: str, plain: str) -> SplitResult:
    """Return the parts of a URL whose scheme is `secure`, or `plain` with a loopback address. `variable` is for errors.

    A URL with credentials is refused: it would end up in logs.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{variable} must not contain credentials")
    if parts.scheme not in (secure, plain) or not parts.hostname:
        raise ValueError(f"{variable}: {url!r} is not like {secure}://host")
    if parts.scheme == plain and not _is_loopback(parts.hostname):
        raise ValueError(f"{variable}: {url} has no TLS. {plain}:// is only for loopback addresses; use {secure}://")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
