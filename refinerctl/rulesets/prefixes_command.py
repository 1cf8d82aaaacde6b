"""`refinerctl prefixes`."""

from __future__ import annotations

from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.messages import QueueDepth
from refinerctl.errors import RefinerctlError
from refinerctl.options import global_options
from refinerctl.releases.release import Release, deployed
from refinerctl.rulesets import prefixes as operation
from refinerctl.rulesets.model import RulesetStatus
from refinerctl.tables import table


@click.command()
@global_options
@click.pass_context
def prefixes(ctx: click.Context) -> None:
    """Show the rulesets: configured in the environment's values, deployed by AWS's word, and where these differ."""
    app = app_context(ctx)
    values = app.values_file.read()
    app.render.detail(f"{app.values_file.path}, event bus {values.bus_name}")
    if app.is_down:
        app.render.warning(f"environment {app.settings.env} is down: only what is configured is known")
        found = operation.configured(values)
    else:
        deployment = operation.Deployment(app.event_buses, app.queues, app.functions, lambda: _release(app))
        found = operation.prefixes(values, deployment)
    if app.render.is_json:
        app.render.json({"rulesets": [status_json(item) for item in found]})
        return
    for line in table(
        ["NAME", "PREFIX", "DEPLOYED", "IMAGE", "RELEASE", "QUEUE", "DLQ"], [_row(item) for item in found]
    ):
        app.render.line(line)
    for item in found:
        for difference in item.differs:
            app.render.note(f"{item.names.name}: {difference}")


def _release(app: AppContext) -> Release | None:
    """Without its ledger, everything but the releases is still worth to know."""
    try:
        return deployed(app.ledger.read())
    except RefinerctlError as error:
        app.render.warning(f"which release is in place is not known: {error.message}")
        return None


def _row(item: RulesetStatus) -> list[str]:
    deployed_text = {True: "differs" if item.differs else "yes", False: "no", None: "?"}[item.deployed]
    dead = [depth for depth in (item.dlq_depth, item.delivery_dlq_depth) if depth]
    return [
        item.names.name,
        item.names.prefix,
        deployed_text,
        item.image_uri or "",
        item.release or "",
        str(_count(item.depth)) if item.depth else "",
        str(sum(map(_count, dead))) if dead else "",
    ]


def _count(depth: QueueDepth) -> int:
    return depth.visible + depth.in_flight + depth.delayed


def status_json(item: RulesetStatus) -> dict[str, Any]:
    """A ruleset in the contract's form."""
    names = item.names
    return {
        "name": names.name,
        "prefix": names.prefix,
        "image_uri": item.image_uri,
        "queue": names.queue,
        "dlq": names.dlq,
        "delivery_dlq": names.delivery_dlq,
        "function": names.base if names.has_function else None,
        "configured": item.is_configured,
        "deployed": item.deployed,
        "differs": list(item.differs),
        "deployed_image_uri": item.deployed_image,
        "release": item.release,
        "depth": _depth_json(item.depth),
        "dlq_depth": _depth_json(item.dlq_depth),
        "delivery_dlq_depth": _depth_json(item.delivery_dlq_depth),
    }


def _depth_json(depth: QueueDepth | None) -> dict[str, int] | None:
    return {"visible": depth.visible, "in_flight": depth.in_flight, "delayed": depth.delayed} if depth else None
