"""Which requests to the local environment are refused: those that a web page can cause."""

from __future__ import annotations

import pytest

from refinerctl.local.web_guard import refusal

HERE = "127.0.0.1:4566"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HERE},
        {"host": "127.0.0.1"},
        {"host": "localhost:4566"},
        {"host": "[::1]:4566"},
        {"host": "bucket.s3.localhost:4566"},  # an SDK's address of a bucket at http://s3.localhost:4566
        {"host": HERE, "sec-fetch-site": "none"},  # typed into the address bar
        {"host": HERE, "sec-fetch-site": "same-origin"},
    ],
)
def test_requests_of_tools_are_answered(headers: dict[str, str]) -> None:
    assert refusal(headers) is None


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"host": HERE, "origin": "https://page.example"}, "web pages"),
        ({"host": HERE, "origin": "http://localhost:3000"}, "web pages"),
        ({"host": HERE, "origin": "null"}, "web pages"),
        ({"host": HERE, "sec-fetch-site": "cross-site"}, "web pages"),
        ({"host": HERE, "sec-fetch-site": "same-site"}, "web pages"),
        ({"host": "page.example:4566"}, "does not name this machine"),  # DNS rebinding
        ({"host": "localhost.page.example"}, "does not name this machine"),
        ({"host": "127.0.0.1.page.example"}, "does not name this machine"),
        ({"host": "10.0.0.1:4566"}, "does not name this machine"),
        ({"host": "[::1"}, "does not name this machine"),
        ({}, "does not name this machine"),
    ],
)
def test_requests_that_a_web_page_can_cause_are_refused(headers: dict[str, str], words: str) -> None:
    assert words in str(refusal(headers))
