"""Progress of several blobs, where there is no terminal."""

from __future__ import annotations

import pytest

from refinerctl.console import PlainBlobs, Renderer, Silent


class Sum(Silent):
    """Adds up."""

    total = 0

    def advance(self, size: int) -> None:
        self.total += size


def test_what_is_sent_once_more_does_not_count_twice() -> None:
    whole = Sum()
    blobs = PlainBlobs(whole)

    blobs.begin("sha256:a", 100)
    blobs.moved("sha256:a", 60)
    blobs.begin("sha256:b", 10)
    blobs.moved("sha256:b", 10)
    blobs.end("sha256:b")
    blobs.begin("sha256:a", 100)
    assert whole.total == 10
    blobs.moved("sha256:a", 100)
    blobs.end("sha256:a")

    assert whole.total == 110


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Renderer("text", -1).blobs(5) as progress:
        progress.step("copying")
        progress.begin("sha256:a", 5)
        progress.moved("sha256:a", 5)
        progress.end("sha256:a")

    assert capsys.readouterr() == ("", "")


def test_a_step_is_a_line_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with Renderer("text", 0).blobs(5) as progress:
        progress.step("copying a to b")
        progress.begin("sha256:a", 5)
        progress.moved("sha256:a", 5)

    assert capsys.readouterr().err[9:] == " copying a to b\n"
