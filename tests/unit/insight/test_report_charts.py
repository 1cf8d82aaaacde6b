"""Charts as geometry: round ticks, no label overlaps another one or leaves the chart. How numbers read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.insight.report import text as numbers
from refinerctl.insight.report.activity import Flow, StageActivity
from refinerctl.insight.report.charts import (
    DISTRIBUTION,
    FONT_SIZE,
    NARROW,
    SMALL,
    SMALL_DISTRIBUTION,
    WIDE,
    Chart,
    Label,
    Plot,
    count_ticks,
    distribution,
    distributions,
    over_time,
    throughput,
    tick_text,
    time_ticks,
)
from refinerctl.insight.report.tally import Histogram, Interval
from refinerctl.insight.report.text import Count, duration, short_count, total
from tests import reports


def check_labels(labels: Iterable[Label], chart: Chart) -> None:
    """No label overlaps another one or leaves the chart."""
    for one, other in combinations(labels, 2):
        assert one.right <= other.left or other.right <= one.left or abs(one.y - other.y) >= FONT_SIZE, (one, other)
    for label in labels:
        assert label.left >= -0.01, label  # a hundredth of a pixel: sums of fractions
        assert label.right <= chart.frame.width + 0.01, label
        assert FONT_SIZE * 0.75 <= label.y <= chart.frame.height - FONT_SIZE * 0.2, label


class TestCharts:
    @given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=400))
    def test_labels_over_time_do_not_overlap(self, counts: list[tuple[int, int]]) -> None:
        start = datetime(2026, 2, 27, 22, 13, tzinfo=UTC)
        intervals = tuple(Interval(start + place * reports.HOUR, *pair) for place, pair in enumerate(counts))
        activity = [StageActivity(name, Flow(), intervals) for name in "ab"]
        plots = throughput(activity, start, start + len(counts) * reports.HOUR, reports.HOUR)
        assert bool(plots) == any(done or failed for done, failed in counts)
        for plot, factor in zip(plots, (2, 1, 1), strict=False):
            assert sum(bar.count for bar in plot.bars) == factor * sum(done for done, _ in counts)
            assert sum(bar.failed for bar in plot.bars) == factor * sum(failed for _, failed in counts)
            assert [plot.chart.frame, plot.narrow and plot.narrow.frame] == (
                [WIDE, NARROW] if factor == 2 else [SMALL, None]
            )
            for chart in (plot.chart, plot.narrow):
                check_chart(chart or plot.chart)

    @given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.floats(1.05, 3), st.sampled_from([1.0, 0.001]))
    def test_labels_of_a_distribution_do_not_overlap(self, counts: list[int], factor: float, unit_s: float) -> None:
        edges = tuple(0.1 * factor**place for place in range(len(counts) + 2))
        for frame in (DISTRIBUTION, SMALL_DISTRIBUTION):
            plot = distribution("d", "s", "Latency", Histogram(edges, (*counts, 1)), unit_s, frame)
            check_chart(plot.chart)

    def test_each_hour_has_a_bar(self) -> None:
        """Also without attempts; an interval that began before the period is in the first bar."""
        intervals = (
            Interval(reports.SINCE - timedelta(minutes=9), 7, 0),
            Interval(reports.SINCE + 3 * reports.HOUR, 2, 1),
        )
        bars = over_time(intervals, reports.SINCE, reports.NOW, reports.HOUR)
        assert [bar.count for bar in bars] == [7, 0, 0, 2] + [0] * 20
        assert bars[3].text == "13 Mar 12:27 to 13:27: 2 completed, 1 failed"

    def test_empty_ranges_at_the_ends_are_left_out_and_the_quantiles_stay(self) -> None:
        histogram = Histogram(tuple(float(edge) for edge in range(11)), (0, 0, 0, 5, 0, 1, 0, 0, 0, 0))
        plot = distribution("d", "s", "Latency", histogram, 1.0, DISTRIBUTION)
        assert [(bar.name, bar.count) for bar in plot.bars] == [
            *[("2 s to 3 s", 0), ("3 s to 4 s", 5), ("4 s to 5 s", 0), ("5 s to 6 s", 1), ("6 s to 7 s", 0)]
        ]
        assert plot.quantiles == ("4 s", "6 s", "6 s")

    def test_tiny_bar_is_visible(self) -> None:
        many = Interval(reports.SINCE + reports.HOUR, 100_000, 0)
        activity = [StageActivity("s", Flow(), (Interval(reports.SINCE, 1, 0), many))]
        (plot,) = throughput(activity, reports.SINCE, reports.NOW, reports.HOUR)
        assert "v-1.5" in plot.chart.paths[0][0]


def check_chart(chart: Chart) -> None:
    frame = chart.frame
    check_labels([*chart.columns, *(label for _, label in chart.marks)], chart)
    heights = [y for y, _ in chart.rows]
    assert all(above - below >= 12 for above, below in pairwise(heights))
    # The highest tick is at the top: nothing is above it.
    assert min(heights) == frame.top


class TestTogether:
    ONE, TWO = Histogram((1.0, 2.0, 5.0), (3, 4)), Histogram((5.0, 10.0, 20.0), (1, 2))

    def test_histograms_of_one_scale_are_added_up(self) -> None:
        (found,) = together(self.ONE, self.TWO, Histogram((2.0, 5.0), (10,)))
        assert [bar.count for bar in found.bars] == [3, 14, 1, 2]
        assert (found.caption, found.quantiles) == ("20 inputs", ("5 s", "20 s", "20 s"))

    def test_no_values_no_chart(self) -> None:
        assert together(None, None) == ()


def together(*latencies: Histogram | None) -> tuple[Plot, ...]:
    return distributions([StageActivity(str(place), Flow(), latency_s=one) for place, one in enumerate(latencies)])[0]


class TestTicks:
    @given(st.integers(0, 10**12))
    def test_ticks_are_whole_even_and_few_and_reach_the_highest(self, highest: int) -> None:
        ticks = count_ticks(highest)
        assert ticks[0] == 0
        assert ticks[-1] >= highest
        assert len({after - before for before, after in pairwise(ticks)}) == 1
        assert 2 <= len(ticks) <= 7

    @pytest.mark.parametrize("ticks", [(0, 1), (0, 1, 2, 3), (0, 2, 4, 6, 8), (0, 50, 100), (0, 500, 1000, 1500)])
    def test_ticks_are_round(self, ticks: tuple[int, ...]) -> None:
        assert count_ticks(ticks[-1]) == ticks

    def test_ticks_are_round_times(self) -> None:
        ticks = time_ticks(reports.SINCE, reports.NOW)
        assert [f"{tick:%H:%M}" for tick in ticks] == ["12:00", "18:00", "00:00", "06:00"]
        texts = [tick_text(tick, before) for before, tick in zip((None, *ticks), ticks, strict=False)]
        assert texts == ["13 Mar 12:00", "18:00", "14 Mar", "06:00"]

    @given(st.integers(1, 60 * 24 * 400))
    def test_ticks_of_time_are_few(self, minutes: int) -> None:
        assert len(time_ticks(reports.SINCE, reports.SINCE + timedelta(minutes=minutes), 8)) <= 16


class TestNumbers:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            *((None, "—"), (0, "0 ms"), (0.00042, "0.4 ms"), (0.85, "850 ms"), (0.9999, "1 s"), (1.234, "1.2 s")),
            *((12.6, "13 s"), (59.97, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (1155600, "13 d 9 h")),
        ],
    )
    def test_duration(self, seconds: float | None, text: str) -> None:
        assert duration(seconds) == text

    def test_short_count(self) -> None:
        texts = [short_count(value) for value in (None, 0, 1204, 99_999, 123_456, 999_999, 12_345_678)]
        assert texts == ["—", "0", "1,204", "99,999", "123 k", "1.0 M", "12.3 M"]

    def test_sum_with_unknown_parts_is_a_lower_bound(self) -> None:
        assert total([Count(1), Count(None)]).text == "≥ 1"
        assert total([Count(None)]).text == "—"
        assert total([]).text == "—"
        assert total([Count(0), Count(1200)]).text == "1,200"

    def test_share_is_0_or_100_percent_only_if_it_is(self) -> None:
        texts = [numbers.share(part, 100_000) for part in (0, 1, 1500, 99_999, 100_000)]
        assert texts == ["0 %", "< 0.1 %", "1.5 %", "> 99.9 %", "100 %"]

    def test_span(self) -> None:
        assert [numbers.span(hours * 3600) for hours in (0.5, 1, 24, 72)] == ["30 min", "1 h", "24 h", "3 d"]

    def test_missing_time(self) -> None:
        assert numbers.utc(datetime.min) is None
        assert numbers.ago(None, reports.NOW) == "—"
