"""`refinerctl upload`."""

from __future__ import annotations

from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import Renderer
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, TimedOutError
from refinerctl.inputs import upload as operation
from refinerctl.inputs.types import Upload, UploadSource, UploadStatus
from refinerctl.options import Duration, Prefix, global_options


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--prefix", type=Prefix(), help="Where to put them. [default: the stack's input prefix]")
@click.option("--name", help="The name below the prefix, for one file or for standard input (PATH -).")
@click.option("-r", "--recursive", is_flag=True, help="Upload the files in folders, too.")
@click.option("--wait", is_flag=True, help="Follow each input to its completion.")
@click.option("--timeout", type=Duration(), default="5m", show_default=True, help="How long to wait.")
@click.option("--dry-run", is_flag=True, help="Say what would be uploaded, and stop.")
@global_options
@click.pass_context
def upload(
    ctx: click.Context,
    paths: tuple[str, ...],
    prefix: str | None,
    name: str | None,
    recursive: bool,
    wait: bool,
    timeout: float,
    dry_run: bool,
) -> None:
    """Put inputs into the pipeline; with --wait, follow them to completion.

    PATH is a file, a folder (with --recursive) or - for standard input (with --name). Exit code 1 if an upload or its
    processing failed, 3 if a completion did not come in time.
    """
    app = app_context(ctx)
    below = prefix or app.old_pipeline.input_prefix
    _refuse_results(app, below)
    sources = operation.collect(paths, below, recursive=recursive, name=name)
    if dry_run:
        _show_plan(app, sources)
        return
    app.tell_settings()
    baseline = operation.look_before(app.completions, sources, below) if wait else None
    uploads = _upload(app, sources, below)
    if baseline is not None:
        try:
            uploads = _follow(app, uploads, baseline, below, timeout)
        except BaseException:  # what has been uploaded has been uploaded: its keys and versions are not lost
            _show(app.render, uploads)
            raise
    _show(app.render, uploads)
    _raise_for(app, uploads, below)


def _refuse_results(app: AppContext, prefix: str) -> None:
    """An input among the results would pass for one, for `poll` and for whoever comes downstream."""
    for results in (app.old_pipeline.output_prefix, app.old_pipeline.complete_prefix):
        if prefix.startswith(results):
            raise RefusedError(f"{results} is where the pipeline puts its results, not its inputs")


def _upload(app: AppContext, sources: list[UploadSource], prefix: str) -> list[Upload]:
    sizes = [source.size for source in sources]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    app.render.note(f"uploading {_count(sources)} to s3://{app.bucket.name}/{prefix}")
    with app.render.progress(total) as progress:
        return operation.upload(app.bucket, sources, progress)


def _follow(
    app: AppContext, uploads: list[Upload], baseline: operation.Baseline, prefix: str, timeout_s: float
) -> list[Upload]:
    dead_letters = operation.DeadLetters(app.queues, lambda: f"{app.queue_for(prefix)}-dlq", app.bucket.name)
    with app.render.progress() as progress:
        return operation.follow(
            app.completions,
            uploads,
            baseline,
            prefix=prefix,
            timeout_s=timeout_s,
            progress=progress,
            dead_letters=dead_letters,
        )


def _show_plan(app: AppContext, sources: list[UploadSource]) -> None:
    bucket = app.old_pipeline.bucket
    if app.render.is_json:
        app.render.json(
            {
                "dry_run": True,
                "bucket": bucket,
                "uploads": [{"key": s.key, "path": s.path, "size": s.size} for s in sources],
            }
        )
        return
    for source in sources:
        app.render.line(f"would upload {source.path or '-'} to s3://{bucket}/{source.key}")


def _show(render: Renderer, uploads: list[Upload]) -> None:
    if render.is_json:
        render.json({"uploads": [upload_json(item) for item in uploads]})
        return
    for item in uploads:
        render.line(f"{item.status:<9}  {item.key}  {item.version_id or '-'}")
        if item.completion_key:
            render.line(f"           {item.completion_key}")
        for key in item.outputs:
            render.line(f"           {key}")


def upload_json(item: Upload) -> dict[str, Any]:
    """An upload in the contract's form."""
    return {
        "key": item.key,
        "size": item.size,
        "version_id": item.version_id,
        "status": item.status,
        "completion_key": item.completion_key,
        "outputs": list(item.outputs),
        "error": item.error,
    }


def _raise_for(app: AppContext, uploads: list[Upload], prefix: str) -> None:
    failed = [item for item in uploads if item.status is UploadStatus.FAILED]
    pending = [item for item in uploads if item.status is UploadStatus.PENDING]
    for item in [*failed, *pending]:
        app.render.warning(f"{item.key}: {item.error}")
    if failed:
        raise RefinerctlError(f"{len(failed)} of {_count(uploads)} failed")
    if pending:
        raise TimedOutError(
            f"{len(pending)} of {_count(uploads)} not completed in time", hint=_dead_letters(app, prefix)
        )


def _dead_letters(app: AppContext, prefix: str) -> str | None:
    """Where to look next. Who may not see the queue gets no hint, not another error."""
    queue = app.queue_for(prefix)
    try:
        waiting, dead = app.queues.depth(queue), app.queues.depth(f"{queue}-dlq")
    except NotFoundError:
        return f"There is no queue {queue}: does a ruleset take {prefix}?"
    except RefinerctlError:
        return None
    return f"{queue}: {waiting.visible} waiting, {waiting.in_flight} in flight; {dead.name}: {dead.visible} dead."


def _count(items: list[Any]) -> str:
    return f"{len(items)} input" + ("" if len(items) == 1 else "s")
