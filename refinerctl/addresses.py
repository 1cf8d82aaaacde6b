"""Addresses of servers: checks before they are followed, proxies, and the CAs that TLS trusts."""

from __future__ import annotations

import base64
import os
import re
import ssl
from ipaddress import ip_address
from urllib.parse import unquote, urljoin, urlsplit

from refinerctl.errors import RefinerctlError

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether `host` (with or without port) is this machine: localhost, 127.0.0.0/8 or [::1]."""
    return _LOOPBACK.fullmatch(urlsplit(f"//{host}").hostname or "") is not None


def check_reach(sender: str, url: str) -> None:
    """Raises RefinerctlError if `url`, sent by `sender`, has a loopback or private address, unless `sender` has one.

    Names are not resolved: TLS connects only to a server with a certificate for the name.
    """
    host = urlsplit(url).netloc
    if _closeness(host) > _closeness(sender):
        network = "a loopback" if is_loopback(host) else "a private"
        raise RefinerctlError(
            f"refusing to follow {sender} to {network} address",
            hint=f"If {sender} is a private server, configure it to send URLs with host names, not IP addresses.",
        )


def _closeness(host: str) -> int:
    """2 for this machine, 1 for other addresses that are not public (private, link-local, …), 0 for all others."""
    if is_loopback(host):
        return 2
    try:
        return 0 if ip_address(urlsplit(f"//{host}").hostname or "").is_global else 1
    except ValueError:
        return 0


def base_url(host: str) -> str:
    """Plain HTTP for loopback hosts, as Docker does."""
    return f"{'http' if is_loopback(host) else 'https'}://{host}"


def joined(base: str, location: str) -> str:
    """The URL that a Location or Link header at `base` names. Raises RefinerctlError for an invalid one."""
    try:
        return urljoin(base, location)
    except ValueError as error:
        raise RefinerctlError("the server sent an invalid URL in a header") from error


def proxy_of(netloc: str) -> str | None:
    """The proxy for a host, by HTTPS_PROXY and NO_PROXY."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    bypassed = is_loopback(netloc) or proxy_bypass_environment(netloc)
    return None if bypassed else getproxies_environment().get("https")


def proxy_address(proxy: str) -> tuple[str, int, dict[str, str]]:
    """Host, port and headers for what HTTPS_PROXY says. Raises RefinerctlError for another scheme than http."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise RefinerctlError(
            "HTTPS_PROXY is not an http:// URL",
            hint="Set HTTPS_PROXY to an http:// URL; TLS connections are tunnelled through the proxy.",
        )
    headers = {}
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return parts.hostname, parts.port or 80, headers


def tls_context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """Trusts `ca_bundle`, else the authorities that SSL_CERT_FILE or REQUESTS_CA_BUNDLE names, else the system's."""
    bundle = ca_bundle or (None if os.environ.get("SSL_CERT_FILE") else os.environ.get("REQUESTS_CA_BUNDLE"))
    if not bundle:  # OpenSSL reads SSL_CERT_FILE itself
        return ssl.create_default_context()
    try:
        folder = os.path.isdir(bundle)  # noqa: PTH112 - as it is in the variable
        return ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    except OSError as error:
        raise RefinerctlError(
            f"the CA bundle {bundle} cannot be read: {error.strerror}",
            hint="Correct AWS_CA_BUNDLE, ca_bundle of the AWS profile, or REQUESTS_CA_BUNDLE.",
        ) from error
