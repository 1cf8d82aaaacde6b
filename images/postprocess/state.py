"""What is merged already: one object in S3 that is only ever replaced by its next version."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from postprocess.tables import Columns

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_RUNS = 50  # ids of committed runs to remember
_LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404", "412", "409"})


class Entry(NamedTuple):
    """A completion that was read: `token` changes if it is written again, `merged` are ids of merged outputs."""

    token: str
    merged: tuple[str, ...]
    bad: bool  # it or one of its outputs was set aside


@dataclass
class State:
    """All completions that exist and were read. `manifest` is the last run's, whose object may not be written yet."""

    seen: dict[str, Entry] = field(default_factory=dict)
    columns: Columns | None = None
    runs: tuple[str, ...] = ()
    manifest: dict[str, Any] | None = None

    def after(
        self, run_id: str, seen: dict[str, Entry], columns: Columns | None, manifest: dict[str, Any] | None
    ) -> State:
        """Return the state that a run commits. A run without a manifest keeps the one before."""
        return State(seen, columns, (*self.runs, run_id)[-_RUNS:], manifest or self.manifest)


class StateStore:
    """The state's object. Its ETag is the condition of the next write."""

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        self._client, self._bucket, self._key = client, bucket, key
        self._etag: str | None = None

    def load(self) -> State:
        """Return the committed state, an empty one if there is none; raises ValueError if it is not readable."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key)
        except self._client.exceptions.NoSuchKey:
            self._etag = None
            return State()
        body, self._etag = answer["Body"].read(), answer["ETag"]
        try:
            found = json.loads(gzip.decompress(body))
            seen = {name: Entry(token, tuple(merged), bad) for name, (token, merged, bad) in found["seen"].items()}
            columns = tuple((name, kind) for name, kind in found["columns"]) if found["columns"] else None
            return State(seen, columns, tuple(found["runs"]), found["manifest"])
        except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
            place = f"s3://{self._bucket}/{self._key}"
            raise ValueError(f"state {place} is not readable ({error!r}). Restore its last version") from error

    def commit(self, state: State) -> bool:
        """Write the state unless another run has since `load`; return whether it is committed."""
        document = {
            "columns": state.columns,
            "runs": state.runs,
            "manifest": state.manifest,
            "seen": state.seen,  # tuples of tuples: lists in JSON
        }
        body = gzip.compress(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), 6, mtime=0)
        condition: Any = {"IfMatch": self._etag} if self._etag else {"IfNoneMatch": "*"}
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _LOST:
                raise
            # The answer to a successful write may have been lost, and the SDK's second attempt was refused.
            return state.runs[-1] in self.load().runs
        return True
