"""Takes messages of the work queue and settles them; the work itself is done on another thread.

The thread that calls `run` owns the connection, the channel and the task's protection, and does nothing that takes
long: heartbeats go on during hours of work. One other thread does the jobs, one after the other. It hands results
over in a queue and wakes the first by pika's `add_callback_threadsafe`.
"""

from __future__ import annotations

import contextlib
import enum
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ConnectionWrongStateError, ProbableAuthenticationError

from rnr_common import topology
from rnr_common.broker import Broker
from rnr_common.log import Logger, describe_error
from worker.protection import TaskProtection
from worker.settings import Settings, SettingsError, refuse_longer_jobs

TICK_S = 0.5
STEP_S = 0.05  # how often `_step` runs while messages arrive
SHORT_JOB_S = 0.001
IDLE_POLL_S = 1.0  # how often an idle worker asks for the number of messages
IDLE_S = 5.0  # protection is kept so long after the last message
_LONGEST_RECONNECT_S = 30.0
_LONGEST_RETRY_S = 60.0
STABLE_S = 5.0  # after a connection that lasted so long the pauses are short again


class Outcome(enum.Enum):
    """How a message is settled."""

    DONE = "acknowledged"
    RETRY = "requeued after a pause"
    RETURN = "requeued at once"
    REJECT = "rejected"  # to the DLQ


@dataclass(frozen=True, eq=False)
class Delivery:
    """A message in the hands of this worker, until it is settled on its channel."""

    channel: BlockingChannel
    tag: int
    properties: pika.BasicProperties
    body: bytes

    @property
    def receive_count(self) -> int:
        """How often the message was delivered, this time included."""
        return int((self.properties.headers or {}).get("x-delivery-count") or 0) + 1


Work = Callable[[Delivery, threading.Event], Outcome]  # raises nothing; the event: the worker stops, end the job


class _ChannelClosedError(Exception):
    """The broker closed the channel, not the connection."""


class Consumer:
    """One worker: `run` returns after `stop`, when nothing is in hand any more or the stop timeout is over."""

    def __init__(self, broker: Broker, settings: Settings, work: Work, protection: TaskProtection, log: Logger) -> None:
        self._broker, self._settings, self._work, self._protection, self._log = broker, settings, work, protection, log
        self._waiting: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Delivery, Outcome]] = queue.SimpleQueue()
        self._in_hand = 0  # deliveries that wait, are worked on, or have a result that is not settled
        self._connection: pika.BlockingConnection | None = None
        self._wake_pending = False
        self._stop_requested = False
        self._stop_deadline = 0.0
        self._active_at = self._polled_at = self._connected_at = 0.0
        self._stopping = threading.Event()  # no new job, no pause
        self._kill_job = threading.Event()  # the job in hand does not fit in the stop timeout

    def stop(self) -> None:
        """Ask `run` to return. A signal handler may call it: it takes no lock."""
        self._stop_requested = True

    def run(self) -> None:
        """Consume until `stop`; connect again whenever the connection is lost. Raises `SettingsError`."""
        thread = threading.Thread(target=self._do_jobs, name="jobs", daemon=True)
        thread.start()
        attempt = 0
        while not self._finished():
            try:
                self._serve()
            except SettingsError:
                raise
            except (
                Exception
            ) as error:  # whatever it is: the secret, DNS, TLS, the broker. The next attempt may succeed.
                if self._connection and time.monotonic() - self._connected_at > STABLE_S:
                    attempt = 0
                self._lost(error, attempt)
                attempt += 1
        self._protection.release()
        self._waiting.put(None)

    def _lost(self, error: Exception, attempt: int) -> None:
        """Log why there is no connection, and wait. The broker delivers again what was in hand; a job continues."""
        if isinstance(error, ProbableAuthenticationError):
            self._broker.secret.forget()  # the password may have been rotated
        pause_s = min(2.0**attempt, _LONGEST_RECONNECT_S) * random.uniform(0.5, 1)  # noqa: S311 - spreads reconnects
        described = describe_error(error)
        self._log.error("broker connection lost", error=described, pauseMs=round(pause_s * 1000), inHand=self._in_hand)
        self._connection = None
        self._drop_waiting(None)
        if self._in_hand == 0:
            self._protection.release()
        until = time.monotonic() + pause_s
        while time.monotonic() < until and not self._finished():
            self._advance()
            self._settle_results(None)
            time.sleep(min(TICK_S, pause_s))

    def _serve(self) -> None:
        """Consume on one connection until it is lost or the worker has stopped."""
        connection = pika.BlockingConnection(self._broker.parameters("worker"))
        try:
            self._check_limit(connection)
            channel = connection.channel()
            topology.declare(channel, self._broker.queue)
            channel.basic_qos(prefetch_count=self._settings.prefetch)
            self._connection, self._connected_at = connection, time.monotonic()
            self._log.info("broker connected", queue=self._broker.queue)
            _tick(connection)
            while not self._finished():
                self._step(channel)
                until = time.monotonic() + STEP_S
                while True:  # `_step` after each message would take a tenth of the time of short jobs
                    connection.process_data_events(time_limit=None)
                    self._settle_short_job(channel)
                    self._settle_results(channel)
                    if not channel.is_open:
                        raise _ChannelClosedError("the broker closed the channel; its log says why")
                    if self._stop_requested or time.monotonic() > until:
                        break
        finally:
            with contextlib.suppress(AMQPError, OSError):
                connection.close()  # returns what is still in hand

    def _check_limit(self, connection: pika.BlockingConnection) -> None:
        # pika has no public way to the server's properties.
        version = str((connection._impl.server_properties or {}).get("version", "0"))
        refuse_longer_jobs(self._settings, version, topology.CONSUMER_TIMEOUT_MS / 1000)

    def _step(self, channel: BlockingChannel) -> None:
        """Begin to consume if there is work and protection, end it when idle or stopping."""
        self._advance()
        now = time.monotonic()
        if self._stopping.is_set():
            self._end_consuming(channel)
            self._drop_waiting(channel)
            return
        gives_way = self._protection.held_s > self._settings.protection_s
        if gives_way:
            self._end_consuming(channel)
        if self._in_hand:
            return
        if gives_way:  # a deployment, or ECS at the next request for protection, can stop the task now
            self._protection.release()
            self._polled_at = now
        idle = now - self._active_at > IDLE_S
        if channel.consumer_tags:
            if idle:
                self._end_consuming(channel)
                self._protection.release()
        elif now - self._polled_at > IDLE_POLL_S * random.uniform(0.8, 1):  # noqa: S311
            self._polled_at = now
            ready = channel.queue_declare(self._broker.queue, passive=True).method.message_count
            if ready and self._protection.acquire():
                self._active_at = now
                channel.basic_consume(self._broker.queue, self._received)
            elif idle:
                self._protection.release()

    def _advance(self) -> None:
        """Do what is due with and without a connection: renew the protection, and stop when the time is over."""
        self._protection.renew()
        if not self._stop_requested:
            return
        now = time.monotonic()
        reserve_s = min(15.0, self._settings.stop_timeout_s / 4)
        if not self._stopping.is_set():
            self._stopping.set()
            self._stop_deadline = now + self._settings.stop_timeout_s - reserve_s
            self._log.info("stopping", inHand=self._in_hand, stopTimeoutMs=round(self._settings.stop_timeout_s * 1000))
        if now > self._stop_deadline:
            self._kill_job.set()

    def _finished(self) -> bool:
        if not self._stopping.is_set():
            return False
        reserve_s = min(15.0, self._settings.stop_timeout_s / 4)
        return self._in_hand == 0 or time.monotonic() > self._stop_deadline + reserve_s / 2

    def _end_consuming(self, channel: BlockingChannel) -> None:
        for tag in list(channel.consumer_tags):
            channel.basic_cancel(tag)

    def _received(self, channel: BlockingChannel, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self._in_hand += 1
        self._waiting.put(Delivery(channel, method.delivery_tag, properties, body))

    def _drop_waiting(self, channel: BlockingChannel | None) -> None:
        """Return what no job has begun with."""
        with contextlib.suppress(queue.Empty):  # the other thread may have taken the last
            while delivery := self._waiting.get_nowait():
                self._settle(channel, delivery, Outcome.RETURN)

    def _settle_short_job(self, channel: BlockingChannel) -> None:
        """Wait a millisecond for a result: cheaper than to be woken, if jobs are that short."""
        if self._in_hand:
            self._wake_pending = True  # not necessary meanwhile
            with contextlib.suppress(queue.Empty):
                self._settle(channel, *self._results.get(timeout=SHORT_JOB_S))

    def _settle_results(self, channel: BlockingChannel | None) -> None:
        self._wake_pending = False  # before the queue is emptied: a result that comes later wakes again
        while not self._results.empty():
            self._settle(channel, *self._results.get_nowait())

    def _settle(self, channel: BlockingChannel | None, delivery: Delivery, outcome: Outcome) -> None:
        """Tell the broker, if the delivery is of this channel; else the broker has taken the message back already."""
        self._in_hand -= 1
        self._active_at = time.monotonic()
        if delivery.channel is not channel or not channel.is_open:
            message_id = delivery.properties.message_id
            self._log.warn("message will be delivered again", messageId=message_id, reason="its connection was lost")
        elif outcome is Outcome.DONE:
            channel.basic_ack(delivery.tag)
        elif outcome is Outcome.RETURN:
            channel.basic_nack(delivery.tag, requeue=True)
        else:  # since RabbitMQ 4.3 nack does not count towards the delivery limit: retries would have no end
            channel.basic_reject(delivery.tag, requeue=outcome is Outcome.RETRY)

    def _do_jobs(self) -> None:
        """The thread of the jobs."""
        while (delivery := self._waiting.get()) is not None:
            outcome = Outcome.RETURN if self._stopping.is_set() else self._do(delivery)
            if outcome is Outcome.RETRY and delivery.receive_count <= topology.DELIVERY_LIMIT:
                # The message stays in hand meanwhile: a dependency that fails does not use up its deliveries at once.
                pause_s = min(self._settings.retry_delay_s * 2.0 ** (delivery.receive_count - 1), _LONGEST_RETRY_S)
                self._stopping.wait(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads retries
            self._results.put((delivery, outcome))
            connection = self._connection
            if connection and not self._wake_pending:
                self._wake_pending = True
                with contextlib.suppress(ConnectionWrongStateError):
                    connection.add_callback_threadsafe(_wake)

    def _do(self, delivery: Delivery) -> Outcome:
        try:
            return self._work(delivery, self._kill_job)
        except Exception as error:
            # The thread must survive, or the worker would keep its message for ever.
            self._log.error("job failed unexpectedly", error=describe_error(error))
            return Outcome.RETRY


def _tick(connection: pika.BlockingConnection) -> None:
    """End waits for the connection's events every TICK_S: cheaper than a time limit for each wait."""
    connection.call_later(TICK_S, lambda: _tick(connection))


def _wake() -> None:
    """Does nothing: that it is called ends the wait for the connection's events."""
