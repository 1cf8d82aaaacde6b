"""How to connect to the RabbitMQ broker."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping

import pika

from rnr_common.addresses import server_address
from rnr_common.secret import Secret

HEARTBEAT_S = 60
logging.getLogger("pika").setLevel(logging.CRITICAL)  # its errors are raised, too; logs are lines of JSON


class Broker:
    """The broker's address of RNR_BROKER_URL, and the credentials of RNR_BROKER_SECRET."""

    def __init__(self, environ: Mapping[str, str], secret: Secret | None = None) -> None:
        self.address = environ["RNR_BROKER_URL"]
        self._parts = server_address("RNR_BROKER_URL", self.address, "amqps", "amqp")
        self._ca_file = environ.get("RNR_BROKER_CA_FILE") or None
        self._name = environ["RNR_NAME"]
        self.secret = secret or Secret(environ["RNR_BROKER_SECRET"])
        self.queue = environ["RNR_QUEUE"]

    def parameters(self, client: str) -> pika.ConnectionParameters:
        """Return pika's parameters for one attempt to connect; `client` is the name in the broker's list.

        After `ProbableAuthenticationError` call `secret.forget()` and try again: the password may have been rotated.
        """
        host, secure = str(self._parts.hostname), self._parts.scheme == "amqps"
        context = ssl.create_default_context(cafile=self._ca_file) if secure else None
        return pika.ConnectionParameters(
            host=host,
            port=self._parts.port or (5671 if secure else 5672),
            credentials=pika.PlainCredentials(self.secret["username"], self.secret["password"], erase_on_connect=True),
            ssl_options=pika.SSLOptions(context, host) if context else None,
            heartbeat=HEARTBEAT_S,
            blocked_connection_timeout=HEARTBEAT_S,
            socket_timeout=10,
            stack_timeout=20,
            connection_attempts=1,
            client_properties={"connection_name": f"{self._name}-{client}"},
        )
