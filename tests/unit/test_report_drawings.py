"""The report's drawings as geometry: round ticks, nothing on top of each other, nothing outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.insight.report.page import numbers, pipeline
from refinerctl.insight.report.page.charts import (
    DISTRIBUTION,
    NARROW,
    SMALL,
    SMALL_DISTRIBUTION,
    WIDE,
    Chart,
    Frame,
    distribution,
    over_time,
    slots,
    trimmed,
)
from refinerctl.insight.report.page.lanes import drawn, lanes
from refinerctl.insight.report.page.numbers import Count, duration, short_count, total
from refinerctl.insight.report.page.plots import Distribution, distributions
from refinerctl.insight.report.page.scales import count_ticks, tick_text, time_ticks
from refinerctl.insight.report.page.sections import causes, release_rows, short_image
from refinerctl.insight.report.page.shapes import Box, Drawing, Label
from refinerctl.insight.report.page.text import TICK_SIZE, fitted, text_width
from refinerctl.insight.report.types import Flow, Histogram, Interval, Report, RulesetActivity
from tests import reports

Rectangle = tuple[float, float, float, float]


def rectangle(item: Box | Label, size: float = 13) -> Rectangle:
    if isinstance(item, Box):
        return item.x, item.y, item.right, item.bottom
    width = item.width if size == 13 else text_width(item.text, size)
    left = item.x - {"start": 0, "middle": width / 2, "end": width}[item.anchor]
    return left, item.y - 0.75 * size, left + width, item.y + 0.2 * size


def overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def drawings(report: Report) -> Iterator[Drawing]:
    found = lanes(report)
    shared = pipeline.trunk(report.bucket, report.bus, found)
    yield pipeline.wide(shared, drawn(found, pipeline.MOST_LANES_WIDE), report.status.at)
    yield pipeline.narrow(shared, drawn(found, pipeline.MOST_LANES_NARROW), report.status.at)


class TestPipeline:
    @pytest.mark.parametrize("rulesets", [0, 1, 2, 7, 8, 50])
    def test_nothing_overlaps_or_leaves_the_drawing(self, rulesets: int) -> None:
        for drawing in drawings(reports.report(rulesets)):
            check(drawing)

    def test_with_long_names_and_large_numbers_neither(self) -> None:
        for drawing in drawings(reports.hostile("長W" * 200)):
            check(drawing)

    def test_text_fits_into_its_box(self) -> None:
        for report in (reports.report(12), reports.hostile("長W" * 200), reports.unknown()):
            for box in (box for drawing in drawings(report) for box in drawing.boxes):
                assert all(text_width(text) <= box.width - 20 for text in (box.title, *box.lines))
                assert box.y < box.baselines[0] - 9
                assert box.baselines[-1] + 3 < box.bottom

    def test_wires_end_at_boxes_or_wires(self) -> None:
        for drawing in drawings(reports.report(7)):
            for wire in drawing.wires:
                if wire.is_arrow:
                    x, y = wire.points[-1]
                    assert any(box.x <= x <= box.right and box.y <= y <= box.bottom for box in drawing.boxes), wire

    def test_what_is_dead_is_marked_and_what_is_unknown_is_not_none(self) -> None:
        wide, _ = drawings(reports.report(1))
        dead = {box.title: box.tone for box in wide.boxes if box.kind == "dead"}
        assert dead == {"0 in delivery DLQ": "", "✗ 2 in DLQ": "bad", "0 in DLQ": ""}
        wide, _ = drawings(reports.unknown())
        assert {box.title: box.tone for box in wide.boxes if box.kind == "dead"} == {
            "— in delivery DLQ": "unknown",
            "— in DLQ": "unknown",
        }
        assert "— matched by rule" in [label.text for label in wide.labels]

    def test_what_did_not_reach_the_queue_is_told(self) -> None:
        report = reports.report(1)
        first = dataclasses.replace(report.activity[0], flow=Flow(99_999, 99_999, 1, 1, 1, 1))
        for drawing in drawings(dataclasses.replace(report, activity=(first,))):
            check(drawing)
            assert "✗ 99,999 undelivered" in [label.text for label in drawing.labels]

    def test_a_ruleset_without_a_function_ends_at_its_queue(self) -> None:
        wide, narrow = drawings(reports.report(1))
        for drawing in (wide, narrow):
            assert [box.kind for box in drawing.boxes].count("queue") == 2
            assert [box.kind for box in drawing.boxes].count("function") == 1
            assert any(label.text.startswith("No function") for label in drawing.labels)

    def test_of_many_rulesets_those_in_trouble_have_lanes(self) -> None:
        found = lanes(reports.report(50))
        shown = drawn(found, 8)
        assert len(shown) == 8
        assert all(lane.dead for lane in shown[:-1])
        assert shown[-1].name == "44 other rulesets"
        assert total(lane.matched for lane in shown) == total(lane.matched for lane in found)
        assert total(lane.completed for lane in shown if lane.has_function).value == sum(
            lane.completed.value or 0 for lane in found if lane.has_function
        )


def check(drawing: Drawing) -> None:
    items: list[Box | Label] = [*drawing.boxes, *drawing.labels]
    for one, other in combinations(items, 2):
        assert not overlap(rectangle(one), rectangle(other)), (one, other)
    for item in items:
        left, top, right, bottom = rectangle(item)
        assert left >= 0, item
        assert top >= 0, item
        assert right <= drawing.width, item
        assert bottom <= drawing.height, item


class TestCharts:
    @given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=400))
    def test_labels_over_time_do_not_overlap(self, counts: list[tuple[int, int]]) -> None:
        start = datetime(2026, 2, 27, 22, 13, tzinfo=UTC)
        intervals = [Interval(start + place * reports.HOUR, *pair) for place, pair in enumerate(counts)]
        report = _at(start, start + len(counts) * reports.HOUR)
        parts = slots(report, intervals)
        assert sum(part.completed for part in parts) == sum(done for done, _ in counts)
        assert sum(part.failed for part in parts) == sum(lost for _, lost in counts)
        for frame in (WIDE, NARROW, SMALL):
            check_chart(over_time(parts, frame), frame)

    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.floats(1.05, 3), st.sampled_from([1.0, 0.001]))
    def test_labels_of_a_distribution_do_not_overlap(self, counts: list[int], factor: float, unit_s: float) -> None:
        edges = tuple(0.1 * factor**place for place in range(len(counts) + 1))
        histogram = trimmed(Histogram(edges, tuple(counts)))
        for frame in (DISTRIBUTION, SMALL_DISTRIBUTION):
            check_chart(distribution(histogram, unit_s, frame), frame)

    def test_intervals_without_anything_are_there(self) -> None:
        report = _at(reports.SINCE, reports.NOW)
        parts = slots(report, [Interval(reports.SINCE + 3 * reports.HOUR, 2, 1)])
        assert [part.completed for part in parts] == [0, 0, 0, 2] + [0] * 20
        assert all(one.end == other.start for one, other in pairwise(parts))

    def test_what_began_before_the_time_is_in_the_first_interval(self) -> None:
        report = _at(reports.SINCE, reports.NOW)
        assert slots(report, [Interval(reports.SINCE - timedelta(minutes=9), 2, 1)])[0].completed == 2

    def test_empty_ranges_at_the_ends_are_left_out_and_the_quantiles_stay(self) -> None:
        histogram = Histogram(tuple(float(edge) for edge in range(11)), (0, 0, 0, 5, 0, 1, 0, 0, 0, 0))
        short = trimmed(histogram)
        assert short == Histogram((2.0, 3.0, 4.0, 5.0, 6.0, 7.0), (0, 5, 0, 1, 0))
        assert short.quantile(0.5) == histogram.quantile(0.5) == 4.0

    def test_one_bar_that_is_tiny_is_seen(self) -> None:
        chart = over_time(slots(_at(reports.SINCE, reports.NOW), _one_and_many()), WIDE)
        assert "v-1.5" in chart.bars[0].done


def _one_and_many() -> list[Interval]:
    return [Interval(reports.SINCE, 1, 0), Interval(reports.SINCE + reports.HOUR, 100_000, 0)]


def _at(since: datetime, until: datetime) -> Report:
    empty = reports.empty()
    status = type(empty.status)(until, ())
    return Report(empty.env, empty.stack, "b", "b", since, reports.HOUR, status)


def check_chart(chart: Chart, frame: Frame) -> None:
    columns = [rectangle(label, TICK_SIZE) for label in chart.columns]
    marks = [rectangle(mark.label, TICK_SIZE) for mark in chart.marks]
    rows = [rectangle(label, TICK_SIZE) for label in chart.rows]
    for group in (columns, marks, rows):
        assert not any(overlap(one, other) for one, other in combinations(group, 2))
    for left, top, right, bottom in (*columns, *marks):
        assert left >= 0
        assert right <= frame.width
        assert top >= 0
        assert bottom <= frame.height
    # The axis' highest tick is at its top: nothing stands above it.
    assert min(label.y for label in chart.rows) == frame.top


class TestTogether:
    ONE, TWO = Histogram((1.0, 2.0, 5.0), (3, 4)), Histogram((5.0, 10.0, 20.0), (1, 2))

    def test_parts_of_one_scale_are_summed_up(self) -> None:
        (found,) = _together(self.ONE, self.TWO, Histogram((2.0, 5.0), (10,)))
        assert [part.count for part in found.ranges] == [3, 14, 1, 2]
        assert found.total == 20
        assert found.quantiles == ("5 s", "20 s", "20 s")

    def test_other_scales_are_not(self) -> None:
        assert _together(self.ONE, Histogram((1.0, 3.0, 5.0), (1, 1))) == ()

    def test_of_nothing_there_is_none(self) -> None:
        assert _together(None, Histogram((1.0,), ())) == ()


def _together(*latencies: Histogram | None) -> tuple[Distribution, ...]:
    activity = [RulesetActivity(str(place), Flow(), latency_s=one) for place, one in enumerate(latencies)]
    return distributions(dataclasses.replace(reports.empty(), activity=tuple(activity))).together


class TestTicks:
    @given(st.integers(0, 10**12))
    def test_are_whole_even_and_few_and_reach_the_highest(self, highest: int) -> None:
        ticks = count_ticks(highest)
        assert ticks[0] == 0
        assert ticks[-1] >= highest
        assert len({after - before for before, after in pairwise(ticks)}) == 1
        assert 2 <= len(ticks) <= 7

    @pytest.mark.parametrize(
        ("highest", "ticks"),
        [
            (0, (0, 1)),
            (1, (0, 1)),
            (3, (0, 1, 2, 3)),
            (7, (0, 2, 4, 6, 8)),
            (96, (0, 50, 100)),
            (1200, (0, 500, 1000, 1500)),
        ],
    )
    def test_are_round(self, highest: int, ticks: tuple[int, ...]) -> None:
        assert count_ticks(highest) == ticks

    def test_of_time_are_round_moments(self) -> None:
        ticks = time_ticks(reports.SINCE, reports.NOW)
        assert [f"{tick:%H:%M}" for tick in ticks] == ["12:00", "18:00", "00:00", "06:00"]
        assert [tick_text(tick, before) for before, tick in zip((None, *ticks), ticks, strict=False)] == [
            "13 Mar 12:00",
            "18:00",
            "14 Mar",
            "06:00",
        ]

    @given(st.integers(1, 60 * 24 * 400))
    def test_of_time_are_never_many(self, minutes: int) -> None:
        assert len(time_ticks(reports.SINCE, reports.SINCE + timedelta(minutes=minutes), 8)) <= 16


class TestNumbers:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (None, "—"),
            (0, "0 ms"),
            (0.00042, "0.4 ms"),
            (0.85, "850 ms"),
            (0.9999, "1 s"),
            (1.234, "1.2 s"),
            (12.6, "13 s"),
            (59.97, "1 min"),
            (200, "3 min 20 s"),
            (7500, "2 h 5 min"),
            (1155600, "13 d 9 h"),
            (float("inf"), "∞"),
        ],
    )
    def test_durations(self, seconds: float | None, text: str) -> None:
        assert duration(seconds) == text

    def test_counts(self) -> None:
        assert [short_count(value) for value in (None, 0, 1204, 99_999, 123_456, 999_999, 12_345_678)] == [
            "—",
            "0",
            "1,204",
            "99,999",
            "123 k",
            "1.0 M",
            "12.3 M",
        ]

    def test_a_sum_of_what_is_partly_unknown_is_at_least(self) -> None:
        assert total([Count(1), Count(None)]).text == "≥ 1"
        assert total([Count(None)]).text == "—"
        assert total([]).text == "—"
        assert total([Count(0), Count(1200)]).text == "1,200"

    def test_shares_are_all_or_nothing_only_if_they_are(self) -> None:
        assert [numbers.share(part, 100_000) for part in (0, 1, 1500, 99_999, 100_000)] == [
            "0 %",
            "< 0.1 %",
            "1.5 %",
            "> 99.9 %",
            "100 %",
        ]

    def test_time_looked_at(self) -> None:
        assert [numbers.span(hours * 3600) for hours in (0.5, 1, 24, 72)] == ["30 min", "1 h", "24 h", "3 d"]

    def test_a_moment_that_is_none(self) -> None:
        assert numbers.utc(datetime.min) is None
        assert numbers.ago(None, reports.NOW) == "—"

    @given(st.text(max_size=80), st.integers(20, 300))
    def test_text_is_cut_to_fit(self, text: str, width: int) -> None:
        assert text_width(fitted(text, width)) <= width


class TestSections:
    def test_causes_that_rulesets_share_stand_there_once(self) -> None:
        found = causes(reports.report(12))
        assert [cause.signature[:9] for cause in found] == ["NoSuchKey", "Task time"]
        assert found[0].count == sum(count for _, count in found[0].rulesets)
        assert len(found[0].rulesets) == 3
        assert len(found[0].keys) == 20

    def test_releases_show_what_they_changed(self) -> None:
        rows = release_rows(reports.releases(["A", "B"]))
        assert [row.is_in_place for row in rows] == [True, False, False, False]
        assert rows[0].changed == (("A", "refiner@sha256:cccccccccccc"), ("B", "refiner@sha256:cccccccccccc"))
        assert [len(row.changed) for row in rows] == [2, 2, 2, 2]

    def test_images_without_a_digest(self) -> None:
        assert short_image("registry/team/refiner:v1") == "refiner:v1"
