"""Names of rulesets, from an environment's values."""

from __future__ import annotations

from typing import Any

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.stacks.names import RulesetNames, ruleset_names
from refinerctl.stacks.settings import Pipeline


class TestRulesetNames:
    def test_from_values_before_defaults(self) -> None:
        values = {"rulesets": {"B": {"prefix": "/b/"}, "A": {"prefix": "a/", "image_uri": "i"}}}
        defaults = {"name_prefix": "other", "rulesets": {"C": {"prefix": "c/"}}}
        assert ruleset_names(values, defaults, Pipeline()) == (
            RulesetNames("A", "a/", "other-A", has_function=True),
            RulesetNames("B", "b/", "other-B", has_function=False),
        )

    def test_without_a_project_from_the_settings(self) -> None:
        found = ruleset_names({}, {}, Pipeline())
        assert [(names.queue, names.dlq, names.log_group, names.has_function) for names in found] == [
            ("dibbs-ecr-RefinerInput", "dibbs-ecr-RefinerInput-dlq", "/aws/lambda/dibbs-ecr-RefinerInput", True),
            (
                "dibbs-ecr-RefinerComplete",
                "dibbs-ecr-RefinerComplete-dlq",
                "/aws/lambda/dibbs-ecr-RefinerComplete",
                False,
            ),
        ]

    @pytest.mark.parametrize("rulesets", [{"A": {}}, {"A": {"prefix": "no slash"}}, ["a"], {"A": None}])
    def test_malformed_ones_are_an_error(self, rulesets: Any) -> None:
        with pytest.raises(RefinerctlError):
            ruleset_names({"rulesets": rulesets}, {}, Pipeline())
