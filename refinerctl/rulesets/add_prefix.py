"""`refinerctl add-prefix`: add a ruleset to the environment's values, checked as a whole before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.events import RULES_PER_BUS
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.ledger.entries import deployed
from refinerctl.options import Prefix, examples, global_options
from refinerctl.releases.pins import pin_images
from refinerctl.rulesets.edit import (
    add_ruleset,
    carry_out_edit,
    edit_options,
    read_options,
    ruleset_values,
    values_file,
)
from refinerctl.rulesets.model import (
    Ruleset,
    RulesetValues,
    check_conflicts,
    check_form,
    check_registry,
    default_name,
    read_prefix,
)

# The settings of a function by their names in the stack, and the options that set them.
_FUNCTION_SETTINGS = {
    "memory_mb": "--memory",
    "timeout_s": "--timeout",
    "batch_size": "--batch-size",
    "max_concurrency": "--max-concurrency",
    "architecture": "--architecture",
    "environment": "--env-var",
    "read_access": "--read-access",
    "read_kms_key_arns": "--read-kms-key",
}
_SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE_KEY", "API_KEY")


@click.command(
    "add-prefix",
    epilog=examples(
        "refinerctl add-prefix team/MyNew/ --image-uri team/lab --dry-run",
        "refinerctl add-prefix Lab/ --image-uri team/lab --read-access s3://config/",
        "refinerctl add-prefix Audit/ --completion",
    ),
)
@click.argument("prefix", type=Prefix())
@click.option("--image-uri", metavar="URI", help="Image of the function: [REGISTRY/]REPOSITORY[:TAG|@DIGEST].")
@click.option("--completion", is_flag=True, help="Create a queue without a function, for downstream consumers.")
@click.option("--name", help="Name of the ruleset. [default: from the prefix, team/MyNew/ → team-MyNew]")
@click.option(
    "--memory",
    "memory_mb",
    type=click.IntRange(128, 10240),
    metavar="MB",
    help="Memory of the function. [default: 1024]",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(1, 900),
    metavar="SECONDS",
    help="Timeout of the function. [default: 900]",
)
@click.option(
    "--max-receive-count",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Receives before a message moves to the DLQ. [default: 5]",
)
@click.option("--batch-size", type=click.IntRange(1, 10000), metavar="N", help="Messages per invocation. [default: 10]")
@click.option(
    "--max-concurrency", type=click.IntRange(2, 1000), metavar="N", help="Concurrent invocations. [default: no limit]"
)
@click.option(
    "--architecture", type=click.Choice(["x86_64", "arm64"]), help="Architecture of the image. [default: x86_64]"
)
@click.option(
    "--env-var",
    "variables",
    multiple=True,
    metavar="K=V",
    help="Environment variable of the function; repeatable. No secrets.",
)
@click.option(
    "--read-access",
    "read_access",
    multiple=True,
    metavar="PREFIX",
    help="Prefix, or s3://BUCKET/PREFIX, that the function may read besides its inputs; repeatable.",
)
@click.option(
    "--read-kms-key",
    "read_kms_key_arns",
    multiple=True,
    metavar="ARN",
    help="KMS key that objects in --read-access are encrypted with; repeatable.",
)
@click.option("--no-check-image", is_flag=True, help="Skip the check that the image exists and Lambda accepts it.")
@click.option(
    "--rule-quota",
    type=click.IntRange(1),
    default=RULES_PER_BUS,
    show_default=True,
    metavar="N",
    help="Quota of rules on the event bus.",
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
    """Add a ruleset for PREFIX to the environment's values, for review; with --deploy deploy it, too.

    Does nothing if the ruleset already exists. Refused (4) if name or prefix belong to another ruleset, if prefixes
    overlap or form a loop, or if Lambda does not accept the image.
    """
    if completion == (image_uri is not None):
        raise UsageError("a ruleset either has a function or not", hint="Pass one of --image-uri and --completion.")
    settings = _settings(given, variables, completion, max_receive_count)
    app = app_context(ctx, changes=read_options(given) is not None)
    values = ruleset_values(app)
    wanted = {"image_uri": image_uri, **settings}
    present = next((other for other in values.rulesets.values() if other.prefix == prefix), None)
    if present and name in (None, present.name):

        def said(value: object) -> str:
            return "none" if value is None else repr(value)

        differing = [(key, value) for key, value in wanted.items() if getattr(present, key) != value]
        differs = [f"{key} is {said(getattr(present, key))}, not {said(value)}" for key, value in differing]
        if differs:
            raise RefusedError(
                f"ruleset {present.name} already has prefix {prefix}, with other settings: {'; '.join(differs)}",
                hint=f"Edit {values_file(app)}, or remove it first: `refinerctl remove-prefix {present.name}`.",
            )
        app.render.note(f"ruleset {present.name} already has prefix {prefix}")
        carry_out_edit(app, None, given, {"status": "unchanged", "ruleset": present, "notes": []})
        return
    ruleset = Ruleset(name or default_name(prefix), prefix, **wanted)
    check_form(ruleset, values.name_prefix)
    check_conflicts(ruleset, values, rule_quota)
    if image_uri is not None and not (app.settings.embedded or app.settings.endpoint_url):
        check_registry(image_uri, values.region or app.settings.region or os.environ.get("AWS_DEFAULT_REGION"))
    entry = {"prefix": prefix, **{key: value for key, value in wanted.items() if value is not None}}
    edit = add_ruleset(app, ruleset.name, entry)
    notes = list(_warnings(ruleset, values, rule_quota))
    if image_uri is not None and not no_check_image:
        notes += _checked_image(app, ruleset, values)
    for note in notes:
        app.render.warning(note)
    status = "would-add" if given["dry_run"] else "added"
    carry_out_edit(app, edit, given, {"status": status, "ruleset": ruleset, "notes": notes})


def _settings(
    given: dict[str, Any], variables: tuple[str, ...], completion: bool, max_receive_count: int | None
) -> dict[str, Any]:
    """The settings that were given, by the stack's names; takes those of the function out of `given`."""
    given["environment"] = _environment(variables) or None
    given["read_access"] = [read_prefix(item) for item in given["read_access"]] or None
    given["read_kms_key_arns"] = list(given["read_kms_key_arns"]) or None
    function = {key: given.pop(key) for key in _FUNCTION_SETTINGS}
    settings = {key: value for key, value in function.items() if value is not None}
    if completion and settings:
        flags = ", ".join(_FUNCTION_SETTINGS[key] for key in settings)
        raise UsageError(f"{flags}: a completion ruleset has no function")
    if max_receive_count is not None:
        settings["max_receive_count"] = max_receive_count
    return settings


def _environment(variables: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable in variables:
        name, separator, value = variable.partition("=")
        if not separator or name in found:
            raise UsageError(
                f"--env-var {name} {'is given twice' if separator else 'has no value'}",
                hint="Use --env-var NAME=VALUE.",
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the value of --env-var {name} is not UTF-8") from None
        found[name] = value
    return found


def _warnings(ruleset: Ruleset, values: RulesetValues, rule_quota: int) -> Iterator[str]:
    for name in ruleset.environment:
        if any(word in name.upper() for word in _SECRET_WORDS):
            yield f"{name} looks like a secret: everyone who can read the repository or the function can read it"
    rules = len(values.rulesets) + 1
    if rules > 0.9 * rule_quota:
        yield f"event bus {values.bus_name} will have {rules} rules; its quota is {rule_quota}"
    if ruleset.image_uri is None and not values.complete_prefix.startswith(ruleset.prefix):
        yield f"the queue of {ruleset.name} has no consumer in this stack: a downstream consumer must read it"


def _checked_image(app: AppContext, ruleset: Ruleset, values: RulesetValues) -> list[str]:
    """Notes about the image. Raises RefusedError if it does not exist, or Lambda does not accept it."""
    if app.is_down:
        return [f"environment {app.settings.env} is down: the image is not checked"]
    try:
        return _check_image(app, ruleset, values)
    except RefusedError as error:
        hint = " ".join(filter(None, [error.hint, "--no-check-image skips this check."]))
        raise RefusedError(error.message, hint=hint) from error
    except UsageError:
        raise
    except RefinerctlError as error:
        hint = " ".join(filter(None, [error.hint, "Pass --no-check-image to skip this check."]))
        raise RefinerctlError(f"cannot check the image: {error.message}", hint=hint) from error


def _check_image(app: AppContext, ruleset: Ruleset, values: RulesetValues) -> list[str]:
    (image,) = app.stack.images({"rulesets": {ruleset.name: vars(ruleset)}})
    reference = image.reference
    default_tag = None
    if not (reference.tag or reference.digest):
        release = deployed(app.ledger.read())
        default_tag = (release.tag if release else None) or values.release_tag
        if default_tag is None:
            return [f"{reference} has no tag, and nothing is deployed yet: the image is not checked"]
    pins = pin_images(
        [image],
        app.registries,
        default_tag=default_tag,
        local_repositories=app.settings.local_repositories,
        refusal="the image cannot be used",
    )
    if app.settings.embedded:  # it runs an image that is missing from the image's folder
        return list(pins.notes) if pins.images else []
    if reference.ecr is None:
        return list(pins.notes)
    own, account = app.session.caller().split(":")[4], reference.ecr[0]
    if account == own:
        return list(pins.notes)
    there = f"{reference.name} is in account {account}, not in {own}: its repository policy must allow Lambda"
    return [there, *pins.notes]
