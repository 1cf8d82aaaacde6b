"""One job: from a message to its outputs and its completion in S3."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rnr_common.log import Logger, describe_error
from rnr_common.message import MalformedMessageError, WorkMessage
from rnr_common.trace_context import child_traceparent
from worker.consumer import Delivery, Outcome
from worker.program import ProgramError, ProgramStoppedError, run_program
from worker.settings import Settings
from worker.storage import NoObjectError, Source, Storage

_LONGEST_KEY = 1024  # bytes, S3's limit


class HopelessError(Exception):
    """A message that no further delivery can help: it goes to the DLQ at once."""


@dataclass(frozen=True)
class _Attempt:
    """One delivery that is worked on."""

    message: WorkMessage
    name: str
    traceparent: str
    number: int
    kill: threading.Event
    log: Logger


class Job:
    """Does the work of a delivery, and says how to settle its message. Raises nothing."""

    def __init__(self, settings: Settings, storage: Storage, log: Logger) -> None:
        self._settings, self._storage, self._log = settings, storage, log

    def __call__(self, delivery: Delivery, kill: threading.Event) -> Outcome:
        """Process the input of a message; `kill` ends it early. It may be acknowledged only after all is in S3."""
        began = time.monotonic()
        headers = delivery.properties.headers or {}
        traceparent = child_traceparent(headers.get("traceparent"))
        count = delivery.receive_count
        log = self._log.child(messageId=delivery.properties.message_id, traceparent=traceparent)
        outcome = Outcome.DONE
        failure: Exception | None = None
        try:
            message = WorkMessage.parse(delivery.body)
            log = log.child(bucket=message.bucket, key=message.key)
            log.info("record received", versionId=message.version_id, receiveCount=count)
            ignored = self._process(_Attempt(message, self._name(message), traceparent, count, kill, log))
            if ignored:
                log.info("record ignored", reason=ignored)
            else:
                log.info("record done", durationMs=_ms_since(began))
        except ProgramStoppedError as error:
            outcome = Outcome.RETURN
            log.warn("record returned", reason=str(error), durationMs=_ms_since(began), receiveCount=count)
        except (MalformedMessageError, HopelessError) as error:
            outcome, failure = Outcome.REJECT, error
        except Exception as error:  # of S3, of the disk, of the program: the next delivery may succeed
            outcome, failure = Outcome.RETRY, error
        if failure:
            fields = {"durationMs": _ms_since(began), "receiveCount": count, "outcome": outcome.value}
            log.error("record failed", error=_described(failure), **fields)
        return outcome

    def _name(self, message: WorkMessage) -> str:
        """Return the input's name below the prefix, from which all keys are derived."""
        settings = self._settings
        if message.bucket != settings.input_bucket:
            raise HopelessError(f"bucket {message.bucket} is not the input bucket {settings.input_bucket}")
        if not message.key.startswith(settings.input_prefix):
            raise HopelessError(f"the key is not below {settings.input_prefix}")
        name = message.key.removeprefix(settings.input_prefix)
        longest = f"{max(settings.output_prefix, settings.complete_prefix, key=len)}{name}.json"
        if len(longest.encode()) > _LONGEST_KEY:
            raise HopelessError(f"the key is so long that its completion's would have more than {_LONGEST_KEY} bytes")
        return name

    def _process(self, attempt: _Attempt) -> str | None:
        """Process the input and write its completion; return why nothing was to be done, or None."""
        message = attempt.message
        if not attempt.name or attempt.name.endswith("/"):
            if message.size:
                raise HopelessError("the key ends in a slash: no output can be named after it")
            return "folder"
        completed_etag = self._storage.completed_etag(attempt.name)
        if completed_etag == message.etag:
            return "already completed"
        started_at = _now()
        with tempfile.TemporaryDirectory(prefix="rnr-", ignore_cleanup_errors=True) as folder:
            input_file, output_folder = _folders(Path(folder), attempt.name)
            try:
                source = self._storage.download(message.bucket, message.key, input_file)
            except NoObjectError:
                raise HopelessError("the object does not exist any more") from None
            if source.etag == completed_etag:  # overwritten since, and that is completed
                return "already completed"
            self._run(attempt, input_file, output_folder)
            metadata = self._metadata(attempt, source)
            outputs = self._storage.upload_outputs(attempt.name, _files(output_folder), metadata)
        for output in outputs:
            attempt.log.info("output written", outputKey=output.key, bytes=output.size)
        completion = {
            "status": "completed",
            "input": {
                "bucket": message.bucket,
                "key": message.key,
                "version_id": source.version_id,
                "etag": source.etag,
                "size": source.size,
            },
            "outputs": [{"key": output.key, "etag": output.etag, "size": output.size} for output in outputs],
            "processor": self._settings.processor.name,
            "traceparent": attempt.traceparent,
            "attempt": attempt.number,
            "started_at": started_at,
            "finished_at": _now(),
        }
        key = self._storage.write_completion(attempt.name, completion, metadata)
        attempt.log.info("completion written", completionKey=key, versionId=source.version_id)
        return None

    def _run(self, attempt: _Attempt, input_file: Path, output_folder: Path) -> None:
        folder = input_file.parent.parent
        environ = {
            **os.environ,
            **self._settings.processor.environ,
            "TMPDIR": str(folder),
            "TRACEPARENT": attempt.traceparent,
            "RNR_INPUT_KEY": attempt.message.key,
        }
        argv = [*self._settings.processor.argv, str(input_file), str(output_folder)]
        printed = run_program(argv, folder, environ, self._settings.job_timeout_s, attempt.kill)
        if printed:
            attempt.log.debug("processor output", output=printed)

    def _metadata(self, attempt: _Attempt, source: Source) -> dict[str, str]:
        message = attempt.message
        return {
            "source-version": source.version_id or source.etag,
            "source-event-version": message.version_id or message.etag,
            "source-bucket-key": f"{message.bucket}/{message.key}",
            "traceparent": attempt.traceparent,
        }


def _folders(folder: Path, name: str) -> tuple[Path, Path]:
    """Return where the input and where the outputs are to be; the input keeps its name if a file can have it."""
    base = name.rpartition("/")[2]
    if base in (".", "..") or "\0" in base or len(base.encode()) > 255:
        base = "input"
    for part in ("input", "output"):
        (folder / part).mkdir()
    return folder / "input" / base, folder / "output"


def _files(folder: Path) -> list[Path]:
    """Return the outputs. A folder is refused: its files' keys could be those of another input's outputs."""
    found = sorted(folder.iterdir())
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise ProgramError(f"{path.name} in the output folder is not a regular file", "")
    if not found:
        raise ProgramError("no file in the output folder", "")
    return found


def _described(error: Exception) -> dict[str, Any]:
    """Return an error's fields; a program's message ends with the last line that it printed."""
    if not isinstance(error, ProgramError):
        return describe_error(error)
    last = error.output.splitlines()[-1:] or [""]
    message = f"{error}: {last[0][:300]}" if last[0] else str(error)
    return {"name": type(error).__name__, "message": message, "output": error.output or None}


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
