"""Progress without a terminal."""

from __future__ import annotations

import pytest

from refinerctl.console import PlainProgress, Renderer


def test_blob_that_starts_again_counts_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress(110, every_s=0)

    for name, done in (("a", 0), ("a", 60), ("b", 10), ("a", 0), ("a", 100)):
        progress.part(name, done * 1_000_000, 100_000_000)

    megabytes = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert megabytes == ["0.0", "60.0", "70.0", "10.0", "110.0"]


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Renderer("text", -1).progress(5) as progress:
        progress.step("copying")
        progress.part("sha256:a", 5, 5)

    assert capsys.readouterr() == ("", "")


def test_step_is_a_line_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with Renderer("text", 0).progress(5) as progress:
        progress.step("copying a to b")
        progress.part("sha256:a", 5, 5)

    assert capsys.readouterr().err[9:] == " copying a to b\n"
