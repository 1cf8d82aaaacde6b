"""Configured rulesets beside deployed ones."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.aws.events import EventBuses, RuleSettings
from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.messages import Message
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import AccessDeniedError, NotFoundError
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.rulesets.model import RulesetValues
from refinerctl.rulesets.prefixes import compare
from tests.unit.fakes import START, FakeFunctions, FakeQueues
from tests.unit.rulesets.test_model import DEFAULTS

DIGEST = "sha256:" + "1" * 64
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/repo@{DIGEST}"
FUNCTION = FunctionConfiguration(
    "np-In", "arn", "$LATEST", IMAGE, memory_mb=1024, timeout_s=900, environment={"LEVEL": "info"}
)
RELEASE = Release(ReleaseAction.DEPLOY, "v1", {"In": IMAGE}, at=datetime(2026, 3, 1, tzinfo=UTC))


def rule(name: str, *prefixes: str, is_enabled: bool = True) -> RuleSettings:
    keys = [{"prefix": prefix} for prefix in prefixes]
    return RuleSettings(name, f"arn:{name}", json.dumps({"detail": {"object": {"key": keys}}}), is_enabled)


@dataclass
class Aws:
    """What a stack has deployed: as the values want it, to begin with."""

    rules: list[RuleSettings] = field(default_factory=lambda: [rule("np-In", "In/"), rule("np-Done", "Done/")])
    queues: FakeQueues = field(default_factory=FakeQueues)
    functions: FakeFunctions = field(default_factory=lambda: FakeFunctions(FUNCTION))
    release: Release | None = RELEASE
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("np-In", "np-Done"):
            self.queues.messages |= {name: [], f"{name}-dlq": [], f"{name}-delivery-dlq": []}

    def look(self) -> dict[str, dict[str, Any]]:
        values = RulesetValues.of({**DEFAULTS, **self.values})
        found = compare(values, _Rules(self.rules), self.queues, self.functions, self.release)
        assert [item["name"] for item in found] == sorted(item["name"] for item in found)
        return {item["name"]: item for item in found}


class _Rules(EventBuses):
    def __init__(self, found: list[RuleSettings]) -> None:
        self.found = found

    def rules(self, bus: str) -> tuple[RuleSettings, ...]:
        if not self.found:
            raise NotFoundError(f"there is no event bus {bus}")
        return tuple(self.found)


@pytest.fixture
def aws() -> Aws:
    return Aws()


def test_deployed_as_configured(aws: Aws) -> None:
    aws.queues.messages["np-In"] = [Message("x", START, 1)]
    found = aws.look()
    assert list(found) == ["Done", "In"]
    assert all(item["deployed"] and item["configured"] and not item["differs"] for item in found.values())
    assert found["In"]["depth"] == {"visible": 1, "in_flight": 0, "delayed": 0}
    assert (found["In"]["release"], found["In"]["deployed_image_uri"]) == ("v1", IMAGE)
    assert [found["Done"][key] for key in ("release", "image_uri", "function")] == [None, None, None]


def test_nothing_is_deployed(aws: Aws) -> None:
    aws.rules.clear()
    aws.queues.messages.clear()
    aws.functions.known.clear()
    aws.release = None
    for item in aws.look().values():
        assert (item["deployed"], item["differs"], item["depth"]) == (False, ["not deployed"], None)


def test_deployed_but_not_configured(aws: Aws) -> None:
    aws.rules += [rule("np-Old", "Old/"), rule("np-Gone", "Gone/"), rule("others", "x/")]
    aws.functions.known["np-Old"] = replace(FUNCTION, name="np-Old")
    found = aws.look()
    assert list(found) == ["Done", "Gone", "In", "Old"]
    old, gone = found["Old"], found["Gone"]
    seen = [old[key] for key in ("configured", "deployed", "prefix", "image_uri")]
    assert seen == [False, True, "Old/", IMAGE]
    assert old["differs"] == ["deployed, but not configured"]
    assert (old["function"], gone["function"]) == ("np-Old", None)


@pytest.mark.parametrize(
    ("values", "differs"),
    [
        ({"prefix": "Other/"}, "prefix: Other/ configured, In/ deployed"),
        ({"memory_mb": 512}, "memory_mb: 512 configured, 1024 deployed"),
        ({"timeout_s": 3}, "timeout_s: 3 configured, 900 deployed"),
        ({"environment": {"LEVEL": "secret-value"}}, "environment: LEVEL"),
        ({"image_uri": "other"}, f"image: other configured, {IMAGE} deployed"),
    ],
)
def test_difference_is_reported(aws: Aws, values: dict[str, Any], differs: str) -> None:
    done = DEFAULTS["rulesets"]["Done"]
    aws.values = {"rulesets": {"In": {"prefix": "In/", "image_uri": "repo", **values}, "Done": done}}
    assert aws.look()["In"]["differs"] == [differs]


def test_function_of_a_completion_ruleset_is_reported(aws: Aws) -> None:
    aws.functions.known["np-Done"] = replace(FUNCTION, name="np-Done")
    assert aws.look()["Done"]["differs"] == ["function np-Done is deployed, but not configured"]


def test_image_that_is_not_in_the_ledger(aws: Aws) -> None:
    other = IMAGE.replace("1" * 64, "2" * 64)
    aws.functions.known["np-In"] = replace(FUNCTION, image_uri=other)
    found = aws.look()["In"]
    assert (found["release"], found["differs"]) == (None, [f"image: {IMAGE} recorded, {other} deployed"])


@pytest.mark.parametrize("part", ["np-In", "np-In-dlq", "np-In-delivery-dlq"])
def test_missing_queue_is_reported(aws: Aws, part: str) -> None:
    del aws.queues.messages[part]
    assert aws.look()["In"]["differs"] == [f"queue {part} does not exist"]


def test_missing_function_and_rule_are_reported(aws: Aws) -> None:
    aws.functions.known.clear()
    aws.rules[1] = rule("np-Done", "Done/", is_enabled=False)
    found = aws.look()
    assert found["In"]["differs"] == ["function np-In does not exist"]
    assert found["Done"]["differs"] == ["rule np-Done is disabled"]
    aws.rules.pop(0)
    found = aws.look()
    assert (found["In"]["deployed"], found["In"]["differs"]) == (False, ["rule np-In does not exist"])


def test_unknown_pattern_is_reported(aws: Aws) -> None:
    aws.rules[0] = replace(aws.rules[0], pattern='{"source": ["aws.s3"]}')
    assert aws.look()["In"]["differs"] == ["prefix: In/ configured, another pattern deployed"]


def test_denied_access_is_an_error(aws: Aws) -> None:
    aws.queues.error = AccessDeniedError("access denied: GetQueueAttributes")
    with pytest.raises(AccessDeniedError):
        aws.look()


def test_rulesets_are_read_concurrently(aws: Aws) -> None:
    at_once = threading.Barrier(16, timeout=10)

    class Waiting(FakeQueues):
        def state(self, name: str) -> QueueState:
            if not name.endswith("-dlq"):
                at_once.wait()
            return QueueState(name)

    names = [f"R{number}" for number in range(48)]
    aws.values = {"rulesets": {name: {"prefix": f"{name}/"} for name in names}}
    aws.rules = [rule(f"np-{name}", f"{name}/") for name in names]
    aws.queues = Waiting()
    assert len(aws.look()) == 48
