"""IAM policies, as far as pipelines need them: does a policy allow a request?

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html, within one account and
without organizations. Answers are True, False, or None if that depends on something that is not evaluated here.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, negated


@dataclass(frozen=True)
class Statement:
    """One statement. `principals` are pairs of kind and name; None in a role's policy, which names no principal.
    `conditions` are operator, key and values.

    `is_readable` is False if it has elements that are not evaluated here.
    """

    allows: bool
    actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    principals: tuple[tuple[str, str], ...] | None = None
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    not_actions: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    is_readable: bool = True


Policy = tuple[Statement, ...]


@dataclass(frozen=True)
class Request:
    """Who requests what. `context` has the condition keys with known values, in lower case."""

    action: str
    resource: str
    service: str | None = None
    role_arn: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)


def parse_policy(document: str | Mapping[str, Any] | None) -> Policy:
    """The statements of a policy document; a document that cannot be read is one statement that is not readable."""
    if not document:
        return ()
    try:
        content = json.loads(document) if isinstance(document, str) else document
        statements = content["Statement"]
        listed = statements if isinstance(statements, list) else [statements]
        return tuple(_statement(item) for item in listed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return (Statement(allows=True, is_readable=False),)


_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition", "NotAction", "NotResource"}


def _statement(item: Mapping[str, Any]) -> Statement:
    return Statement(
        allows=item["Effect"] == "Allow",
        actions=_texts(item.get("Action")),
        resources=_texts(item.get("Resource")),
        principals=_principals(item["Principal"]) if "Principal" in item else None,
        conditions=tuple(
            (operator, key, _texts(values))
            for operator, keys in item.get("Condition", {}).items()
            for key, values in keys.items()
        ),
        not_actions=_texts(item.get("NotAction")),
        not_resources=_texts(item.get("NotResource")),
        is_readable=not item.keys() - _ELEMENTS,
    )


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in values)


def _principals(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict):
        return tuple((kind, name) for kind, names in value.items() for name in _texts(names))
    return (("*", str(value)),)


def allowed(policies: Collection[Policy], request: Request) -> Verdict:
    """Whether one of the statements allows it and none denies it."""
    return all_of([negated(denied(policies, request)), granted(policies, request)])


def granted(policies: Collection[Policy], request: Request) -> Verdict:
    """Whether one of the statements allows it, regardless of statements that deny it."""
    return any_of(_applies(item, request) for policy in policies for item in policy if item.allows)


def denied(policies: Collection[Policy], request: Request) -> Verdict:
    """Whether one of the statements denies it."""
    return any_of(_applies(item, request) for policy in policies for item in policy if not item.allows)


def _applies(statement: Statement, request: Request) -> Verdict:
    if not statement.is_readable:
        return None
    return all_of(
        [
            _covers(statement.actions, statement.not_actions, request.action.lower(), fold=True),
            _covers(statement.resources, statement.not_resources, request.resource, fold=False),
            _is_named(statement, request),
            *(_holds(operator, key, values, request.context) for operator, key, values in statement.conditions),
        ]
    )


def _covers(names: tuple[str, ...], others: tuple[str, ...], wanted: str, *, fold: bool) -> Verdict:
    """Without names it covers everything, as a trust policy has no resource."""
    patterns = [name.lower() if fold else name for name in names or others]
    if not patterns:
        return True
    if any("${" in pattern for pattern in patterns):
        return None
    found = any(like(pattern, wanted) for pattern in patterns)
    return found if names else not found


def _is_named(statement: Statement, request: Request) -> bool:
    """To deny an account is to deny all of its roles; to allow it leaves the decision to the roles' policies."""
    if statement.principals is None:
        return True
    named = {("Service", request.service), ("AWS", request.role_arn)}
    account = request.role_arn.split(":")[4] if request.role_arn and not statement.allows else None
    return any(
        name == "*" or (kind, name) in named or (account is not None and kind == "AWS" and _is_account(name, account))
        for kind, name in statement.principals
    )


def _is_account(name: str, account: str) -> bool:
    return name == account or name.endswith(f":{account}:root")


def delegates(policy: Policy, account: str, action: str) -> Verdict:
    """Whether a resource's policy leaves `action` to the policies of the account's roles."""
    statements = [
        item
        for item in policy
        if item.allows and any(kind == "AWS" and _is_account(name, account) for kind, name in item.principals or ())
    ]
    return any_of(
        None if item.conditions else _covers(item.actions, item.not_actions, action.lower(), fold=True)
        for item in statements
    )


def like(pattern: str, text: str) -> bool:
    """`*` is any number of characters, `?` one."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _arn_like(pattern: str, text: str) -> bool:
    """Compare each of an ARN's six components."""
    wanted, given = pattern.split(":", 5), text.split(":", 5)
    return len(wanted) == len(given) and all(map(like, wanted, given))


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, given: wanted == given,
    "StringEqualsIgnoreCase": lambda wanted, given: wanted.casefold() == given.casefold(),
    "StringLike": like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda wanted, given: wanted.lower() == given.lower(),
}


def _holds(operator: str, key: str, values: tuple[str, ...], context: Mapping[str, str]) -> Verdict:
    given = context.get(key.lower())
    base = operator.removesuffix("IfExists")
    if given is None:
        return None  # the request may or may not have the key
    if base == "Null":
        return "false" in values
    compare = _COMPARISONS.get(base.replace("Not", "", 1))
    if compare is None or any("${" in value for value in values):
        return None
    return any(compare(value, given) for value in values) is not ("Not" in base)
