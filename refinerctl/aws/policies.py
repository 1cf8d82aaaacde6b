"""IAM policies, as far as pipelines need them: does a policy allow a request?

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html, …_elements.html,
within one account and without organizations. Answers are True, False, or None if that depends on something that is not
evaluated here or that AWS does not document.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, negated

Names = tuple[str, ...] | None  # None: the statement does not have the element; an empty list names nothing


@dataclass(frozen=True)
class Statement:
    """One statement. `principals` are pairs of kind and name; None in a role's policy, which names no principal.
    `conditions` are operator, key and values.

    `is_readable` is False if it has elements that are not evaluated here.
    """

    allows: bool
    actions: Names = None
    resources: Names = None
    principals: tuple[tuple[str, str], ...] | None = None
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    not_actions: Names = None
    not_resources: Names = None
    is_readable: bool = True


Policy = tuple[Statement, ...]

UNREADABLE: Policy = (Statement(allows=True, is_readable=False), Statement(allows=False, is_readable=False))


@dataclass(frozen=True)
class Request:
    """Who requests what. `context` has the condition keys with known values, in lower case."""

    action: str
    resource: str
    service: str | None = None
    role_arn: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)


def parse_policy(document: str | Mapping[str, Any] | None) -> Policy:
    """The statements of a policy document; UNREADABLE for one that cannot be read."""
    if not document:
        return ()
    try:
        content = json.loads(document) if isinstance(document, str) else document
        statements = content["Statement"]
        listed = statements if isinstance(statements, list) else [statements]
        return tuple(_statement(item) for item in listed)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return UNREADABLE


_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Principal", "Condition", "NotAction", "NotResource"}
_EFFECTS = {"Allow": True, "Deny": False}


def _statement(item: Mapping[str, Any]) -> Statement:
    return Statement(
        allows=_EFFECTS[item["Effect"]],
        actions=_names(item, "Action"),
        resources=_names(item, "Resource"),
        principals=_principals(item["Principal"]) if "Principal" in item else None,
        conditions=tuple(
            (operator, key, _texts(values))
            for operator, keys in item.get("Condition", {}).items()
            for key, values in keys.items()
        ),
        not_actions=_names(item, "NotAction"),
        not_resources=_names(item, "NotResource"),
        # A trust policy has no resource; otherwise AWS wants one of each pair, and never both.
        is_readable=not item.keys() - _ELEMENTS
        and len(item.keys() & {"Action", "NotAction"}) == 1
        and len(item.keys() & {"Resource", "NotResource"}) < 2,
    )


def _names(item: Mapping[str, Any], element: str) -> Names:
    return _texts(item[element]) if element in item else None


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | bool | int | float) for item in values):
        raise TypeError
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in values)


def _principals(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict):
        return tuple((kind, name) for kind, names in value.items() for name in _texts(names))
    if value == "*":
        return (("AWS", "*"),)
    raise ValueError


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
    action = request.action.lower()
    return all_of(
        [
            _covers(statement.actions, statement.not_actions, lambda name: _action_like(name.lower(), action)),
            _covers(statement.resources, statement.not_resources, lambda name: _resource_like(name, request.resource)),
            _is_named(statement, request),
            *(_holds(operator, key, values, request.context) for operator, key, values in statement.conditions),
        ]
    )


def _covers(names: Names, others: Names, matches: Callable[[str], Verdict]) -> Verdict:
    """Without the elements it covers everything, as a trust policy has no resource."""
    if names is not None:
        return any_of(map(matches, names))
    return others is None or negated(any_of(map(matches, others)))


def _action_like(pattern: str, action: str) -> Verdict:
    """AWS documents no wildcard in the service's part, except `*` alone."""
    if pattern == "*":
        return True
    service, colon, _ = pattern.partition(":")
    if colon and not _has_wildcard(service):
        return like(pattern, action)
    return None if like(pattern, action) else False


def _resource_like(pattern: str, resource: str) -> Verdict:
    """Each of an ARN's components is compared. Only a `*` at the end of one also matches what follows.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    if "${" in pattern:
        return None
    if pattern == "*":
        return True
    parts = pattern.split(":", 5)
    if not like(pattern, resource):
        return None if len(parts) < 6 and like(f"{pattern}:*", resource) else False
    if len(parts) > 2 and _has_wildcard(parts[2]):
        return None  # not allowed in the component that names the service
    if _arn_like(pattern, resource):
        return True
    crossing = re.sub(r"\\\*(?=:|\Z)", ".*", re.escape(pattern))
    within = crossing.replace(r"\*", "[^:]*").replace(r"\?", "[^:]")
    return True if re.fullmatch(within, resource, re.DOTALL) else None


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _is_named(statement: Statement, request: Request) -> Verdict:
    """Wildcards other than `*` alone are not allowed in a principal."""
    if statement.principals is None:
        return True
    return any_of(_names_caller(kind, name, request, statement.allows) for kind, name in statement.principals)


def _names_caller(kind: str, name: str, request: Request, allows: bool) -> Verdict:
    match kind:
        case "AWS":
            return name == "*" or (request.role_arn is not None and _names_role(name, request.role_arn, allows))
        case "Service":
            # AWS does not document what `*` is here.
            return request.service is not None and (None if name == "*" else name == request.service)
        case "CanonicalUser":
            # An account by another id, which is not known here: allowed or denied like the account itself.
            return None if request.role_arn and name != "*" and not allows else False
        case "Federated":
            return False  # neither a service nor a role
    return None


def _names_role(name: str, role_arn: str, allows: bool) -> Verdict:
    """To deny an account is to deny all of its roles; to allow it leaves the decision to the roles' policies."""
    account = role_arn.split(":")[4]
    if _is_account(name, account):
        return not allows
    if name.partition("/")[0].endswith(f":sts::{account}:assumed-role"):
        # One session of the role: whether it is the caller's is not known here.
        return None if name.split("/")[1] == role_arn.rpartition("/")[2] else False
    return name == role_arn


def _is_account(name: str, account: str) -> bool:
    return name == account or name.endswith(f":iam::{account}:root")


def delegates(policy: Policy, account: str, action: str) -> Verdict:
    """Whether a resource's policy leaves `action` to the policies of the account's roles."""
    return any_of(
        _covers(item.actions, item.not_actions, lambda name: _action_like(name.lower(), action.lower()))
        if item.is_readable and not item.conditions
        else None
        for item in policy
        if item.allows
        and (
            not item.is_readable
            or any(kind == "AWS" and _is_account(name, account) for kind, name in item.principals or ())
        )
    )


def like(pattern: str, text: str) -> bool:
    """`*` is any number of characters, `?` one."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _arn_like(pattern: str, text: str) -> bool:
    """Compare each of an ARN's six components."""
    return _is_arn(pattern) and _is_arn(text) and all(map(like, pattern.split(":", 5), text.split(":", 5)))


def _is_arn(text: str) -> bool:
    return text.count(":") >= 5


def _arn_condition(wanted: str, given: str) -> Verdict:
    return None if wanted == "*" else _arn_like(wanted, given)  # `*` is no ARN


_COMPARISONS: dict[str, Callable[[str, str], Verdict]] = {
    "StringEquals": lambda wanted, given: wanted == given,
    "StringEqualsIgnoreCase": lambda wanted, given: wanted.casefold() == given.casefold(),
    "StringLike": like,
    "ArnEquals": _arn_condition,
    "ArnLike": _arn_condition,
}
_NEGATED = {name.replace("String", "StringNot").replace("Arn", "ArnNot"): test for name, test in _COMPARISONS.items()}
_POSITIVE = {**_COMPARISONS, "Bool": lambda wanted, given: wanted.lower() == given.lower()}


def _holds(operator: str, key: str, values: tuple[str, ...], context: Mapping[str, str]) -> Verdict:
    given = context.get(key.lower())
    if given is None:
        return None  # the request may or may not have the key
    if operator == "Null":
        return any(value.lower() == "false" for value in values)
    # Each known key has one value: for all of them is for any of them.
    name = operator.removeprefix("ForAllValues:").removeprefix("ForAnyValue:").removesuffix("IfExists")
    compare = _POSITIVE.get(name) or _NEGATED.get(name)
    if compare is None:
        return None
    found = any_of(None if "${" in value else compare(value, given) for value in values)
    if name not in _NEGATED:
        return found
    if name.startswith("Arn") and not all(map(_is_arn, (given, *values))):
        return None  # AWS does not document whether what is no ARN is another ARN
    return negated(found)
