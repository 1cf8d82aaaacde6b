"""The demo of a pipeline of functions: one input, its completion, its outputs and its trace."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from refinerctl.app import AppContext
from refinerctl.aws.s3 import object_event
from refinerctl.errors import RefinerctlError, TimedOutError
from refinerctl.inputs.completions import completions_of
from refinerctl.inputs.follow import Upload, UploadStatus, follow
from refinerctl.inputs.outputs import read_outputs
from refinerctl.inputs.poll import PolledCompletion, Poller, completion_json, show_completion
from refinerctl.inputs.upload import UploadSource, send, upload_json
from refinerctl.insight.trace import Hop, hops_of, show_hops, with_elapsed
from refinerctl.insight.trace_search import trace_input

VARIABLES: Mapping[str, Any] = {}
INPUT_NAME = "helloworld.txt"
INPUT = b"Hello, world!\n"
COMPLETION_SECONDS = 60.0


def run(app: AppContext) -> None:
    """Upload an input, print its completion and trace."""
    item = _upload(app, app.storage.input_prefix + INPUT_NAME)
    completion = Poller(completions_of(app), read_outputs(app.results, 1024 * 1024)).get(item.completion_key or "")
    _show(app, item, completion, _hops(app, item))


def _upload(app: AppContext, key: str) -> Upload:
    """Upload the input and follow it to its completion."""
    file = app.instance.temporary / INPUT_NAME
    file.write_bytes(INPUT)
    app.render.note(f"uploading {INPUT_NAME} to s3://{app.bucket.name}/{key}")
    with app.render.progress() as progress:
        uploads = send(app.bucket, [UploadSource(key, file, len(INPUT))], progress)
        progress.step("waiting for its completion")
        (item,) = follow(
            completions_of(app),
            uploads,
            existing={},  # the environment is new
            timeout_s=COMPLETION_SECONDS,
            progress=progress,
        )
    if item.status is not UploadStatus.COMPLETED:
        kind = TimedOutError if item.status is UploadStatus.PENDING else RefinerctlError
        raise kind(f"{item.key}: {item.error}", hint=f"See {app.instance.log('functions')}.")
    return item


def _hops(app: AppContext, item: Upload) -> list[Hop]:
    """Of the input, once its log is complete, and of its completion's message for downstream consumers."""
    downstream = _downstream_hops(app, item)
    deadline = time.monotonic() + COMPLETION_SECONDS
    while True:
        now = datetime.now(UTC)
        facts = trace_input(app, item.key, now - timedelta(hours=1), now, item.version_id)
        if time.monotonic() > deadline or any(attempt.ended for attempt in facts.attempts):
            return with_elapsed([*hops_of(facts), *downstream])
        time.sleep(0.5)


def _downstream_hops(app: AppContext, item: Upload) -> list[Hop]:
    """Receiving the message is harmless here: nothing else reads the demo's queue."""
    stage = app.pipeline.stage_for(item.completion_key or "")
    deadline = time.monotonic() + COMPLETION_SECONDS
    while stage is not None and stage.queue is not None and time.monotonic() < deadline:
        for message in app.queues.peek(stage.queue.name):
            event = object_event(message.body)
            if event is not None and event.key == item.completion_key:
                return [Hop("SQS", f"{stage.queue.name}, for downstream consumers", message.sent_at)]
    return []


def _show(app: AppContext, item: Upload, completion: PolledCompletion | None, hops: list[Hop]) -> None:
    if completion is None:
        raise RefinerctlError(f"completion {item.completion_key} was deleted")
    if app.render.is_json:
        document = {"upload": upload_json(item), "completion": completion_json(completion)}
        app.render.json({**document, "hops": [vars(hop) for hop in hops]})
        return
    if (found := app.results.read(completion.key)) is not None:
        app.render.line(f"==> {completion.key} <==")
        app.render.content(found[1])
    show_completion(app.render, completion)
    app.render.line()
    app.render.line(f"Trace of {item.key}:")
    show_hops(app.render, hops)
