"""Names that a shell completes: of stages, queues, images and releases. Nothing here fails or takes long.

Names are cached in files of the user's cache folder. If they are out of date, a child process reads them again; the
shell waits at most a second for it, and otherwise gets the cached names.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click
from click.shell_completion import BashComplete

from refinerctl.app import AppContext
from refinerctl.config import GlobalFlags, config_path
from refinerctl.errors import FatalError
from refinerctl.options import Decorated

ReadNames: TypeAlias = Callable[[AppContext], Iterable[str]]
Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]

WAIT_S = 1.0
# Seconds after which names from servers are read again, and the time limit of the process that reads them.
MAX_AGE_S = 300
MAX_READ_S = 20
MAX_NAMES = 500


class BashWords(BashComplete):
    """bash splits `--env=lab` into three words, and click would take the second one for the value."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], incomplete.removeprefix("=")


def _stages(app: AppContext) -> Iterable[str]:
    return (stage.name for stage in app.pipeline.stages)


def _prefixes(app: AppContext) -> Iterable[str]:
    """The prefixes of the stages."""
    return (stage.prefix for stage in app.pipeline.stages if stage.prefix)


def _dlqs(app: AppContext) -> Iterable[str]:
    """The stages that have a DLQ, then the DLQs."""
    found = [stage for stage in app.pipeline.stages if stage.dlq]
    queues = (queue for stage in app.pipeline.stages for queue in (stage.dlq, stage.delivery_dlq) if queue)
    return (*(stage.name for stage in found), *(queue.name for queue in queues))


def _stage_queues(app: AppContext) -> Iterable[str]:
    """The stages' own queues."""
    return (stage.queue.name for stage in app.pipeline.stages if stage.queue)


def _images(app: AppContext) -> Iterable[str]:
    """The images of refinerctl.toml."""
    return (image.name for image in app.settings.images)


def _published_tags(app: AppContext) -> Iterable[str]:
    """The tags of the stack's images where releases are published."""
    sources = {image.source for image in app.settings.images if image.source and image.stack == app.settings.stack}
    clients = ((app.registries.client(source.registry or "docker.io"), source.repository) for source in sources)
    return _newest_first(tag for client, name in clients for tag in client.repository(name).tags())


def _ecr_tags(app: AppContext) -> Iterable[str]:
    """The tags of the stack's images in ECR."""
    names = {image.repository for image in app.settings.images if image.stack == app.settings.stack}
    return _newest_first(tag for name in names for image in app.ecr.images(name) for tag in image.tags)


def _deployed_tags(app: AppContext) -> Iterable[str]:
    """The tags of the releases in the ledger, the latest first."""
    return (release.tag for release in reversed(app.ledger.read()) if release.tag)


def _newest_first(tags: Iterable[str]) -> list[str]:
    from refinerctl.images import newest_first

    return newest_first(list(set(tags)))


_FROM_FILES: Mapping[str, ReadNames] = {
    "stage": _stages,
    "prefix": _prefixes,
    "dlq": _dlqs,
    "queue": _stage_queues,
    "image": _images,
}
_FROM_SERVERS: Mapping[str, ReadNames] = {
    "published-tag": _published_tags,
    "ecr-tag": _ecr_tags,
    "deployed-tag": _deployed_tags,
}


def _completing(kind: str) -> Complete:
    """Return a function that completes names of this kind."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        with contextlib.suppress(Exception):
            names = _cached(AppContext(ctx.find_root().obj or GlobalFlags()), kind)
            # Completion scripts split names at white space.
            return [name for name in names if name.startswith(incomplete) and name.split() == [name]]
        return []

    return complete


# Functions for `shell_complete` of options and arguments.
complete_stage = _completing("stage")
complete_prefix = _completing("prefix")
complete_dlq = _completing("dlq")
complete_queue = _completing("queue")
complete_image = _completing("image")
complete_published_tag = _completing("published-tag")
complete_ecr_tag = _completing("ecr-tag")
complete_deployed_tag = _completing("deployed-tag")


def stages_option(help_text: str) -> Callable[[Decorated], Decorated]:
    """The option --stage, also called --ruleset, as parameter `names`."""
    return click.option(
        "--stage",
        "--ruleset",
        "names",
        multiple=True,
        metavar="NAME",
        shell_complete=complete_stage,
        help=f"{help_text}; repeatable.",
    )


def _cached(app: AppContext, kind: str) -> list[str]:
    """The names of a kind. Names from the project's files are read and cached together."""
    settings = app.settings
    reads = {kind: _FROM_SERVERS[kind]} if kind in _FROM_SERVERS else _FROM_FILES
    stamp = [int(time.time() // MAX_AGE_S)] if kind in _FROM_SERVERS else _state_of_files(app)
    about = (settings.project.resolve(), settings.env, settings.stack, settings.endpoint_url, *_account(app), *reads)
    file = _cache_folder() / f"{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}.json"
    known = _load(file)
    if known.get("stamp") != stamp:
        _refresh(file, {**known, "stamp": stamp}, {name: partial(read, app) for name, read in reads.items()})
        known = _load(file)
    return [str(name) for name in known.get(kind, [])]


def _account(app: AppContext) -> tuple[str | None, ...]:
    """The settings that select the account and region of AWS."""
    settings = app.settings
    return settings.profile or os.environ.get("AWS_PROFILE"), settings.region, settings.assume_role


def _cache_folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(given) if given.startswith("/") else Path.home() / ".cache"
    return folder / "refinerctl" / "names"


def _state_of_files(app: AppContext) -> list[Any]:
    """A value that changes with the files that have the names."""
    settings = app.settings
    module = settings.layout.root_module(settings.stack)
    files = [config_path(os.environ, Path.cwd()), settings.layout.values_file(settings.env, settings.stack)]
    found = []
    for file in (*files, *sorted([*module.glob("*.tf"), *module.glob("*.tf.json")])):
        with contextlib.suppress(OSError):
            state = file.stat() if file else None
            found.append(state and [state.st_mtime_ns, state.st_size])
    return found


def _load(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refresh(file: Path, known: dict[str, Any], reads: Mapping[str, Callable[[], Iterable[str]]]) -> None:
    """Read names in a child process, and wait at most WAIT_S for it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _read_alone(file, known, reads)
        finally:
            os._exit(0)
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.01)


def _read_alone(file: Path, known: dict[str, Any], reads: Mapping[str, Callable[[], Iterable[str]]]) -> None:
    """In a process that the shell does not wait for: write `known` with the names that can be read."""
    from refinerctl.files import replacing

    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(MAX_READ_S)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if another process is reading them
        for kind, read in reads.items():
            with contextlib.suppress(Exception, FatalError):  # such as no network: the next Tab does not retry
                known[kind] = list(dict.fromkeys(read()))[:MAX_NAMES]
        with replacing(file, private=True) as temporary:
            temporary.write_text(json.dumps(known), encoding="utf-8")
