"""Stages and pipelines as data, and those of stack `refiner`."""

from __future__ import annotations

from typing import Any

import pytest

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.stacks import find_stack
from refinerctl.stacks.base import (
    Bucket,
    CompletionPlace,
    EventBus,
    EventRule,
    Function,
    Pipeline,
    Queue,
    Schedule,
    Stage,
)
from refinerctl.stacks.refiner import STACK

IN = Stage(
    "In",
    source=EventRule("np-In", "bus", "In/", dlq=Queue("np-In-delivery-dlq")),
    queue=Queue("np-In", dlq=Queue("np-In-dlq")),
    consumer=Function("np-In"),
    writes=("RefinerOutput/", "RefinerComplete/In/"),
    completions=CompletionPlace("RefinerComplete/In/", ".completion"),
)
DONE = Stage(
    "Done",
    source=EventRule("np-Done", "bus", "Done/", dlq=Queue("np-Done-delivery-dlq")),
    queue=Queue("np-Done", dlq=Queue("np-Done-dlq")),
)
VALUES: dict[str, Any] = {
    "name_prefix": "np",
    "bus_name": "bus",
    "bucket_name": "data",
    "rulesets": {"In": {"prefix": "/In/", "image_uri": "repo"}, "Done": {"prefix": "Done/", "image_uri": None}},
}


def pipeline(values: dict[str, Any]) -> Pipeline:
    assert STACK.pipeline is not None
    return STACK.pipeline(STACK.settings, values)


def test_rulesets_are_stages() -> None:
    assert pipeline(VALUES).stages == (DONE, IN)


def test_settings_name_the_rulesets_if_the_values_have_none() -> None:
    found = pipeline({})
    assert [(stage.name, stage.prefix) for stage in found.stages] == [
        ("RefinerComplete", "RefinerComplete/"),
        ("RefinerInput", "RefinerInput/"),
    ]
    assert [stage.consumer for stage in found.stages] == [None, Function("dibbs-ecr-RefinerInput")]


def test_the_environment_of_a_function_says_where_it_writes() -> None:
    own = {"REFINER_OUTPUT_PREFIX": "/Labs/Out/"}
    ruleset = {"prefix": "In/", "image_uri": "repo", "environment": own}
    of_all = {"REFINER_OUTPUT_PREFIX": "Other/", "REFINER_COMPLETE_PREFIX": "Done/"}
    (stage,) = pipeline({**VALUES, "function_environment": of_all, "rulesets": {"In": ruleset}}).stages
    assert stage.writes == ("Labs/Out/", "Done/")
    assert stage.completions == CompletionPlace("Done/", ".completion")


def test_only_the_first_ruleset_has_its_completions_directly_below_the_prefix() -> None:
    rulesets: dict[str, Any] = {n: {"prefix": f"{n}/", "image_uri": "repo"} for n in ("In", "RefinerInput")}
    rulesets["Own"] = {"prefix": "Own/", "image_uri": "repo", "environment": {"REFINER_COMPLETE_SUFFIX": ".done"}}
    places = {
        first: [stage.completions for stage in pipeline({**VALUES, "rulesets": rulesets, **given}).stages]
        for first, given in {"default": {}, "of the values": {"input_prefix": "/In/", "complete_prefix": "/C/"}}.items()
    }
    assert places == {
        "default": [
            ("RefinerComplete/In/", ".completion"),
            ("RefinerComplete/Own/", ".done"),
            ("RefinerComplete/", ".json"),
        ],
        "of the values": [("C/", ".json"), ("C/Own/", ".done"), ("C/RefinerInput/", ".completion")],
    }


def test_read_access_is_given_as_addresses_in_s3() -> None:
    ruleset = {"prefix": "In/", "image_uri": "repo", "read_access": ["/eICR/", "s3://config/a/"]}
    ruleset["read_kms_key_arns"] = ["arn:aws:kms:us-east-1:123456789012:key/1"]
    (stage,) = pipeline({**VALUES, "rulesets": {"In": ruleset}}).stages
    assert stage.reads == ("s3://data/eICR/", "s3://config/a/")
    assert stage.read_keys == ("arn:aws:kms:us-east-1:123456789012:key/1",)


@pytest.mark.parametrize(
    "rulesets",
    [
        [1],
        {"A": {}},
        {"A": {"prefix": 1}},
        {"A": {"prefix": "no-slash"}},
        {"A": None},
        {"A": {"prefix": "A/", "image_uri": "x", "environment": {"REFINER_OUTPUT_PREFIX": "no-slash"}}},
        {"A": {"prefix": "A/", "image_uri": "x", "environment": 1}},
        {"A": {"prefix": "A/", "image_uri": "x", "read_access": 1}},
    ],
)
def test_invalid_rulesets_are_an_error(rulesets: Any) -> None:
    with pytest.raises(RefinerctlError, match="ruleset"):
        pipeline({**VALUES, "rulesets": rulesets})


def test_other_outputs_are_an_error() -> None:
    assert STACK.pipeline_of_outputs is not None
    with pytest.raises(RefinerctlError, match="not those of stack refiner"):
        STACK.pipeline_of_outputs({"bucket": "x"})


def test_outputs_of_an_earlier_release_have_one_prefix_for_all_completions() -> None:
    names = ("rule_name", "queue_name", "dlq_name", "delivery_dlq_name", "function_name", "rule_arn", "queue_arn")
    ruleset = {
        **dict.fromkeys((*names, "dlq_arn", "delivery_dlq_arn", "function_arn", "role_arn"), "x"),
        "prefix": "In/",
    }
    shared = ("bucket", "bus_arn", "forward_rule_name", "forward_rule_arn", "forward_dlq_name", "forward_dlq_arn")
    outputs: dict[str, Any] = {
        **dict.fromkeys(shared, "x"),
        "bus_name": "bus",
        "output_prefix": "Out/",
        "complete_prefix": "Done/",
    }
    outputs["rulesets"] = {"In": {**ruleset, "event_source_mapping_id": "x"}}
    assert STACK.pipeline_of_outputs is not None
    (stage,) = STACK.pipeline_of_outputs(outputs).stages
    assert (stage.writes, stage.completions, stage.reads) == (("Out/", "Done/"), ("Done/", ".json"), ())


def test_components_and_edges_of_a_stage() -> None:
    rule, queue, function = IN.source, IN.queue, IN.consumer
    assert rule is not None
    assert queue is not None
    assert function is not None
    assert IN.components == (rule, queue, function, queue.dlq, rule.dlq)
    assert IN.edges == ((rule, queue), (queue, function), (rule, rule.dlq), (queue, queue.dlq))
    assert IN.queues == (queue, queue.dlq, rule.dlq)


def test_stage_without_queue_or_consumer() -> None:
    stage = Stage("nightly", source=Schedule("nightly", dlq=Queue("nightly-dlq")), consumer=Function("nightly"))
    assert stage.prefix is None
    assert stage.queues == (Queue("nightly-dlq"),)
    assert stage.edges[0] == (stage.source, stage.consumer)
    assert Stage("empty").components == ()


def test_components_by_kind_and_neighbours() -> None:
    found = pipeline(VALUES)
    assert list(found.by_kind(Bucket)) == [Bucket("data")]
    assert list(found.by_kind(EventBus)) == [EventBus("default"), EventBus("bus")]
    assert list(found.by_kind(Function)) == [Function("np-In")]
    assert found.downstream_of(Function("np-In")) == (Bucket("data"),)
    assert found.upstream_of(Function("np-In")) == (IN.queue,)
    assert set(found.downstream_of(EventBus("bus"))) == {IN.source, DONE.source}


def test_stage_of_a_key_is_the_one_with_the_longest_prefix() -> None:
    inner = Stage("Inner", source=EventRule("inner", "bus", "In/sub/"))
    found = Pipeline("np", (IN, inner, Stage("nightly", source=Schedule("nightly"))))
    assert found.stage_for("In/sub/a") == inner
    assert found.stage_for("In/a") == IN
    assert found.stage_for("Out/a") is None


def test_choose_by_name() -> None:
    found = pipeline(VALUES)
    assert found.choose(()) == found.stages
    assert found.choose(("In",)) == (IN,)
    with pytest.raises(UsageError) as error:
        found.choose(("Inn",))
    assert (error.value.message, error.value.hint) == ("unknown stage Inn", "Did you mean In? Stages: In, Done.")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("In", "In"),
        ("/In/", "In"),
        ("In/", "In"),
        ("Done/", "Done"),
        ("np-In", "In"),
        ("np-In-dlq", "In"),
        ("in", None),
    ],
)
def test_a_stage_is_found_by_name_prefix_or_component(text: str, found: str | None) -> None:
    stage = pipeline(VALUES).find_stage(text)
    assert (stage.name if stage else None) == found


@pytest.mark.parametrize(
    ("text", "dlq", "target"),
    [
        ("In", "np-In-dlq", "np-In"),
        ("In/", "np-In-dlq", "np-In"),
        ("np-In", "np-In", "np-In"),
        ("In-dlq", "np-In-dlq", "np-In-dlq"),
        ("In-delivery-dlq", "np-In-delivery-dlq", "np-In-delivery-dlq"),
        ("np-forward-delivery-dlq", "np-forward-delivery-dlq", "np-forward-delivery-dlq"),
        ("other", None, None),
    ],
)
def test_a_queue_is_found_by_its_own_name_or_its_stages(text: str, dlq: str | None, target: str | None) -> None:
    found = [pipeline(VALUES).find_queue(text, is_dlq=is_dlq) for is_dlq in (True, False)]
    assert [queue.name if queue else None for queue in found] == [dlq, target]


def test_unknown_stack_lists_the_known_ones() -> None:
    assert find_stack("refiner") is STACK
    with pytest.raises(UsageError) as error:
        find_stack("rrn")
    assert error.value.hint == "Did you mean rnr? Stacks: rnr, refiner, registry, access."
