"""The report's page: well-formed, harmless whatever others wrote, and readable by everyone."""

from __future__ import annotations

import configparser
import dataclasses
import re
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinerctl.insight.report.page import page
from refinerctl.insight.report.page.palette import COLOURS
from refinerctl.insight.report.types import Flow, Histogram, Interval, Report, RulesetActivity
from refinerctl.insight.stage_status import FunctionStatus, PipelineStatus, QueueStatus
from refinerctl.insight.status_types import RulesetStatus
from tests import reports
from tests.html import Element, elements

REPORTS = {
    "none": reports.report(0),
    "one": reports.report(1),
    "two": reports.report(2),
    "twelve": reports.report(12),
    "fifty": reports.report(50),
    "quiet": reports.empty(),
    "unknown": reports.unknown(),
    "hostile": reports.hostile('<script>alert(1)</script>"\'onmouseover="x" \u202e\x1b[31m{{ 7 * 7 }}' + "長" * 400),
}
HOSTILE = (
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "'><svg/onload=alert(1)>",
    "</title></style></textarea><img src=x onerror=alert(1)>",
    "]]> --> <!--",
    "&lt;b&gt; &amp; &#x3C;",
    "javascript:alert(1)",
    "{{ report }} {% raw %}",
)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: page(report) for name, report in REPORTS.items()}


@pytest.fixture(params=REPORTS)
def parsed(request: pytest.FixtureRequest, pages: dict[str, str]) -> list[Element]:
    return elements(pages[request.param])


class TestForm:
    def test_headings_go_down_one_level_at_a_time(self, parsed: list[Element]) -> None:
        levels = [int(element.tag[1]) for element in parsed if re.fullmatch("h[1-6]", element.tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_ids_are_unique_and_every_reference_has_its_target(self, parsed: list[Element]) -> None:
        ids = Counter(element.attributes["id"] for element in parsed if "id" in element.attributes)
        assert set(ids.values()) == {1}
        references = [target for element in parsed for target in _references(element)]
        assert references
        assert set(references) <= ids.keys()

    def test_every_drawing_has_a_name_and_a_description(self, parsed: list[Element]) -> None:
        drawings = [e for e in parsed if e.tag == "svg" and "aria-hidden" not in e.attributes]
        assert drawings
        for drawing in drawings:
            assert drawing.attributes["role"] == "img"
            title, description = (drawing.attributes["aria-labelledby"] or "").split()
            named = {child.attributes.get("id"): child for child in drawing.children}
            assert (named[title].tag, named[description].tag) == ("title", "desc")
            assert named[title].text
            assert named[description].text

    def test_what_scrolls_can_be_focused_and_has_a_name(self, parsed: list[Element]) -> None:
        for element in parsed:
            if element.attributes.get("role") == "region":
                assert element.attributes["tabindex"] == "0"
                assert element.attributes["aria-label"]

    def test_cells_of_tables_have_headers(self, parsed: list[Element]) -> None:
        assert all("scope" in element.attributes for element in parsed if element.tag == "th")

    def test_nothing_runs_and_nothing_is_requested(self, parsed: list[Element]) -> None:
        policy = next(e for e in parsed if e.attributes.get("http-equiv") == "Content-Security-Policy")
        assert policy.attributes["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        assert not {"script", "img", "iframe", "object", "embed", "form", "base"} & {e.tag for e in parsed}
        for element in parsed:
            assert not any(name.startswith("on") or name in ("src", "style") for name in element.attributes)
            assert re.match("#|data:,$", element.attributes.get("href") or "#")
        style = next(element.text for element in parsed if element.tag == "style")
        assert "@import" not in style
        assert re.findall(r"url\(([^)]*)\)", style) == ["#hatch"]

    def test_moments_are_utc_and_readable_by_machines(self, parsed: list[Element]) -> None:
        moments = [element for element in parsed if element.tag == "time"]
        assert moments
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", m.attributes["datetime"] or "") for m in moments)

    def test_it_tells_its_language_and_fits_a_phone(self, parsed: list[Element]) -> None:
        assert next(element for element in parsed if element.tag == "html").attributes["lang"] == "en"
        assert any("width=device-width" in (element.attributes.get("content") or "") for element in parsed)

    def test_fifty_rulesets_are_half_a_megabyte_at_most(self, pages: dict[str, str]) -> None:
        assert len(pages["fifty"].encode()) < 300_000
        assert len(page(_busy(reports.report(50))).encode()) < 500_000


def _busy(report: Report) -> Report:
    """With as much in each plot as there ever is."""
    edges = tuple(0.1 * 1.26**step for step in range(31))
    histogram = Histogram(edges, tuple(range(1000, 1030)))
    step = timedelta(minutes=15)
    intervals = tuple(Interval(reports.SINCE + place * step, 1000 + place, place % 9) for place in range(96))
    activity = [
        dataclasses.replace(item, latency_s=histogram, duration_ms=histogram, intervals=intervals)
        for item in report.activity
    ]
    return dataclasses.replace(report, activity=tuple(activity), interval=step)


def _references(element: Element) -> list[str]:
    targets = (element.attributes.get("aria-labelledby") or "").split()
    href = element.attributes.get("href") or ""
    return [*targets, href[1:]] if href.startswith("#") else targets


class TestHarmless:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_stays_text(self, text: str) -> None:
        assert _shape(page(reports.hostile(text))) == _shape(page(reports.hostile("A" * len(text))))

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_key_is_shown_as_it_is(self, text: str) -> None:
        codes = [element.text for element in elements(page(reports.hostile(text))) if element.tag == "code"]
        assert text in codes

    @settings(max_examples=25, deadline=None)
    @given(
        st.text(alphabet=st.one_of(st.sampled_from("<>&\"'/=-{}%#`\\\n "), st.characters()), min_size=1, max_size=60)
    )
    def test_any_text_stays_text(self, text: str) -> None:
        shown = page(reports.hostile(text))
        shown.encode("utf-8")
        assert _shape(shown) == _shape(page(reports.hostile("A")))
        assert all(char.isprintable() or char in "\n\t" for char in shown)

    def test_heaps_of_combining_marks_do_not_reach_the_next_line(self) -> None:
        assert "\u0301" * 4 not in page(reports.hostile("Z" + "\u0301" * 50))

    def test_what_is_long_is_cut_and_says_so(self) -> None:
        shown = page(reports.hostile("x" * 100_000))
        assert "characters more)" in shown
        assert len(shown) < 200_000


def _shape(shown: str) -> list[tuple[str, tuple[str, ...]]]:
    """Which elements with which attributes, without texts. What a text has cut off may add a title in a drawing."""
    return [(e.tag, tuple(e.attributes)) for e in elements(shown) if e.tag not in ("title", "tspan")]


class TestContent:
    def test_the_verdict_stands_first(self, pages: dict[str, str]) -> None:
        assert _verdict(pages["two"]).startswith("Flowing, with trouble")
        assert "11 failed in 24 h; 2 messages in dead-letter queues; 1 check fails" in _verdict(pages["two"])
        assert _verdict(pages["quiet"]) == "Idle nothing was processed in 24 h"
        assert _verdict(pages["unknown"]) == (
            "Unknown nothing tells what was processed in 24 h; 1 thing could not be looked at"
        )
        assert _verdict(page(reports.report(2, trouble=False))) == "Flowing 749 completed, 0 failed in 24 h"

    def test_what_waits_and_does_not_move_stands_still(self) -> None:
        assert _verdict(page(_waiting(in_flight=0))).startswith(
            "Standing still nothing was processed in 24 h; 5 messages"
        )
        assert _verdict(page(_waiting(in_flight=1))).startswith("Starting")

    def test_what_only_fails_is_failing(self) -> None:
        assert _verdict(page(_waiting(in_flight=0, failed=3))).startswith("Failing 0 completed, 3 failed")

    def test_what_was_cut_is_at_least(self) -> None:
        report = reports.report(1)
        cut = dataclasses.replace(report.activity[0], is_cut=True)
        shown = page(dataclasses.replace(report, activity=(cut, *report.activity[1:])))
        assert f"≥ {cut.flow.completed:,} completed" in _verdict(shown)
        assert "held more than was read" in shown

    def test_unknown_is_a_dash_and_not_none(self, pages: dict[str, str]) -> None:
        cells = [element.text for element in elements(pages["unknown"]) if element.tag == "td"]
        assert cells
        assert set(cells) == {"—"}
        assert "Nothing tells what was processed in this time." in pages["unknown"]

    def test_without_anything_each_section_says_so(self, pages: dict[str, str]) -> None:
        for text in (
            "Nothing was processed in this time.",
            "Nothing was completed in this time.",
            "No attempt failed in this time.",
            "verify was not run for this report.",
            "The ledger has no releases.",
            "Everything could be looked at.",
        ):
            assert text in pages["quiet"]
        assert "There are no rulesets." in pages["none"]

    def test_the_same_report_gives_the_same_page(self, pages: dict[str, str]) -> None:
        assert page(REPORTS["twelve"]) == pages["twelve"]


def _verdict(shown: str) -> str:
    section = next(e for e in elements(shown) if "verdict" in (e.attributes.get("class") or "").split())
    return " ".join(section.all_text.split()).lstrip("✓✗!○ ")


def _waiting(in_flight: int, failed: int = 0) -> Report:
    queue = QueueStatus("q", 5, in_flight, 0)
    activity = RulesetActivity("A", Flow(completed=0, failed=failed))
    status = PipelineStatus(reports.NOW, (RulesetStatus("A", "A/", queue, function=FunctionStatus("a")),))
    return dataclasses.replace(reports.empty(), status=status, activity=(activity,))


class TestColours:
    TEXT = ("text", "muted", "accent", "good", "warn", "bad")

    @pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
    def test_text_has_the_contrast_that_wcag_asks_for(self, mode: int) -> None:
        pairs = [(text, under) for text in self.TEXT for under in ("bg", "surface")]
        pairs += [(tone, f"{tone}-bg") for tone in ("good", "warn", "bad")]
        low = {pair: ratio for pair in pairs if (ratio := _contrast(*pair, mode)) < 4.5}
        assert not low

    @pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
    def test_graphics_have_the_contrast_that_wcag_asks_for(self, mode: int) -> None:
        pairs = [(colour, "surface") for colour in ("wire", "done", "lost", "bad", "warn", "good", "accent")]
        low = {pair: ratio for pair in pairs if (ratio := _contrast(*pair, mode)) < 3}
        assert not low


def _contrast(one: str, other: str, mode: int) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    lighter, darker = sorted((_luminance(COLOURS[name][mode]) for name in (one, other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = (channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels)
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_jinja_is_loaded_only_when_a_page_is_made() -> None:
    script = "import sys, refinerctl.insight.report.page; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_wheel_holds_the_templates() -> None:
    root = Path(__file__).parents[2]
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg")
    package = root / "refinerctl" / "insight" / "report" / "page"
    packed = {
        path
        for glob in settings["options.package_data"]["refinerctl.insight.report.page"].split()
        for path in package.glob(glob)
    }
    assert packed
    assert {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")} <= packed
