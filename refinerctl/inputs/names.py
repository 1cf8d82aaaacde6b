"""Resolves the names of inputs and prefixes on a command line.

The name of an input is its key, with or without leading slash, `s3://bucket/key`, or its name below the prefix of a
stage. The name of a prefix is the prefix itself or its stage's name.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from refinerctl.errors import AccessDeniedError, UsageError, known_names
from refinerctl.keys import check_key, normalize_prefix
from refinerctl.parallel import attempt, concurrently

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.stacks.base import Stage

THREADS = 16
# Limits of a search among the keys of inputs.
MAX_PREFIXES = 100
MAX_LISTED = 1000
MAX_NEAR = 5


def input_prefix(app: AppContext, text: str) -> str:
    """The prefix of the stage `text`, or the prefix `text`. Raises UsageError, with the stages as hint, for neither."""
    stages = _stages(app)
    stage = app.pipeline.find_stage(text) if stages else None
    if stage is not None and stage.prefix:
        return stage.prefix
    try:
        return normalize_prefix(text)
    except UsageError as error:
        known = known_names(text, (item.name for item in stages if item.prefix), "Stages")
        raise UsageError(error.message, hint=f"{error.hint} {known}") from None


def input_key(app: AppContext, text: str, prefix: str | None = None) -> str:
    """The key of the input that `text` names; `prefix` is the prefix of its stage, or the stage's name.

    Without `prefix`, text that is not below the prefix of a stage is the name of an existing input below one. If none
    or several exist, it is the name of the input below the stack's input prefix, where `upload` writes. Raises
    UsageError if several exist, but not that one.
    """
    bare = below_bucket(text, app.bucket.name).removeprefix("/")
    if prefix is not None:
        below = input_prefix(app, prefix)
        return check_key(bare if bare.startswith(below) else below + bare)
    check_key(bare)
    stages = _stages(app)
    if not stages or app.pipeline.stage_for(bare) is not None:
        return bare
    found = _existing(app, bare)
    default = app.storage.input_prefix + bare
    if len(found) > 1 and found[0] not in (bare, default):
        raise UsageError(f"several inputs are named {bare}", hint=f"Pass the key of one: {', '.join(found)}.")
    others = f"; other inputs named {bare}: {', '.join(found[1:])}" if found[1:] else ""
    if others or (found and found[0] not in (bare, default)):
        app.render.note(f"using {found[0]}{others}")
    return next(iter(found), bare if "/" in bare else default)


def _existing(app: AppContext, name: str) -> list[str]:
    """Keys of existing objects: `name` itself, and `name` below the prefixes of stages that have inputs."""
    prefixes = dict.fromkeys((app.storage.input_prefix, *(stage.prefix or "" for stage in _receiving(app))))
    keys = [name, *(prefix + name for prefix in islice(prefixes, MAX_PREFIXES))]
    answers = concurrently([partial(attempt, partial(app.bucket.head, key)) for key in keys], THREADS)
    for answer in answers:
        # Without s3:ListBucket, S3 denies access to what does not exist.
        if answer.error is not None and not isinstance(answer.error, AccessDeniedError):
            raise answer.error
    return [key for key, answer in zip(keys, answers, strict=True) if answer.value is not None]


def below_stages(app: AppContext, name: str) -> list[tuple[Stage, str]]:
    """The stages with inputs whose names below the stage's prefix begin with `name`, each with the prefix of these."""
    places = [(stage, f"{stage.prefix}{name}") for stage in _receiving(app)[:MAX_PREFIXES]]
    pages = concurrently([partial(app.bucket.page, below) for _, below in places], THREADS)
    return [place for place, (infos, _) in zip(places, pages, strict=True) if infos]


def near_keys(app: AppContext, key: str) -> list[str]:
    """Keys of inputs that are similar to `key`, from a limited number of keys of its stage.

    First those with the same file name in another folder, then others, the most similar first.
    """
    from difflib import get_close_matches

    stage = app.pipeline.stage_for(key)
    prefix = stage.prefix if stage is not None and stage.prefix else app.storage.input_prefix
    name = key.removeprefix(prefix)
    # Most typos are not at the beginning: first the keys with the same beginning, then all.
    starts = dict.fromkeys((prefix + name[: len(name) // 2], prefix))
    keys = {info.key: None for start in starts for info in islice(app.bucket.objects(start), MAX_LISTED)}
    names = [item.removeprefix(prefix) for item in keys]
    moved = [item for item in names if item.rpartition("/")[2] == name.rpartition("/")[2]]
    found = dict.fromkeys([*moved[:MAX_NEAR], *get_close_matches(name, names, n=MAX_NEAR, cutoff=0.6)])
    return [prefix + item for item in found][:MAX_NEAR]


def below_bucket(key: str, bucket: str) -> str:
    """The key in `s3://bucket/key`, as other tools write it, or `key` itself."""
    if not key.startswith("s3://"):
        return key
    named, _, rest = key.removeprefix("s3://").partition("/")
    if named != bucket:
        raise UsageError(f"{key} is not in bucket {bucket}, which the stack uses")
    return rest


def _stages(app: AppContext) -> tuple[Stage, ...]:
    return app.pipeline.stages if app.stack.pipeline else ()


def _receiving(app: AppContext) -> list[Stage]:
    return [stage for stage in _stages(app) if stage.prefix and stage.consumer is not None]
