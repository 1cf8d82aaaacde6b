"""`refinerctl add-prefix`."""

from __future__ import annotations

import os
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import ImageReference
from refinerctl.options import Prefix, global_options
from refinerctl.releases.pins import PinRequest, pin_images
from refinerctl.releases.release import deployed
from refinerctl.rulesets import add_prefix as operation
from refinerctl.rulesets.model import RULES_PER_BUS
from refinerctl.rulesets.ruleset_edits import carry_out_edit, edit_options, read_options
from refinerctl.stacks.base import StageImage

_ANOTHER_IMAGE = "Copy it to ECR first (refinerctl sync), or give another; --no-check-image goes ahead all the same."

# By the stack's names.
_FUNCTION_SETTINGS = {
    "memory_mb": "--memory",
    "timeout_s": "--timeout",
    "batch_size": "--batch-size",
    "max_concurrency": "--max-concurrency",
    "architecture": "--architecture",
    "environment": "--env-var",
}


@click.command("add-prefix")
@click.argument("prefix", type=Prefix())
@click.option("--image-uri", metavar="URI", help="[REGISTRY/]REPOSITORY[:TAG|@DIGEST] of the function's image.")
@click.option("--completion", is_flag=True, help="A queue without a function, for whoever comes downstream.")
@click.option("--name", help="The ruleset's name. [default: after the prefix, team/MyNew/ → team-MyNew]")
@click.option(
    "--memory", "memory_mb", type=click.IntRange(128, 10240), metavar="MB", help="Of the function. [default: 1024]"
)
@click.option(
    "--timeout", "timeout_s", type=click.IntRange(1, 900), metavar="SECONDS", help="Of the function. [default: 900]"
)
@click.option(
    "--max-receive-count",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Attempts before a message is dead. [default: 5]",
)
@click.option(
    "--batch-size", type=click.IntRange(1, 10000), metavar="N", help="Messages in one invocation. [default: 10]"
)
@click.option(
    "--max-concurrency", type=click.IntRange(2, 1000), metavar="N", help="Invocations at once. [default: no limit]"
)
@click.option("--architecture", type=click.Choice(["x86_64", "arm64"]), help="Of the image. [default: x86_64]")
@click.option("--env-var", "variables", multiple=True, metavar="K=V", help="For the function; repeatable. No secrets.")
@click.option("--no-check-image", is_flag=True, help="Do not look whether the image is there and Lambda takes it.")
@click.option(
    "--rule-quota",
    type=click.IntRange(1),
    default=RULES_PER_BUS,
    show_default=True,
    metavar="N",
    help="Rules that the account allows on the event bus.",
)
@edit_options
@global_options
@click.pass_context
def add_prefix(
    ctx: click.Context,
    /,
    prefix: str,
    image_uri: str | None,
    completion: bool,
    name: str | None,
    variables: tuple[str, ...],
    no_check_image: bool,
    rule_quota: int,
    max_receive_count: int | None,
    **given: Any,
) -> None:
    """Add a ruleset for PREFIX to the environment's values, ready for review; with --deploy bring it into place.

    If it is there already, nothing is done. Refused (4) if the name or prefix is taken by something else, if prefixes
    overlap or make a loop, or if Lambda would not take the image.
    """
    if completion == (image_uri is not None):
        raise UsageError("a ruleset has either a function or none", hint="Give one of --image-uri and --completion.")
    given["environment"] = _environment(variables) or None
    function = {key: given.pop(key) for key in _FUNCTION_SETTINGS}
    settings = {key: value for key, value in function.items() if value is not None}
    if completion and settings:
        flags = ", ".join(_FUNCTION_SETTINGS[key] for key in settings)
        raise UsageError(f"a completion ruleset has no function to set {flags} of")
    if max_receive_count is not None:
        settings["max_receive_count"] = max_receive_count
    options = read_options(given)
    app = app_context(ctx)
    request = operation.AdditionRequest(
        prefix,
        image_uri,
        name,
        settings,
        region=app.settings.region or os.environ.get("AWS_DEFAULT_REGION"),
        any_registry=app.settings.embedded or bool(app.settings.endpoint_url),
        rule_quota=rule_quota,
    )
    addition = operation.plan_addition(request, app.values_file)
    notes = [*addition.notes]
    if addition.edit is not None and image_uri is not None and not no_check_image:
        notes += _checked_image(app, addition)
    for note in notes:
        app.render.warning(note)
    if addition.edit is None:
        app.render.note(f"ruleset {addition.ruleset.name} has prefix {prefix} already")
    status = "unchanged" if addition.edit is None else "would-add" if options.dry_run else "added"
    document = {"status": status, "ruleset": addition.ruleset, "notes": notes}
    carry_out_edit(app, addition.edit, options, document)


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable in variables:
        name, separator, value = variable.partition("=")
        if not separator or name in found:
            raise UsageError(
                f"--env-var {name} {'is there twice' if separator else 'has no value'}", hint="--env-var NAME=VALUE"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the value of --env-var {name} is not UTF-8") from None
        found[name] = value
    return found


def _checked_image(app: AppContext, addition: operation.Addition) -> list[str]:
    try:
        return _check_image(app, addition)
    except RefusedError as error:
        raise RefusedError(error.message, hint=_ANOTHER_IMAGE) from error
    except UsageError:
        raise
    except RefinerctlError as error:
        hint = " ".join(filter(None, [error.hint, "Without looking: --no-check-image."]))
        raise RefinerctlError(f"the image cannot be checked: {error.message}", hint=hint) from error


def _check_image(app: AppContext, addition: operation.Addition) -> list[str]:
    """What there is to know about the image. Raises RefusedError if it is not there, or Lambda would not take it."""
    if app.is_down:
        return [f"environment {app.settings.env} is down: the image is not checked"]
    ruleset = addition.ruleset
    (image,) = app.stack.images({"rulesets": {ruleset.name: vars(ruleset)}})
    request = PinRequest(
        default_tag=_release_tag(app, addition, image),
        local_repositories=app.settings.local_repositories,
    )
    if not (image.reference.tag or image.reference.digest or request.default_tag):
        return [f"{image.reference} has no tag, and nothing is deployed yet: the image is not checked"]
    pins = pin_images([image], app.deployable_images, request, refusal="the image cannot be used")
    if app.settings.embedded and not pins.images:
        return []  # it runs from the image's folder, as on this machine they do
    return [*_other_account(app, image.reference), *pins.notes]


def _release_tag(app: AppContext, addition: operation.Addition, image: StageImage) -> str | None:
    """The tag that an image without one would get."""
    if image.reference.tag or image.reference.digest:
        return None
    release = deployed(app.ledger.read())
    return (release.tag if release else None) or addition.values.release_tag


def _other_account(app: AppContext, reference: ImageReference) -> list[str]:
    if reference.ecr is None or app.settings.embedded:
        return []
    own = app.session.caller().split(":")[4]
    account = reference.ecr[0]
    if account == own:
        return []
    return [f"{reference.name} is in account {account}, not in {own}: its repository has to let Lambda in"]
