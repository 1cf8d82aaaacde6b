"""The drawing of the pipeline: what it shows of which stack. Its layout is tested in a browser."""

from __future__ import annotations

import dataclasses

import pytest

from refinerctl.insight.report.activity import Activity, Flow
from refinerctl.insight.report.page import PipelineReport, page
from refinerctl.insight.report.pipeline import MOST_LANES, shared_components, shown_lanes, stage_lane
from refinerctl.insight.report.text import total
from refinerctl.insight.status_model import PipelineStatus
from refinerctl.stacks.base import Bucket, Component, EventBus, EventRule, Function, Pipeline, Queue, Schedule, Stage
from tests import reports
from tests.html import Element, elements


def drawn(report: PipelineReport, *kinds: str) -> list[str]:
    """The texts of all elements of these kinds in the drawing, in its order."""
    found = [(element, (element.attributes.get("class") or "").split()) for element in elements(page(report))]
    return [text(element) for element, classes in found if set(classes) & set(kinds)]


def text(element: Element) -> str:
    return " ".join(" ".join(part if isinstance(part, str) else text(part) for part in element.content).split())


def report_of(stage: Stage) -> PipelineReport:
    status = PipelineStatus(reports.NOW, ())
    pipeline = Pipeline("x", (stage,))
    return PipelineReport("e", "s", pipeline, reports.SINCE, status, Activity(reports.HOUR), has_completions=False)


def test_drawing_of_stack_refiner() -> None:
    report = reports.report(1)
    assert [part for part in drawn(report, "box", "edge", "outcome", "end") if part] == [
        *("S3 bucket data-repository", "1,274 events", "Event bus default", "Event rule dibbs-ecr-forward"),
        *("Event bus data-repository-bus", "641 matched by rule", "0 in delivery DLQ"),
        *("SQS queue 12 waiting 3 in flight oldest 3 min 11 s", "641 attempts", "✗ 2 in DLQ"),
        *("Lambda function p95 1.2 s", "633 completed", "✗ 8 failed", "Completions last 14 Mar 09:25 2 min before"),
        *("633 matched by rule", "0 in delivery DLQ", "SQS queue 633 waiting 0 in flight oldest 23 h 53 min"),
        *("No function: 0 taken by others", "0 in DLQ"),
    ]


def test_unknown_is_not_zero() -> None:
    unknown = reports.unknown()
    assert drawn(unknown, "unknown") == ["— in delivery DLQ", "— in DLQ", "— failed"]
    assert "— matched by rule" in drawn(unknown, "edge")


def test_undelivered_events_are_shown() -> None:
    report = reports.report(1)
    first = dataclasses.replace(report.activity.stages[0], flow=Flow(99_999, 99_999, 1, 1, 1, 1))
    shown = dataclasses.replace(report, activity=Activity(reports.HOUR, (first,)))
    assert "99,999 matched by rule ✗ 99,999 undelivered" in drawn(shown, "edge")


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        (Stage("s", Schedule("s"), None, Function("f")), ["Schedule", "edge", "Lambda"]),
        (Stage("s", Schedule("s"), Queue("q"), Function("f")), ["Schedule", "edge", "SQS", "edge", "Lambda"]),
        (Stage("s", EventRule("r", "b", "p/"), None, Function("f")), ["edge", "Lambda"]),
        (Stage("s", EventRule("r", "b", "p/"), Queue("q")), ["edge", "SQS"]),
        (Stage("s", None, Queue("q"), Function("f")), ["SQS", "edge", "Lambda"]),
        (Stage("s", None, Queue("q")), ["SQS"]),
        (Stage("s", None, None, Function("f")), ["Lambda"]),
        (Stage("s", Schedule("s")), ["Schedule"]),
        (Stage("s"), []),
    ],
)
def test_each_component_has_a_box(stage: Stage, parts: list[str]) -> None:
    boxes = ("Schedule", "SQS", "Lambda")
    found = [part.split(" ")[0] for part in drawn(report_of(stage), "box", "edge")]
    assert [part if part in boxes else "edge" for part in found] == parts


def test_shared_components_are_those_that_lead_to_stages() -> None:
    rule, dlq = EventRule("r", "b", "p/"), Queue("dlq")
    bucket, bus, other = Bucket("data"), EventBus("b"), Bucket("other")
    edges: tuple[tuple[Component, Component], ...] = ((bucket, bus), (bus, rule), (bus, dlq), (Function("f"), bucket))
    pipeline = Pipeline("x", (Stage("s", rule),), (bucket, bus, other, dlq), edges)
    assert shared_components(pipeline) == (("S3 bucket", "data"), ("Event bus", "b"))
    assert shared_components(Pipeline("x", (Stage("s", Schedule("s")),), (bucket,))) == ()


def test_of_many_stages_those_with_problems_have_their_own_lanes() -> None:
    report = reports.report(50)
    states = {state.name: state for state in report.status.stages}
    activity = {item.stage: item for item in report.activity.stages}
    found = [
        stage_lane(stage, states[stage.name], activity[stage.name], has_completions=True)
        for stage in report.pipeline.stages
    ]
    shown = shown_lanes(found)
    assert len(shown) == MOST_LANES
    assert all(lane["dlq"] for lane in shown[:-1])
    assert shown[-1].name == "44 other stages"
    for name in ("matched", "completed", "taken", "waiting"):
        counts, all_counts = ([lane[name] for lane in some if name in lane.counts] for some in (shown, found))
        assert total(counts) == total(all_counts)
