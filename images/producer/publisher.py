"""Publishes with many confirms in flight; pika's blocking connection waits for each of them alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika.exceptions import ProbableAuthenticationError

from rnr_common.broker import Broker
from rnr_common.message import WorkMessage
from rnr_common.topology import declare


class BrokerError(Exception):
    """The broker cannot be reached, or does not take what is published."""


class Publisher:
    """A connection whose loop runs only inside of `open`, `publish` and `close`, in the thread of the caller."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._connection: Any = None
        self._channel: Any = None
        self._closed: BaseException | None = None  # why there is no connection, or no channel
        self._next_tag = 1
        self._unconfirmed: dict[int, str] = {}  # delivery tag → message id, in the order of the tags
        self._returned: dict[str, str] = {}  # message id → why the broker found no queue for it
        self._failures: dict[str, str] = {}

    def open(self, timeout_s: float) -> None:
        """Connect and declare exchanges and queues. A refused login is tried again with the secret as it is now."""
        try:
            self._open(timeout_s)
        except ProbableAuthenticationError:
            self._broker.secret.forget()
            try:
                self._open(timeout_s)
            except ProbableAuthenticationError:
                raise BrokerError(
                    f"the broker refuses the user and password of secret {self._broker.secret.arn}"
                ) from None

    def publish(self, messages: Sequence[tuple[WorkMessage, str]], timeout_s: float) -> dict[str, str]:
        """Publish messages, each with its traceparent, and wait for all confirms.

        Returns why messages failed, by their id. Whether a message without a confirm has reached the queue is unknown.
        """
        self._failures, self._returned = {}, {}
        for number, (message, traceparent) in enumerate(messages, self._next_tag):
            self._unconfirmed[number] = message.claim_id
            if self._closed is None:
                properties = message.properties(traceparent)
                self._channel.basic_publish(
                    self._broker.queue, self._broker.queue, message.body(), properties, mandatory=True
                )
        self._next_tag += len(messages)
        self._run_until(lambda: not self._unconfirmed or self._closed is not None, timeout_s)
        reason = f"no confirm: {_reason(self._closed)}" if self._closed else f"no confirm within {timeout_s:.0f} s"
        self._failures |= dict.fromkeys(self._unconfirmed.values(), reason)
        self._unconfirmed.clear()
        return self._failures

    def close(self) -> None:
        """Close the connection; does nothing if there is none."""
        if self._connection is None:
            return
        # One that is not open yet cannot be closed (pika's assertions fail); its socket is closed with the object.
        if self._connection.is_open:
            self._connection.close()
            self._run_until(lambda: self._connection.is_closed, 5)
        self._connection.ioloop.close()
        self._connection = None

    def _open(self, timeout_s: float) -> None:
        self.close()
        self._closed = None
        self._connection = pika.SelectConnection(
            self._broker.parameters("producer"),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._set_up),
            on_open_error_callback=lambda _, error: self._on_closed(error),
            on_close_callback=lambda _, error: self._on_closed(error),
        )
        self._channel = None
        self._run_until(lambda: self._channel is not None or self._closed is not None, timeout_s)
        if isinstance(self._closed, ProbableAuthenticationError):
            raise self._closed
        if self._channel is None or self._closed is not None:
            reason = _reason(self._closed) if self._closed else f"no answer within {timeout_s:.0f} s"
            raise BrokerError(f"cannot use the broker {self._broker.address}: {reason}")

    def _set_up(self, channel: Any) -> None:
        channel.add_on_close_callback(lambda _, error: self._on_closed(error))
        channel.add_on_return_callback(self._on_return)
        declare(channel, self._broker.queue)
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._on_ready(channel))

    def _on_ready(self, channel: Any) -> None:
        self._channel, self._next_tag = channel, 1
        self._connection.ioloop.stop()

    def _on_closed(self, error: BaseException) -> None:
        self._closed = self._closed or error
        self._connection.ioloop.stop()

    def _on_return(self, _: Any, method: Any, properties: Any, __: bytes) -> None:
        self._returned[properties.message_id] = f"returned: {method.reply_text}"

    def _on_confirm(self, frame: Any) -> None:
        # Tags are confirmed roughly in their order, so the search for those that a frame confirms is short.
        method = frame.method
        tags = [method.delivery_tag]
        if method.multiple:
            tags = [tag for tag in self._unconfirmed if tag <= method.delivery_tag]
        for tag in tags:
            message_id = self._unconfirmed.pop(tag, None)
            if message_id is None:  # too late: `publish` has given it up
                continue
            if isinstance(method, pika.spec.Basic.Nack):
                self._failures[message_id] = "the broker refused it (nack); the queue may be full"
            elif message_id in self._returned:
                self._failures[message_id] = self._returned[message_id]
        if not self._unconfirmed:
            self._connection.ioloop.stop()

    def _run_until(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Run the loop until a callback stops it because it is `done`, or until the time is over."""
        if done():
            return
        loop = self._connection.ioloop
        timer = loop.call_later(timeout_s, loop.stop)
        loop.start()
        loop.remove_timeout(timer)


def _reason(error: BaseException) -> str:
    """Return why a connection failed; pika nests the reason in other exceptions, some of them without a text."""
    while (nested := _nested(error)) is not None:
        error = nested
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _nested(error: BaseException) -> BaseException | None:
    causes = [*getattr(error, "exceptions", ()), getattr(error, "exception", None), *error.args]
    return next((cause for cause in causes if isinstance(cause, BaseException)), None)
