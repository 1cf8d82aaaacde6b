"""`refinerctl verify --canary`: upload, follow, remove, for all rulesets at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from refinerctl.app import AppContext
from refinerctl.aws.s3 import S3Bucket
from refinerctl.console import Silent
from refinerctl.errors import RefinerctlError
from refinerctl.inputs.completions import Completions
from refinerctl.inputs.follow import Dlqs, follow
from refinerctl.inputs.upload import UploadSource, send
from refinerctl.insight.verify import canary
from refinerctl.insight.verify.types import CheckResult, PipelineParts, RulesetParts
from refinerctl.parallel import concurrently


def send_canaries(
    app: AppContext, names: PipelineParts, results: Sequence[CheckResult], timeout_s: float, given: Path | None = None
) -> list[CheckResult]:
    """One for each ruleset that has a function and no failed check; with the content of `given`. Their results."""
    with_function = [ruleset for ruleset in names.rulesets if ruleset.function]
    reasons = {ruleset.name: canary.blocked(ruleset, results) for ruleset in with_function}
    sent = [ruleset for ruleset in with_function if not reasons[ruleset.name]]
    if sent:
        _announce(app, names, sent)
    flight = _Flight(app, names, uuid4().hex[:12], timeout_s, given)
    with app.render.progress() as progress:
        if sent:
            progress.step("waiting for the canaries")
        try:
            flown = concurrently([partial(flight.result, item) for item in sent], len(sent))
        except BaseException:
            keys = ", ".join(map(flight.key_of, sent))
            app.render.warning(f"what was sent may still be in bucket {names.bucket}: {keys}")
            raise
    return [*flown, *(canary.skipped(item, reason) for item in with_function if (reason := reasons[item.name]))]


def _announce(app: AppContext, names: PipelineParts, sent: Sequence[RulesetParts]) -> None:
    app.render.note(f"sending a canary through {', '.join(ruleset.name for ruleset in sent)}")
    downstream = [
        item.queue for item in names.rulesets if not item.function and names.complete_prefix.startswith(item.prefix)
    ]
    for queue in downstream:
        app.render.note(f"{queue} gets {len(sent)} message{'s' * (len(sent) != 1)} of it, for whoever comes downstream")


@dataclass(frozen=True)
class _Flight:
    """One run's canaries, known by their mark."""

    app: AppContext
    names: PipelineParts
    mark: str
    timeout_s: float
    given: Path | None = None

    def key_of(self, ruleset: RulesetParts) -> str:
        return canary.key_of(ruleset, self.mark, self.given.suffix if self.given else ".txt")

    def result(self, ruleset: RulesetParts) -> CheckResult:
        try:
            return self._send(ruleset)
        except RefinerctlError as error:
            return canary.broken_off(ruleset, self.key_of(ruleset), error)

    def _send(self, ruleset: RulesetParts) -> CheckResult:
        app, names = self.app, self.names
        bucket = S3Bucket(app.session, names.bucket)
        completions = Completions(bucket, replace(app.storage, complete_prefix=names.complete_prefix), app.stack)
        began = time.monotonic()
        with TemporaryDirectory(prefix="refinerctl-canary-") as folder:
            file = Path(folder) / "canary"
            content = self.given.read_bytes() if self.given else canary.content_of(ruleset, self.mark)
            file.write_bytes(content)
            source = UploadSource(self.key_of(ruleset), file, len(content))
            uploads = send(bucket, [source], Silent())
        (item,) = follow(
            completions,
            uploads,
            existing={},
            prefix=ruleset.prefix,
            timeout_s=self.timeout_s,
            progress=Silent(),
            dlqs=Dlqs(app.queues, lambda _key: ruleset.dlq, names.bucket),
        )
        elapsed_s = time.monotonic() - began
        return canary.judge(ruleset, item, elapsed_s, canary.remove(app.bucket_versions, names.bucket, item))
