"""In-memory stand-ins with the interface of the clients; subclasses, so that mypy holds them to it."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from refinerctl.aws.lambda_ import FunctionConfiguration, Functions, SourceMapping
from refinerctl.aws.logs import LogEvent, LogGroups
from refinerctl.aws.messages import Message
from refinerctl.aws.s3 import ObjectInfo, ObjectVersion, S3Bucket
from refinerctl.aws.s3_upload import OnBytes, Readable
from refinerctl.aws.sqs import Queues, QueueState
from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.inputs.completions import Completions
from refinerctl.stacks import find_stack
from refinerctl.stacks.base import Pipeline, Storage

START = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
STORAGE = Storage("data-repository", "RefinerInput/", "RefinerOutput/", "RefinerComplete/")


class Clock:
    """A clock in place of module `time`: sleeping takes no time, and planned actions happen meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, Callable[[], object]]] = []

    def at(self, second: float, action: Callable[[], object]) -> None:
        self._events.append((second, action))
        self._events.sort(key=lambda item: item[0])

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        end = self.now + max(seconds, 0.001)  # a loop that does not wait must end, too
        while self._events and self._events[0][0] <= end:
            moment, action = self._events.pop(0)
            self.now = max(self.now, moment)
            action()
        self.now = end

    @property
    def wall(self) -> datetime:
        """S3's time: whole seconds."""
        return START + timedelta(seconds=int(self.now))


@dataclass(frozen=True)
class Stored:
    info: ObjectInfo
    content: bytes


class Body(io.BytesIO):
    """An object's body; with `breaks_after` the connection is lost after so many bytes."""

    def __init__(self, content: bytes, breaks_after: int | None = None) -> None:
        super().__init__(content)
        self._breaks_after = breaks_after

    def read(self, size: int | None = -1, /) -> bytes:
        if self._breaks_after is not None:
            if self.tell() >= self._breaks_after:
                raise OSError("connection lost")
            size = min(size if size and size > 0 else self._breaks_after, self._breaks_after)
        return super().read(size)


class FakeBucket(S3Bucket):
    """A bucket, versioned or not, that counts what is asked of it."""

    def __init__(self, clock: Clock | None = None, *, versioned: bool = True, name: str = "data-repository") -> None:
        self.name = name
        self.clock = clock or Clock()
        self.versioned = versioned
        self.requests: Counter[str] = Counter()
        self.denied: set[str] = set()
        self.broken: dict[str, int] = {}
        self.exists = True
        self.page_size = 1000
        self.on_put: Callable[[str], None] = lambda _: None
        self.histories: dict[str, list[ObjectVersion]] = {}
        self._objects: dict[str, Stored] = {}
        self._count = 0
        self._mutex = threading.Lock()

    def write(
        self, key: str, content: bytes | str = b"", metadata: dict[str, str] | None = None, at: datetime | None = None
    ) -> ObjectInfo:
        """Put an object in, as somebody else would."""
        raw = content.encode() if isinstance(content, str) else content
        with self._mutex:
            self._count += 1
            info = ObjectInfo(
                key,
                len(raw),
                f'"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}"',
                at or self.clock.wall,
                f"v{self._count}" if self.versioned else None,
                dict(metadata or {}),
            )
            self._objects[key] = Stored(info, raw)
        return info

    def delete(self, key: str) -> None:
        del self._objects[key]

    def content(self, key: str) -> bytes:
        return self._objects[key].content

    def _ask(self, what: str, key: str) -> Stored | None:
        with self._mutex:
            self.requests[what] += 1
        if key in self.denied:
            raise AccessDeniedError(f"access denied: {what} on s3://{self.name}/{key}")
        return self._objects.get(key)

    def check(self) -> None:
        self.requests["check"] += 1
        if not self.exists:
            raise NotFoundError(f"bucket {self.name!r} does not exist")

    def head(self, key: str) -> ObjectInfo | None:
        found = self._ask("head", key)
        return found.info if found else None

    def versions(self, key: str) -> list[ObjectVersion]:
        if key in self.histories:
            return self.histories[key]
        found = self._ask("versions", key)
        if found is None:
            return []
        info = found.info
        return [ObjectVersion(key, info.version_id, info.last_modified, info.size)]

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for index, key in enumerate(sorted(self._objects)):
            if index % 1000 == 0:
                self.requests["list"] += 1
            if key.startswith(prefix) and key in self._objects:
                info = self._objects[key].info
                # A listing tells neither version nor metadata.
                yield ObjectInfo(info.key, info.size, info.etag, info.last_modified)

    def page(self, prefix: str, after: str = "") -> tuple[list[ObjectInfo], bool]:
        self._ask("page", prefix)
        found = [key for key in sorted(self._objects) if key.startswith(prefix) and key > after]
        infos = [self._objects[key].info for key in found[: self.page_size]]
        listed = [ObjectInfo(info.key, info.size, info.etag, info.last_modified) for info in infos]
        return listed, len(found) > self.page_size

    def read(self, key: str, limit: int | None = None) -> tuple[ObjectInfo, bytes] | None:
        opened = self.open(key)
        return (opened[0], opened[1].read(limit)) if opened else None

    def open(self, key: str) -> tuple[ObjectInfo, Any] | None:
        found = self._ask("get", key)
        return (found.info, Body(found.content, self.broken.get(key))) if found else None

    def put(self, key: str, body: Readable, size: int | None, on_bytes: OnBytes = lambda _: None) -> str | None:
        self._ask("put", key)
        self.on_put(key)
        content = bytearray()
        while chunk := body.read(65536):
            content += chunk
            on_bytes(len(chunk))
        return self.write(key, bytes(content)).version_id


class FakeQueues(Queues):
    """Queues by name, with the messages that are visible in them."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Message]] = {}
        self.states: dict[str, QueueState] = {}
        self.error: RefinerctlError | None = None
        self.requests: Counter[str] = Counter()

    def state(self, name: str) -> QueueState:
        self.requests["state"] += 1
        if name in self.states:
            return self.states[name]
        if self.error:
            raise self.error
        if name not in self.messages:
            raise NotFoundError(f"queue {name} does not exist")
        return QueueState(name, "", 30, 1209600, max_receive_count=5, visible=len(self.messages[name]))

    def find(self, prefix: str) -> None:
        self.requests[f"find {prefix}"] += 1

    def peek_each(self, name: str, take: Callable[[Message], object], limit: int, workers: int = 1) -> int:
        self.requests["peek"] += 1
        self.state(name)
        taken = 0
        for message in self.messages[name][:limit]:
            taken += 1
            if take(message):
                break
        return taken


class FakeLogGroups(LogGroups):
    """Log groups that keep what is put into them and the patterns they are asked for; an error ends a group."""

    def __init__(self, *written: LogEvent) -> None:
        self.lines: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
        self.written = list(written)
        self.errors: dict[str, RefinerctlError] = {}
        self.patterns: list[str | None] = []

    def events(
        self,
        group: str,
        since: datetime,
        pattern: str | None = None,
        *,
        until: datetime | None = None,
        streams: Sequence[str] = (),
    ) -> Iterator[LogEvent]:
        """A pattern has quoted terms that all have to be there; one is enough of those with a question mark."""
        self.patterns.append(pattern)
        found = re.findall(r'(\??)"([^"]+)"', pattern or "")
        terms, options = ([term for mark, term in found if bool(mark) is optional] for optional in (False, True))
        for event in self.written:
            in_time = event.timestamp >= since and (until is None or event.timestamp <= until)
            is_wanted = event.group == group and (not streams or event.stream in streams)
            has_option = not options or any(option in event.message for option in options)
            if in_time and is_wanted and has_option and all(term in event.message for term in terms):
                yield event
        if group in self.errors:
            raise self.errors[group]

    def create_stream(self, group: str, stream: str) -> None:
        self.lines.setdefault((group, stream), [])

    def put(self, group: str, stream: str, lines: Any) -> None:
        self.lines[group, stream].extend(lines)


class FakeFunctions(Functions):
    """Functions by name."""

    def __init__(self, *functions: FunctionConfiguration) -> None:
        self.known = {function.name: function for function in functions}
        self.mapping_states: dict[str, str | None] = {}

    def get(self, name: str) -> FunctionConfiguration:
        if name not in self.known:
            raise NotFoundError(f"function {name} does not exist")
        return self.known[name]

    def mappings(self, function: str) -> tuple[SourceMapping, ...]:
        state = self.mapping_states.get(function, "Enabled")
        return (SourceMapping("mapping", "", state, function),) if state else ()

    def all_mappings(self) -> tuple[SourceMapping, ...]:
        """Each from a queue that is named like the function."""
        found = (mapping for name in self.known for mapping in self.mappings(name))
        return tuple(replace(mapping, queue_arn=f"arn:{mapping.function}") for mapping in found)


@dataclass
class Recorder(Progress):
    """Progress, written down."""

    steps: list[str] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    done: int = 0

    def step(self, text: str) -> None:
        self.steps.append(text)

    def update(self, text: str) -> None:
        self.updates.append(text)

    def advance(self, size: int) -> None:
        self.done += size


def pipeline_of(rulesets: Mapping[str, Any] | None = None) -> Pipeline:
    """Of stack refiner; `rulesets` as the environment's values have them."""
    stack = find_stack("refiner")
    assert stack.pipeline is not None
    return stack.pipeline(stack.settings, {"rulesets": rulesets} if rulesets else {})


def completions_of(bucket: S3Bucket, rulesets: Mapping[str, Any] | None = None) -> Completions:
    return Completions(bucket, STORAGE, find_stack("refiner"), pipeline_of(rulesets))
