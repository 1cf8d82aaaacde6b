"""`refinerctl rnr bucket-policy`."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.s3 import S3Bucket
from refinerctl.errors import DIFFERENCES, RefusedError, UsageError
from refinerctl.options import ask, check_consent, examples, global_options, yes_option
from refinerctl.rnr import STACK
from refinerctl.rnr.grants import SID, Lack, lacks, merged, role_arns, statement
from refinerctl.stacks.base import Bucket


@click.command(
    "bucket-policy",
    epilog=examples(
        "refinerctl rnr bucket-policy --env production > statement.json",
        "refinerctl rnr bucket-policy --check",
        "refinerctl rnr bucket-policy --apply --dry-run",
    ),
)
@click.option("--sid", default=SID, show_default=True, metavar="NAME", help="Sid of the statement.")
@click.option("--check", is_flag=True, help="Show which grants the buckets' policies lack; exit code 5 if any.")
@click.option("--apply", is_flag=True, help="Merge the statement into the buckets' policies.")
@click.option("--dry-run", is_flag=True, help="With --apply: show what would change, and stop.")
@yes_option
@global_options
@click.pass_context
def bucket_policy(ctx: click.Context, sid: str, check: bool, apply: bool, dry_run: bool, yes: bool) -> None:
    """Print the statement that a bucket's owner adds to its policy, so that the stack can use the bucket.

    It allows the roles of producer, workers and post-processing to get, put, delete and list objects. With two buckets
    it prints a policy for each, by the bucket's name. --apply is for owners: it replaces the statement with the same
    Sid, and keeps all others. --check warns about what refinerctl cannot evaluate.
    """
    if check and apply:
        raise UsageError("--check and --apply are mutually exclusive")
    if dry_run and not apply:
        raise UsageError("--dry-run needs --apply")
    if not (sid.isascii() and sid.isalnum()):
        raise UsageError(f"--sid: {sid!r} has other characters than letters and digits")
    if apply and not dry_run:
        check_consent(yes)
    app = app_context(ctx, changes=apply, stack=STACK)
    buckets = list(dict.fromkeys(bucket.name for bucket in app.pipeline.by_kind(Bucket)))
    if not buckets or app.stack.name != STACK:
        raise UsageError(f"the roles of stack {app.stack.name} are not known", hint=f"Pass --stack {STACK}.")
    app.tell_settings()
    roles = role_arns(app.pipeline.name_prefix, app.session.caller())
    if check:
        _check(ctx, app, buckets, roles)
    elif apply:
        _apply(app, buckets, roles, sid, dry_run, yes)
    else:
        policies = {name: _document(statement(name, roles, sid)) for name in buckets}
        app.render.json(policies if len(policies) > 1 else policies[buckets[0]])


def _document(content: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [content]}


def _check(ctx: click.Context, app: AppContext, buckets: list[str], roles: list[str]) -> None:
    found: dict[str, list[Lack]] = {}
    for bucket in buckets:
        found[bucket] = lacks(S3Bucket(app.session, bucket).policy_text(), bucket, roles)
    if app.render.is_json:
        app.render.json({"buckets": {name: [asdict(item) for item in items] for name, items in found.items()}})
    for bucket, items in found.items() if not app.render.is_json else ():
        for item in items:
            role = item.role.rpartition("/")[2]
            app.render.line(f"{bucket}: {item.reason}: {item.action} on {item.resource} for {role}")
        if not items:
            app.render.line(f"{bucket}: the policy grants everything")
    if any(item.reason != "unknown" for items in found.values() for item in items):
        ctx.exit(DIFFERENCES)


def _apply(app: AppContext, buckets: list[str], roles: list[str], sid: str, dry_run: bool, yes: bool) -> None:
    changes: list[tuple[S3Bucket, str | None, str]] = []
    for name in buckets:
        bucket = S3Bucket(app.session, name)
        before = bucket.policy_text()
        after = merged(before, statement(name, roles, sid), name)
        if after == before:
            app.render.note(f"bucket {name} has the statement already")
            continue
        changes.append((bucket, before, after))
        for line in difflib.unified_diff(_lines(before), _lines(after), name, name, lineterm=""):
            app.render.note(line)
    if changes and not dry_run:
        names = " and ".join(bucket.name for bucket, _, _ in changes)
        ask(f"Change the policy of bucket {names} in {app.location}?", yes)
        for bucket, before, after in changes:
            _put(bucket, before, after)
    if app.render.is_json:
        changed = [bucket.name for bucket, _, _ in changes]
        app.render.json({"buckets": buckets, "changed": changed, "dry_run": dry_run, "sid": sid})
    else:
        for bucket, _, _ in changes:
            app.render.line(f"{bucket.name}: the policy {'would be changed' if dry_run else 'is changed'}")


def _put(bucket: S3Bucket, before: str | None, after: str) -> None:
    """S3 has no conditional change of a policy: it is read again just before, and must be the one that was shown."""
    if bucket.policy_text() != before:
        raise RefusedError(
            f"the policy of bucket {bucket.name} has been changed meanwhile", hint="Run the command again."
        )
    bucket.put_policy(after)


def _lines(policy: str | None) -> list[str]:
    document: Any = json.loads(policy) if policy else {}
    return json.dumps(document, indent=2, ensure_ascii=False).splitlines()
