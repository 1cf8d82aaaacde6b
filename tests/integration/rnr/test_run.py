"""`rnr produce` and `rnr postprocess` run one function each, once."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.command import Command
from tests.integration.rnr.account import Account, Reply, as_json


class TestFunction:
    @pytest.mark.parametrize("command", ["produce", "postprocess"])
    def test_runs_once_and_its_numbers_are_shown(self, account: Account, run: Command, command: str) -> None:
        self.answers(account, {"found": 1200, "setAside": [], "durationMs": 61_000})
        done = run("rnr", command, "--yes")

        invoked = self.invoked(account)
        assert (done.code, invoked) == (0, [f"{account.name}-{'producer' if command == 'produce' else command}"])
        assert done.out == "found: 1,200\nset aside: []\nduration: 1m1s\n"

    def test_json_and_log(self, account: Account, run: Command) -> None:
        self.answers(account, {"published": 3}, log='{"message":"run done"}\nREPORT x\n')
        done = run("rnr", "produce", "--yes", "-v", "--output", "json")

        assert done.json() == {"function": f"{account.name}-producer", "result": {"published": 3}}
        assert '{"message":"run done"}' in done.err

    def test_error_of_the_function_fails_the_command(self, account: Account, run: Command) -> None:
        self.answers(account, {"errorType": "BrokerAway", "errorMessage": "no route"}, error="Unhandled")
        done = run("rnr", "produce", "--yes")

        assert (done.code, done.out) == (1, "")
        assert f"the run of function {account.name}-producer failed: BrokerAway: no route" in done.err
        assert "refinerctl logs producer" in done.err

    def test_is_not_started_while_it_runs_and_not_repeated(self, account: Account, run: Command) -> None:
        throttled = as_json({"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}, 429)
        throttled[1]["X-Amzn-ErrorType"] = "TooManyRequestsException"
        account.before = lambda name: throttled if name.endswith("/invocations") else None
        done = run("rnr", "postprocess", "--yes")

        assert (done.code, len(self.invoked(account))) == (1, 1)
        assert "was not started: a run is in progress" in done.err

    def test_function_that_does_not_exist(self, account: Account, run: Command) -> None:
        for option in ("--yes", "--dry-run"):
            done = run("rnr", "produce", option)
            assert done.code == 1
            assert f"function {account.name}-producer does not exist" in done.err

    def test_needs_a_confirmation_and_a_stack_with_such_a_function(self, account: Account, run: Command) -> None:
        assert run("rnr", "produce").code == 2
        done = run("rnr", "produce", "--yes", "--stack", "refiner")
        assert done.code == 2
        assert "stack refiner has no scheduled function that publishes to a broker" in done.err
        assert self.invoked(account) == []

    def answers(self, account: Account, result: dict[str, Any], *, log: str = "", error: str = "") -> None:
        headers = {"X-Amz-Log-Result": base64.b64encode(log.encode()).decode()}
        if error:
            headers["X-Amz-Function-Error"] = error
        answer: Reply = (200, headers, json.dumps(result).encode())
        account.before = lambda name: answer if name.endswith("/invocations") else None

    def invoked(self, account: Account) -> list[str]:
        return [name.split("/")[3] for name in account.seen if name.endswith("/invocations")]
