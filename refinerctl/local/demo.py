"""`refinerctl demo`."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.s3 import object_event
from refinerctl.errors import RefinerctlError, RefusedError, TimedOutError, UsageError
from refinerctl.inputs.completions import completions_of
from refinerctl.inputs.follow import Upload, UploadStatus, follow
from refinerctl.inputs.outputs import read_outputs
from refinerctl.inputs.poll import PolledCompletion, Poller, completion_json, show_completion
from refinerctl.inputs.upload import UploadSource, send, upload_json
from refinerctl.insight.trace import Hop, hop_table, hops_of, with_elapsed
from refinerctl.insight.trace_search import trace_input
from refinerctl.local.launcher import Launch, stopped_afterwards
from refinerctl.local.up import bring_up, engine_option
from refinerctl.options import examples, global_options

INPUT_NAME = "helloworld.txt"
INPUT = b"Hello, world!\n"
COMPLETION_SECONDS = 60.0


@click.command(epilog=examples("refinerctl demo", "refinerctl demo --output json | jq .completion"))
@engine_option
@global_options
@click.pass_context
def demo(ctx: click.Context, engine: str) -> None:
    """Run the pipeline end to end once: start it, upload an input, print its completion and trace, stop it.

    The demo starts its own local environment and does not touch the one that `local up` started.
    """
    # The input is created in the environment's folder, too, so that nothing is written elsewhere.
    app = app_context(ctx, instance_name="demo", env="local")
    flags = ctx.find_root().obj
    if flags is not None and (flags.endpoint_url or flags.bucket):
        raise UsageError("the demo has its own endpoint and bucket", hint="Omit --endpoint-url and --bucket.")
    prefix = app.storage.input_prefix
    if app.instance.status().state != "down":
        raise RefusedError("another demo is running", hint="Wait until it ends.")
    began = time.monotonic()
    with app.render.progress() as progress:
        bring_up(app, Launch(engine, attached=True), progress)
    with stopped_afterwards(app.instance):
        item = _upload(app, prefix + INPUT_NAME)
        completion = Poller(completions_of(app), read_outputs(app.results, 1024 * 1024)).get(item.completion_key or "")
        _show(app, item, completion, _hops(app, item))
        app.render.note("stopping the local environment")
    app.render.note(f"done in {time.monotonic() - began:.0f} s")


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
    for line in hop_table(hops):
        app.render.line(line)
