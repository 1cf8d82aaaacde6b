"""The page of the report: well-formed, harmless whatever text it shows, accessible, complete."""

from __future__ import annotations

import configparser
import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinerctl.insight.report.activity import Activity, Flow, StageActivity
from refinerctl.insight.report.page import PipelineReport, all_problems, failure_causes, page, release_rows, short_image
from refinerctl.insight.report.tally import Histogram, Interval
from refinerctl.insight.status_model import InputsStatus, PipelineStatus, QueueStatus, StageStatus
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
    "scheduled": reports.scheduled(),
    "services": reports.services(),
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
    def test_headings_skip_no_level(self, parsed: list[Element]) -> None:
        levels = [int(element.tag[1]) for element in parsed if re.fullmatch("h[1-6]", element.tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_ids_are_unique_and_every_reference_has_a_target(self, parsed: list[Element]) -> None:
        ids = Counter(element.attributes["id"] for element in parsed if "id" in element.attributes)
        assert set(ids.values()) == {1}
        references = [target for element in parsed for target in _references(element)]
        assert references
        assert set(references) <= ids.keys()

    def test_drawings_regions_and_tables_are_accessible(self, parsed: list[Element]) -> None:
        for element in parsed:
            given = element.attributes
            if element.tag == "svg" and "aria-hidden" not in given:
                title, description = (given["aria-labelledby"] or "").split()
                named = {child.attributes.get("id"): child for child in element.children}
                assert (given["role"], named[title].tag, named[description].tag) == ("img", "title", "desc")
                assert named[title].text
                assert named[description].text
            if given.get("role") == "region":
                assert (given["tabindex"], bool(given["aria-label"])) == ("0", True)
            assert element.tag != "th" or "scope" in given

    def test_page_runs_no_script_and_requests_nothing(self, parsed: list[Element]) -> None:
        policy = next(e for e in parsed if e.attributes.get("http-equiv") == "Content-Security-Policy")
        assert policy.attributes["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        assert not {"script", "img", "iframe", "object", "embed", "form", "base"} & {e.tag for e in parsed}
        for element in parsed:
            assert not any(name.startswith("on") or name in ("src", "style") for name in element.attributes)
            assert re.match("#|data:,$", element.attributes.get("href") or "#")
        style = next(element.text for element in parsed if element.tag == "style")
        assert "@import" not in style
        assert re.findall(r"url\(([^)]*)\)", style) == ["#hatch"]

    def test_page_has_language_viewport_and_machine_readable_times(self, parsed: list[Element]) -> None:
        assert next(element for element in parsed if element.tag == "html").attributes["lang"] == "en"
        assert any("width=device-width" in (element.attributes.get("content") or "") for element in parsed)
        moments = [element.attributes["datetime"] or "" for element in parsed if element.tag == "time"]
        assert moments
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment) for moment in moments)

    def test_page_of_fifty_stages_has_half_a_megabyte_at_most(self, pages: dict[str, str]) -> None:
        assert len(pages["fifty"].encode()) < 300_000
        assert len(page(_busy(reports.report(50))).encode()) < 500_000


def _busy(report: PipelineReport) -> PipelineReport:
    """With the largest plots that are possible."""
    edges = tuple(0.1 * 1.26**step for step in range(31))
    histogram = Histogram(edges, tuple(range(1000, 1030)))
    step = timedelta(minutes=15)
    intervals = tuple(Interval(reports.SINCE + place * step, 1000 + place, place % 9) for place in range(96))
    activity = [
        dataclasses.replace(item, latency_s=histogram, duration_ms=histogram, intervals=intervals)
        for item in report.activity.stages
    ]
    return dataclasses.replace(report, activity=Activity(step, tuple(activity)))


def _references(element: Element) -> list[str]:
    targets = (element.attributes.get("aria-labelledby") or "").split()
    href = element.attributes.get("href") or ""
    return [*targets, href[1:]] if href.startswith("#") else targets


class TestHarmless:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_text_stays_text_and_is_shown_unchanged(self, text: str) -> None:
        shown = page(reports.hostile(text))
        assert _shape(shown) == _shape(page(reports.hostile("A" * len(text))))
        assert text in [element.text for element in elements(shown) if element.tag == "code"]

    @settings(max_examples=25, deadline=None)
    @given(
        st.text(alphabet=st.one_of(st.sampled_from("<>&\"'/=-{}%#`\\\n "), st.characters()), min_size=1, max_size=60)
    )
    def test_any_text_stays_text(self, text: str) -> None:
        shown = page(reports.hostile(text))
        shown.encode("utf-8")
        assert _shape(shown) == _shape(page(reports.hostile("A")))
        assert all(char.isprintable() or char in "\n\t" for char in shown)

    def test_combining_marks_are_limited(self) -> None:
        assert "\u0301" * 4 not in page(reports.hostile("Z" + "\u0301" * 50))

    def test_long_text_is_cut_with_a_note(self) -> None:
        shown = page(reports.hostile("x" * 100_000))
        assert "characters more)" in shown
        assert len(shown) < 200_000


def _shape(shown: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements with their attributes, without texts. Text that was cut in a drawing has a title."""
    return [(e.tag, tuple(e.attributes)) for e in elements(shown) if e.tag not in ("title", "tspan")]


class TestContent:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("two", "Processing, with problems 843 completed, 11 failed in 24 h; 2 messages in dead-letter queues;"),
            ("two", "1 check failed; 1 source could not be read"),
            ("quiet", "Idle nothing was processed in 24 h"),
            ("unknown", "Unknown no data about what was processed in 24 h; 1 source could not be read"),
            ("scheduled", "Processing, with problems ≥ 15 completed, ≥ 1 failed"),
        ],
    )
    def test_verdict_is_first(self, pages: dict[str, str], name: str, text: str) -> None:
        assert text in _verdict(pages[name])

    def test_verdict_without_problems(self) -> None:
        assert _verdict(page(reports.report(2, trouble=False))) == "Processing 749 completed, 0 failed in 24 h"

    @pytest.mark.parametrize(
        ("in_flight", "failed", "text"),
        [
            (0, 0, "Stalled nothing was processed in 24 h; 5 messages waiting"),
            (1, 0, "Starting nothing was processed in 24 h; 5 messages waiting"),
            (0, 3, "Failing 0 completed, 3 failed in 24 h; 5 messages waiting"),
        ],
    )
    def test_verdict_of_messages_that_wait(self, in_flight: int, failed: int, text: str) -> None:
        queue = QueueStatus("q", 5, in_flight, 0)
        activity = StageActivity("RefinerInput", Flow(completed=0, failed=failed))
        status = PipelineStatus(reports.NOW, (StageStatus("RefinerInput", "", queue),))
        report = dataclasses.replace(reports.empty(), status=status, activity=Activity(reports.HOUR, (activity,)))
        assert _verdict(page(report)) == text

    def test_numbers_of_a_log_that_was_cut_are_lower_bounds(self) -> None:
        report = reports.report(1)
        cut = dataclasses.replace(report.activity.stages[0], is_cut=True)
        shown = page(dataclasses.replace(report, activity=Activity(reports.HOUR, (cut, *report.activity.stages[1:]))))
        assert f"≥ {cut.flow.completed:,} completed" in _verdict(shown)
        assert "Only a part of the logs of RefinerInput was read" in shown

    def test_unknown_is_a_dash(self, pages: dict[str, str]) -> None:
        cells = [element.text for element in elements(pages["unknown"]) if element.tag == "td"]
        assert cells
        assert set(cells) == {"—"}
        assert "No data about what was processed in this period." in pages["unknown"]

    def test_table_has_the_status_of_each_stage(self, pages: dict[str, str]) -> None:
        table = next(e for e in elements(pages["one"]) if e.attributes.get("aria-label") == "Status of each stage")
        rows = [[cell.all_text for cell in row.children] for row in _descendants(table) if row.tag == "tr"]
        one = (
            "12 | 3 | 0 | 3 min 11 s | ✗ 2 | 0 | 13 d 9 h | 61 | ✗ 2 | 0 | 412 ms | 1.2 s | 4 | — | 14 Mar 09:25 | yes"
        )
        assert " | ".join(rows[2][1:]) == one
        assert " | ".join(rows[3][1:]) == "633 | 0 | 0 | 23 h 53 min | 0 | 0" + " | —" * 10

    @pytest.mark.parametrize(
        ("inputs", "cell"),
        [
            (InputsStatus(1500, 1200, 2), "✗ 1,200"),
            (InputsStatus(1500, 3, 0), "3"),
            (InputsStatus(1500, 3, None, all_counted=False), "≥ 3"),
            (InputsStatus(1500, 0, 0, all_counted=False), "—"),
        ],
    )
    def test_table_has_the_incomplete_inputs(self, inputs: InputsStatus, cell: str) -> None:
        found = reports.empty()
        status = dataclasses.replace(found.status, stages=(dataclasses.replace(found.status.stages[0], inputs=inputs),))
        shown = elements(page(dataclasses.replace(found, status=status)))
        table = next(e for e in shown if e.attributes.get("aria-label") == "Status of each stage")
        rows = [[cell.all_text for cell in row.children] for row in _descendants(table) if row.tag == "tr"]
        assert rows[2][rows[1].index("Incomplete") + 1] == cell

    def test_empty_sections_say_so(self, pages: dict[str, str]) -> None:
        for text in (
            "Nothing was processed in this period.",
            "Nothing was completed in this period.",
            "No attempt failed in this period.",
            "verify was not run for this report.",
            "The ledger has no releases.",
            "Everything could be read.",
        ):
            assert text in pages["quiet"]
        assert "The pipeline has no stages." in pages["none"]

    def test_other_stacks_have_no_words_of_stack_refiner(self, pages: dict[str, str]) -> None:
        text = elements(pages["scheduled"])[0].all_text.lower().replace("refinerctl", "")
        assert not re.search("refiner|ruleset|bucket|event bus", text)

    def test_causes_that_stages_share_are_shown_once(self) -> None:
        found = failure_causes(reports.report(12).activity)
        assert [group.signature[:9] for group, _ in found] == ["NoSuchKey", "Task time"]
        group, stages = found[0]
        assert group.count == sum(count for _, count in stages)
        assert (len(stages), len(group.keys)) == (3, 20)

    def test_releases_show_what_they_changed(self) -> None:
        rows = release_rows(reports.releases(["A", "B"]))
        assert [is_current for _, is_current, _ in rows] == [True, False, False, False]
        assert rows[0][2] == [("A", "refiner@sha256:cccccccccccc"), ("B", "refiner@sha256:cccccccccccc")]
        assert [len(changed) for _, _, changed in rows] == [2, 2, 2, 2]
        assert short_image("registry/team/refiner:v1") == "refiner:v1"

    def test_each_problem_is_shown_once_with_its_stages(self) -> None:
        found = reports.report(2)
        states = [dataclasses.replace(state, problems=("queue gone",)) for state in found.status.stages[:2]]
        status = dataclasses.replace(found.status, stages=tuple(states), problems=("a", "a"))
        problems = all_problems(dataclasses.replace(found, problems=("a", "b"), status=status))
        assert problems == {"a": [], "b": [], "queue gone": ["RefinerInput", "LabResults"]}


def _verdict(shown: str) -> str:
    section = next(e for e in elements(shown) if "verdict" in (e.attributes.get("class") or "").split())
    return " ".join(section.all_text.split()).lstrip("✓✗!○ ")


def _descendants(element: Element) -> Iterator[Element]:
    for child in element.children:
        yield child
        yield from _descendants(child)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag(mode: int) -> None:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    text = [(name, under) for name in ("text", "muted", "accent", "good", "warn", "bad") for under in ("bg", "surface")]
    text += [(tone, f"{tone}-bg") for tone in ("good", "warn", "bad")]
    graphics = [(name, "surface") for name in ("wire", "done", "lost", "bad", "warn", "good", "accent")]
    style = next(element.text for element in elements(page(REPORTS["quiet"])) if element.tag == "style")
    colours = dict(re.findall(r"--([\w-]+):(#\w+)", re.findall(r":root\{(--.*?)\}", style)[mode]))
    for pairs, least in ((text, 4.5), (graphics, 3)):
        for pair in pairs:
            lighter, darker = sorted((_luminance(colours[name]) for name in pair), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= least, pair


def _luminance(colour: str) -> float:
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = (channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels)
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_wheel_contains_the_templates() -> None:
    root = Path(__file__).parents[3]
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg")
    package = root / "refinerctl" / "insight" / "report"
    packed = {
        path
        for glob in settings["options.package_data"]["refinerctl.insight.report"].split()
        for path in package.glob(glob)
    }
    assert packed
    assert {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")} <= packed


def test_a_service_is_drawn_with_its_tasks_and_its_brokers_queue(pages: dict[str, str]) -> None:
    text = elements(pages["services"])[0].all_text
    for said in ("RabbitMQ queue", "ECS service", "3 of 4 tasks", "5 waiting", "1 in flight", "2 in DLQ"):
        assert said in text
