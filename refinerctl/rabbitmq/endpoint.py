"""Where a broker is reached, and with which credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit

from refinerctl.addresses import is_loopback
from refinerctl.errors import RefinerctlError, UsageError

# Amazon MQ's: https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/rabbitmq-basic-elements-broker.html
PORTS = {"amqps": 5671, "https": 443, "amqp": 5672, "http": 15672}
_AMQP, _API = ("amqps", "amqp"), ("https", "http")
VHOST = "/"
# Suggested local ports of forwarded ones: 15671, 10443.
LOCAL_PORT_OFFSET = 10_000


@dataclass(frozen=True)
class Address:
    """A server's address; `is_secure`: with TLS, whose certificate has to be valid for `server_name`."""

    host: str
    port: int
    is_secure: bool
    server_name: str

    @property
    def is_forwarded(self) -> bool:
        """Whether another address than the server's own is connected to."""
        return self.host != self.server_name


@dataclass(frozen=True)
class BrokerEndpoint:
    """A broker's addresses of AMQP and of the management API, and the credentials of one user.

    `url` is its own AMQP address, the same from wherever it is reached. `api` None: not reachable. `secret` is where
    the credentials come from.
    """

    name: str
    url: str
    amqp: Address | None
    api: Address | None
    username: str
    password: str = field(repr=False)
    secret: str = ""

    @property
    def is_private(self) -> bool:
        """Whether it is reached by its own address, which only a VPC has."""
        return not is_loopback(urlsplit(self.url).hostname or "")

    @property
    def credentials_hint(self) -> str:
        return f"Check secret {self.secret}: a rotation may be in progress, or have failed."

    def queue_url(self, queue: str) -> str:
        """Names one of its queues: `amqps://host:5671/%2F/queue`."""
        return f"{self.url}/{quote(VHOST, safe='')}/{quote(queue, safe='')}"

    def route_hint(self, scheme: str) -> str:
        """What to do if the address of `amqps` or `https` cannot be reached."""
        if not self.is_private:
            return "Check that the local environment is up: `refinerctl local status`."
        own, local = _own_address(self.url, scheme), PORTS[scheme] + LOCAL_PORT_OFFSET
        parameters = f"host={own.host},portNumber={own.port},localPortNumber={local}"
        return (
            f"The broker is in a VPC. Run this on a runner in it, or forward a port: `aws ssm start-session --target "
            f"INSTANCE --document-name AWS-StartPortForwardingSessionToRemoteHost --parameters {parameters}`, and pass "
            f"--broker-url {scheme}://localhost:{local}. Both URLs, of AMQP (5671) and the management API (443), may "
            "be given, with a comma in between."
        )


def endpoint_of(
    name: str, amqp_url: str, api_url: str, given: str | None, credentials: Sequence[str], secret: str
) -> BrokerEndpoint:
    """The endpoint of a broker whose own addresses are `amqp_url` and `api_url`.

    `given` is --broker-url: one or two URLs that are connected to instead. With TLS the certificate still has to be
    that of the broker's own host, so that a forwarded port leads to this broker and to no other. Raises UsageError for
    invalid URLs, RefinerctlError if the broker's own addresses are invalid.
    """
    try:
        own_amqp, own_api = _parsed(amqp_url, _AMQP), _parsed(api_url, _API)
    except UsageError as error:
        raise RefinerctlError(f"broker {name} has an invalid endpoint: {error.message}") from error
    url = f"{'amqps' if own_amqp.is_secure else 'amqp'}://{own_amqp.host}:{own_amqp.port}"
    username, password = credentials
    found = BrokerEndpoint(name, url, own_amqp, own_api, username, password, secret)
    if not given:
        return found
    amqp, api = _given(given.split(","), own_amqp)
    return replace(found, amqp=amqp, api=api)


def _given(urls: Sequence[str], own: Address) -> tuple[Address | None, Address | None]:
    found: dict[tuple[str, ...], Address] = {}
    for text in urls:
        schemes = _API if urlsplit(text.strip()).scheme in _API else _AMQP
        if schemes in found:
            raise UsageError("--broker-url: two URLs of a kind", hint="Pass one amqps:// and one https:// URL.")
        address = _parsed(text.strip(), schemes)
        if own.is_secure and not address.is_secure:
            raise UsageError(f"--broker-url {text.strip()} is without TLS", hint=f"Use {schemes[0]}://.")
        found[schemes] = replace(address, server_name=own.host)
    return found.get(_AMQP), found.get(_API)


def _parsed(text: str, schemes: Sequence[str]) -> Address:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise UsageError(f"{text!r} is not the URL of a broker") from None
    if url.scheme not in schemes or not url.hostname or url.query or url.fragment:
        raise UsageError(f"{text!r} is not a URL like {schemes[0]}://host:{PORTS[schemes[0]]}")
    if url.username is not None or url.password is not None:  # not printed: it has a password
        raise UsageError("the URL of a broker must not contain credentials", hint="They are read from its secret.")
    is_secure = url.scheme == schemes[0]
    if not is_secure and not is_loopback(url.netloc):
        raise UsageError(f"{text} is without TLS", hint=f"Use {schemes[0]}://; only a loopback address needs none.")
    return Address(url.hostname, port or PORTS[url.scheme], is_secure, url.hostname)


def _own_address(url: str, scheme: str) -> Address:
    own = _parsed(url, _AMQP)
    return own if scheme in _AMQP else replace(own, port=PORTS[scheme])
