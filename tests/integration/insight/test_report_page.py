"""The report's page in a real browser: its requests, its layout at each width, the keyboard, screen readers."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refinerctl.insight.report.page import page
from tests import reports
from tests.chromium import Chromium
from tests.needs import needs_program

TAB, ENTER = 9, 13
PAGES = {
    "quiet": reports.empty(),
    "two": reports.report(2),
    "fifty": reports.report(50),
    "scheduled": reports.scheduled(),
    "hostile": reports.hostile(
        "<script>alert(1)</script>\"onmouseover=\"alert(1) <img src='http://127.0.0.1/x'>" + "W" * 300
    ),
}
# What the keyboard has to reach unless it is folded.
INTERACTIVE = "a[href], summary, [tabindex='0']"

# Elements beyond the right edge, unless in something that scrolls.
OUTSIDE = """
    [...document.querySelectorAll('main *')].filter(one => {
        const at = one.getBoundingClientRect()
        return at.width && at.right > innerWidth + 1 && !one.closest('.scroll')
    }).map(one => one.outerHTML.slice(0, 200))"""
# Texts of drawings, their size on the screen, and whether they are within their drawing.
TEXTS = """
    [...document.querySelectorAll('svg text')].filter(one => one.getClientRects().length).map(one => {
        const at = one.getBoundingClientRect(), svg = one.ownerSVGElement, frame = svg.getBoundingClientRect()
        return {
            text: one.textContent,
            size: parseFloat(getComputedStyle(one).fontSize) * frame.width / svg.viewBox.baseVal.width,
            inside: at.left >= frame.left - 1 && at.right <= frame.right + 1
                && at.top >= frame.top - 1 && at.bottom <= frame.bottom + 1,
        }
    })"""
# Parts of the pipeline's drawing that overlap, those beyond its card, and those whose text is cut.
OVERLAPS = """
    [...document.querySelectorAll('.pipeline :is(.box, .outcome, .edge > span, .end, .back, h3 > *)')]
        .filter(one => one.textContent && one.checkVisibility())
        .flatMap((one, number, all) => all.slice(number + 1).filter(other => {
            const a = one.getBoundingClientRect(), b = other.getBoundingClientRect()
            return a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
        }).map(other => [one.textContent, other.textContent]))"""
BEYOND = """
    [...document.querySelectorAll('.pipeline :is(.box, .outcome, .edge, .end)')].filter(one => {
        const at = one.getBoundingClientRect(), card = one.closest('.pipeline').getBoundingClientRect()
        return at.left < card.left || at.right > card.right || at.bottom > card.bottom
    }).map(one => one.textContent)"""
CUT = """
    [...document.querySelectorAll('.pipeline :is(.box > *, .outcome > span, .edge > span, .end, h3 > *)')]
        .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"""
FOCUS = """
    (() => {
        const one = document.activeElement, style = getComputedStyle(one), at = one.getBoundingClientRect()
        return {
            number: one.dataset.number,
            outline: style.outlineStyle + ' ' + style.outlineWidth,
            seen: at.width > 0 && at.height > 0 && at.left >= 0 && at.top < innerHeight && at.bottom > 0,
        }
    })()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    needs_program("chromium", "chromium")
    folder = tmp_path_factory.mktemp("chromium")
    chromium = Chromium(folder)
    yield chromium
    chromium.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    for name, report in PAGES.items():
        (folder / f"{name}.html").write_text(page(report), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in PAGES}


def test_policy_blocks_injected_content(browser: Chromium, urls: dict[str, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    inserted = "<img src='http://127.0.0.1:9/x'><script>document.title = 'it ran'</script></main>"
    bad.write_text(page(PAGES["quiet"]).replace("</main>", inserted), encoding="utf-8")
    browser.open(bad.as_uri())
    assert browser.evaluate("document.title") != "it ran"
    logged = " ".join(event["entry"]["text"] for event in browser.named("Log.entryAdded"))
    assert "img-src" in logged
    assert "script-src" in logged


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_each_width_and_requests_nothing(browser: Chromium, urls: dict[str, str], name: str) -> None:
    """Nothing scrolls sideways; nothing in drawings overlaps, is cut or too small to read."""
    for width in (320, 360, 768, 900, 1280):
        browser.screen(width)
        browser.open(urls[name])
        assert {event["request"]["url"] for event in browser.named("Network.requestWillBeSent")} == {urls[name]}
        assert not browser.named("Runtime.exceptionThrown")
        assert not browser.named("Page.javascriptDialogOpening")
        # Violations of the policy and failed loads are logged here.
        assert [event["entry"]["text"] for event in browser.named("Log.entryAdded")] == []
        assert browser.evaluate("document.compatMode") == "CSS1Compat"
        assert browser.evaluate(OVERLAPS) == []
        assert browser.evaluate(BEYOND) == []
        if name not in ("hostile", "fifty"):  # names of any length are cut, and have a title
            assert browser.evaluate(CUT) == []
        browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(OUTSIDE) == []
        texts: list[dict[str, Any]] = browser.evaluate(TEXTS)
        assert len(texts) > 15 or name == "quiet"
        if name != "hostile" and width in (360, 1280):
            assert [text for text in texts if not text["inside"] or text["size"] < 9.5] == []


def test_colours_follow_the_preference_of_the_reader(browser: Chromium, urls: dict[str, str]) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.screen(1280, dark=False)
    browser.open(urls["two"])
    light = browser.evaluate(colour)
    browser.screen(1280, dark=True)
    assert (light, browser.evaluate(colour)) == ("rgb(244, 246, 248)", "rgb(15, 20, 25)")
    browser.screen(1280, dark=True, media="print")
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(26, 35, 48)"
    browser.screen(1280)


def test_print_shows_folded_content(browser: Chromium, urls: dict[str, str]) -> None:
    folded = "[...document.querySelectorAll('details > :not(summary)')].filter(one => !one.checkVisibility()).length"
    browser.screen(1280)
    browser.open(urls["two"])
    assert browser.evaluate(folded) > 5
    browser.screen(1280, media="print")
    assert browser.evaluate(folded) == 0
    browser.screen(700, media="print")
    assert browser.evaluate(BEYOND) == []
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.screen(1280)


@pytest.mark.parametrize("width", [360, 1280])
def test_keyboard_reaches_everything_skips_and_unfolds(browser: Chromium, urls: dict[str, str], width: int) -> None:
    browser.screen(width)
    browser.open(urls["two"])
    wanted = browser.evaluate(
        f"[...document.querySelectorAll(`{INTERACTIVE}`)].filter(one => one.checkVisibility())"
        ".map((one, number) => { one.dataset.number = number; return String(number) })"
    )
    reached = []
    for _ in range(len(wanted)):
        browser.press("Tab", TAB)
        focus = browser.evaluate(FOCUS)
        reached.append(focus["number"])
        assert focus["outline"] == "solid 3px", focus
        assert focus["seen"], focus
    assert reached == wanted
    browser.open(urls["two"])
    browser.press("Tab", TAB)
    browser.press("Enter", ENTER)
    assert browser.evaluate("document.activeElement.id") == "main"
    browser.evaluate("document.querySelector('.failure summary').focus()")
    browser.press("Enter", ENTER)
    assert browser.evaluate("document.querySelector('.failure details').open") is True


def test_screen_reader_gets_roles_and_names(browser: Chromium, urls: dict[str, str]) -> None:
    browser.screen(1280)
    browser.open(urls["two"])
    nodes = [node for node in browser("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    named = [(_value(node, "role"), _value(node, "name")) for node in nodes]
    roles = {role for role, _ in named}
    assert {"banner", "navigation", "main", "contentinfo", "table", "image", "heading"} <= {
        "image" if role == "img" else role for role in roles
    }
    for role, name in named:
        if role in ("img", "image", "region", "link", "navigation", "heading"):
            assert name, (role, named)
    headings = {name for role, name in named if role == "heading"}
    assert {"RefinerInput RefinerInput/", "LabResults LabResults/"} <= headings


def _value(node: dict[str, Any], name: str) -> str:
    return str(node.get(name, {}).get("value", ""))


def test_page_of_fifty_stages_loads_within_two_seconds(browser: Chromium, urls: dict[str, str]) -> None:
    browser.screen(1280)
    browser.open(urls["fifty"])
    took_ms = browser.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert took_ms < 2000
    picture = browser.screenshot(whole=False)
    assert struct.unpack(">II", picture[16:24]) == (1280, 800)
