"""What a check is: a pure function over a snapshot, with the words that go with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeVar

from refinerctl.aws.event_pattern import Verdict, all_of
from refinerctl.aws.iam import Role
from refinerctl.aws.policies import Policy, Request, allowed, denied
from refinerctl.aws.sqs import QueueSettings
from refinerctl.insight.verify.answers import Absent, Answer, Unread
from refinerctl.insight.verify.types import CheckResult, Finding, RulesetSnapshot, Snapshot, Status

Known = TypeVar("Known")

DEFAULT_BUS = "default"
EVENTS = "events.amazonaws.com"


class CannotTellError(Exception):
    """What the check looks at is not there, or could not be read: other checks say so."""


@dataclass(frozen=True)
class Hindrance:
    """Why a role may not do something, and what to do about it: a deployment would not help."""

    seen: str
    fix: str


@dataclass(frozen=True)
class Check:
    """`of_ruleset` runs for each ruleset, `of_function` for those with a function, `of_pipeline` once."""

    id: str
    why: str
    fix: str
    of_pipeline: Callable[[Snapshot], Finding] | None = None
    of_ruleset: Callable[[Snapshot, RulesetSnapshot], Finding] | None = None
    of_function: Callable[[Snapshot, RulesetSnapshot], Finding] | None = None

    def run(self, snapshot: Snapshot) -> Iterator[CheckResult]:
        """Its results, one for each thing that it looks at."""
        if (whole := self.of_pipeline) is not None:
            yield self._result(lambda: whole(snapshot), None)
        for ruleset in snapshot.rulesets:
            look = self.of_ruleset or (self.of_function if ruleset.names.function else None)
            if look is not None:
                yield self._result(lambda look=look, ruleset=ruleset: look(snapshot, ruleset), ruleset.names.name)  # type: ignore[misc]

    def _result(self, look: Callable[[], Finding], ruleset: str | None) -> CheckResult:
        try:
            found = look()
        except CannotTellError as error:
            found = Finding(Status.SKIP, str(error))
        return CheckResult(self.id, found.status, found.seen, self.why, found.fix or self.fix, ruleset)


def passed(seen: str) -> Finding:
    return Finding(Status.PASS, seen)


def failed(seen: str, fix: str | None = None) -> Finding:
    return Finding(Status.FAIL, seen, fix)


def warned(seen: str, fix: str | None = None) -> Finding:
    return Finding(Status.WARN, seen, fix)


def judged(verdict: Verdict, yes: str, no: str, unknown: str) -> Finding:
    """What cannot be told for sure is a warning."""
    if verdict is None:
        return warned(unknown)
    return passed(yes) if verdict else failed(no)


def known(answer: Answer[Known] | None) -> Known:
    """Raises CannotTellError, which skips the check, for what is not there or not known."""
    if isinstance(answer, Absent | Unread):
        raise CannotTellError(answer.reason)
    if answer is None:
        raise CannotTellError("it was not looked at")
    return answer


def present(answer: Answer[Known], seen: Callable[[Known], str]) -> Finding:
    """For the one check of each thing that says whether it is there."""
    if isinstance(answer, Absent):
        return failed(answer.reason)
    return passed(seen(known(answer)))


def queue_of(snapshot: Snapshot, arn: str) -> Answer[QueueSettings]:
    """The queue that something names by its ARN."""
    return snapshot.queues.get(arn, Unread(f"{arn} was not looked at"))


def name_of(arn: str) -> str:
    """The name at the end of a queue's or a bus's ARN."""
    return arn.rpartition(":")[2].rpartition("/")[2]


def by_role(role: Role, action: str, resource: str) -> Request:
    """A call with the role's credentials."""
    context = {
        "aws:securetransport": "true",
        "aws:principalarn": role.arn,
        "aws:principalaccount": role.arn.split(":")[4],
        "aws:principaltype": "AssumedRole",
        "aws:principalisawsservice": "false",
    }
    return Request(action, resource, role_arn=role.arn, context=context)


def in_bounds(role: Role, request: Request) -> Verdict:
    """Whether the role's boundary leaves it that; one that has none is not bound."""
    return True if role.boundary is None else allowed([role.boundary], request)


def hindered(role: Role, calls: Collection[tuple[str, str]], resource_policies: Collection[Policy]) -> Hindrance | None:
    """What keeps the role from all of `calls`, pairs of action and resource, if that is not just missing."""
    requests = [by_role(role, *call) for call in calls]
    if all(in_bounds(role, request) is False for request in requests):
        return Hindrance("its permissions boundary does not", "Let the boundary allow it, or take it off the role.")
    if all(denied(resource_policies, request) for request in requests):
        return Hindrance("the resource's own policy denies it", "Take that statement out, or except the role in it.")
    return None


def role_may(role: Role, action: str, resource: str, resource_policies: Collection[Policy] = ()) -> Verdict:
    """By the role's policies and boundary, and those of what it is done to."""
    request = by_role(role, action, resource)
    policies = [*(policy.statements for policy in role.policies), *resource_policies]
    return all_of([allowed(policies, request), in_bounds(role, request)])
