"""One run: finds completions that are new, merges their outputs, commits what it merged."""

from __future__ import annotations

import json
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError

from postprocess.completions import BadFileError, Output, outputs_of, short_hash
from postprocess.state import Entry, State, StateStore
from postprocess.tables import Columns, Merger
from rnr_common.log import Logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STATE_NAME = "state.json.gz"
ATTEMPTS = 4  # to commit, while other runs do
_MOST_COMPLETION_BYTES, _MOST_OUTPUT_BYTES, _MOST_MERGED_BYTES = 2**20, 64 * 2**20, 128 * 2**20
_ORPHAN_AGE = timedelta(hours=1)  # no function runs as long
_RUN_FILE = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{8})\.(csv|parquet|json)")
_GONE = frozenset({"NoSuchKey", "404", "PreconditionFailed", "412"})


class LostRaceError(RuntimeError):
    """Other runs committed each time first."""


@dataclass(frozen=True)
class Settings:
    """Where things are. `columns` are the merged columns; None: those of the first good output."""

    bucket: str
    output_prefix: str
    complete_prefix: str
    merged_prefix: str
    columns: Columns | None = None
    max_completions: int = 5_000
    fetches: int = 8  # completions that are read at the same time


@dataclass(frozen=True)
class Candidate:
    """A completion that is new, or was written again, since it was merged."""

    name: str
    key: str
    etag: str
    modified: datetime
    token: str
    merged: tuple[str, ...] = ()  # ids of outputs that were merged before


@dataclass
class Fetched:
    """A candidate's outputs; `error` if it is no completion; `gone` if it was deleted or written again meanwhile."""

    candidate: Candidate
    outputs: tuple[Output, ...] = ()
    files: dict[Output, BinaryIO | str] = field(default_factory=dict)  # an output's bytes, or why there are none
    error: str | None = None
    gone: bool = False


@dataclass
class Merged:
    """What a run found out: for the state, and for the manifest."""

    seen: dict[str, Entry] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    set_aside: list[dict[str, str]] = field(default_factory=list)


class PostProcess:
    """`remaining_s` says how long the run may still take; `now` is the time."""

    def __init__(
        self,
        client: S3Client,
        settings: Settings,
        log: Logger,
        remaining_s: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client, self._settings, self._log, self._now = client, settings, log, now
        self._remaining_s, self._time_s = remaining_s, remaining_s()
        self._store = StateStore(client, settings.bucket, settings.merged_prefix + STATE_NAME)

    def run(self) -> dict[str, Any]:
        """Return runId (None if nothing is new), merged, setAside, rows, files and remaining (for the next run)."""
        for _ in range(ATTEMPTS):
            state = self._store.load()
            self._finish(state)
            self._remove_orphans(state)
            result = self._attempt(state)
            if result is not None:
                return result
            self._log.warn("lost race", reason="another run committed first; its state is read again")
        raise LostRaceError(f"other runs committed {ATTEMPTS} times first; nothing of this run was kept")

    def _attempt(self, state: State) -> dict[str, Any] | None:
        """Return the result, None if another run committed since the state was read."""
        run_id = f"{self._now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        seen, candidates = self._find(state)
        chosen = candidates[: self._settings.max_completions]
        with tempfile.TemporaryDirectory() as folder:
            merger = Merger(Path(folder), self._settings.columns or state.columns)
            merged = Merged()
            try:
                tried = self._merge(chosen, merger, merged)
                files = self._upload(run_id, merger) if merger.rows else []
            finally:
                merger.close()
        manifest = self._manifest(run_id, merged, merger, files) if merged.inputs or merged.set_aside else None
        if merged.seen:
            after = state.after(run_id, {**seen, **merged.seen}, merger.columns, manifest)
            if not self._store.commit(after):
                self._delete(files)
                return None
            self._finish(after)
        return {
            "runId": run_id if manifest else None,
            "merged": len(merged.inputs),
            "setAside": len(merged.set_aside),
            "rows": merger.rows,
            "files": [*files, self._key(run_id, "json")] if manifest else [],
            "remaining": len(candidates) - tried,
        }

    def _find(self, state: State) -> tuple[dict[str, Entry], list[Candidate]]:
        """Return the entries of completions that still exist, and what is new, the oldest first."""
        changed = self._settings.columns not in (None, state.columns)  # what did not fit before may fit now
        seen, candidates = {}, []
        prefix = self._settings.complete_prefix
        for item in self._list(prefix):
            key, etag, modified = item["Key"], item["ETag"].strip('"'), item["LastModified"]
            if not key.endswith(".json"):
                continue
            name = key[len(prefix) : -len(".json")]
            token, before = short_hash(f"{etag} {modified.isoformat()}"), state.seen.get(name)
            if before:
                seen[name] = before
            if before is None or before.token != token or (before.bad and changed):
                merged = before.merged if before else ()
                candidates.append(Candidate(name, key, etag, modified, token, merged))
        return seen, sorted(candidates, key=lambda found: (found.modified, found.name))

    def _merge(self, chosen: list[Candidate], merger: Merger, merged: Merged) -> int:
        """Return how many of the candidates were tried: the others have to wait for the next run."""
        tried = 0
        with ThreadPoolExecutor(self._settings.fetches) as pool:
            for chunk in _chunks(chosen, self._settings.fetches):
                if self._remaining_s() < max(self._time_s / 4, 20) or merger.size > _MOST_MERGED_BYTES:
                    break
                for fetched in pool.map(self._fetch, chunk):
                    self._add(fetched, merger, merged)
                tried += len(chunk)
        return tried

    def _add(self, fetched: Fetched, merger: Merger, merged: Merged) -> None:
        if fetched.gone:
            return
        candidate, errors = fetched.candidate, dict[str, str]()
        if fetched.error:
            errors[candidate.key] = fetched.error
        for output, file in fetched.files.items():
            error = file if isinstance(file, str) else self._append(merger, output, file)
            if error:
                errors[output.key] = error
        for key, error in errors.items():
            self._log.warn("set aside", key=key, completionKey=candidate.key, reason=error)
            merged.set_aside.append({"key": key, "error": error})
        ids = tuple(output.id for output in fetched.outputs if output.key not in errors)
        merged.seen[candidate.name] = Entry(candidate.token, ids if fetched.outputs else candidate.merged, bool(errors))
        added = [output.key for output in fetched.files if output.key not in errors]
        if added:
            merged.inputs.append({"completion": candidate.key, "etag": candidate.etag, "outputs": added})

    def _append(self, merger: Merger, output: Output, file: BinaryIO) -> str | None:
        """Return why the file is malformed, None if it was appended."""
        with file:
            try:
                merger.add(output.key.removeprefix(self._settings.output_prefix), file)
            except BadFileError as error:
                return str(error)
        return None

    def _fetch(self, candidate: Candidate) -> Fetched:
        fetched = Fetched(candidate)
        try:
            with self._get(candidate.key, candidate.etag, _MOST_COMPLETION_BYTES) as file:
                fetched.outputs = outputs_of(file.read(), self._settings.output_prefix)
        except ClientError as error:
            if _code(error) not in _GONE:
                raise
            fetched.gone = True
        except BadFileError as error:
            fetched.error = str(error)
        for output in fetched.outputs:
            if output.id not in candidate.merged:
                fetched.files[output] = self._output(output)
        return fetched

    def _output(self, output: Output) -> BinaryIO | str:
        try:
            return self._get(output.key, output.etag, _MOST_OUTPUT_BYTES)
        except BadFileError as error:
            return str(error)
        except ClientError as error:
            if _code(error) in ("PreconditionFailed", "412"):
                return f"its ETag is not {output.etag}: it was written again, and its completion was not yet"
            if _code(error) in _GONE:
                return "it does not exist"
            raise

    def _get(self, key: str, etag: str, most: int) -> BinaryIO:
        """Return the bytes of this version of an object; raises BadFileError if there are too many."""
        answer = self._client.get_object(Bucket=self._settings.bucket, Key=key, IfMatch=f'"{etag}"')
        if answer["ContentLength"] > most:
            answer["Body"].close()
            raise BadFileError(f"it has {answer['ContentLength']} bytes; at most {most} are read")
        file: Any = tempfile.SpooledTemporaryFile(max_size=2**20)  # noqa: SIM115 - the caller closes it
        for block in answer["Body"].iter_chunks(2**18):
            file.write(block)
        file.seek(0)
        return file  # type: ignore[no-any-return]

    def _upload(self, run_id: str, merger: Merger) -> list[str]:
        merger.finish()
        keys = [self._key(run_id, "csv"), self._key(run_id, "parquet")]
        self._client.upload_file(str(merger.csv_path), self._settings.bucket, keys[0], {"ContentType": "text/csv"})
        parquet = {"ContentType": "application/vnd.apache.parquet"}
        self._client.upload_file(str(merger.parquet_path), self._settings.bucket, keys[1], parquet)
        return keys

    def _manifest(self, run_id: str, merged: Merged, merger: Merger, files: list[str]) -> dict[str, Any]:
        return {
            "run_id": run_id,
            "at": self._now().isoformat(timespec="seconds"),
            "inputs": merged.inputs,
            "set_aside": merged.set_aside,
            "files": files,
            "rows": merger.rows,
            "columns": merger.columns,
        }

    def _finish(self, state: State) -> None:
        """Write the last run's manifest if it is missing: the run was killed after it had committed."""
        if state.manifest is None:
            return
        body = json.dumps(state.manifest, ensure_ascii=False, indent=1).encode()
        key = self._key(state.manifest["run_id"], "json")
        try:
            self._client.put_object(
                Bucket=self._settings.bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*"
            )
        except ClientError as error:
            if _code(error) not in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                raise

    def _remove_orphans(self, state: State) -> None:
        """Delete files of runs that were killed before they committed."""
        prefix = self._settings.merged_prefix
        start = f"{prefix}{self._now() - timedelta(days=1):%Y%m%dT%H%M%SZ}"
        found: dict[str, dict[str, Any]] = {}
        for item in self._list(prefix, start):
            match = _RUN_FILE.fullmatch(item["Key"].removeprefix(prefix))
            if match and match[1] not in state.runs:
                found.setdefault(match[1], {})[item["Key"]] = item["LastModified"]
        for run_id, files in found.items():
            if self._key(run_id, "json") not in files and max(files.values()) < self._now() - _ORPHAN_AGE:
                self._log.warn("orphans removed", runId=run_id, files=sorted(files))
                self._delete(files)

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                self._client.delete_object(Bucket=self._settings.bucket, Key=key)
            except ClientError as error:  # without a manifest the file does no harm
                self._log.warn("merged file left behind", key=key, reason=str(error))

    def _list(self, prefix: str, start_after: str = "") -> Iterator[Any]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._settings.bucket, Prefix=prefix, StartAfter=start_after
        )
        for page in pages:
            yield from page.get("Contents", ())

    def _key(self, run_id: str, suffix: str) -> str:
        return f"{self._settings.merged_prefix}{run_id}.{suffix}"


def _chunks(items: list[Candidate], size: int) -> Iterator[list[Candidate]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]
