"""`refinerctl report --html`: a page about what the environment did, and failed to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project, eventually
from tests.html import elements

pytestmark = pytest.mark.e2e

BUCKET = "data-repository"
# The completion's key would be longer than S3 allows: this input can never be completed.
POISON = f"PoisonInput/{'/'.join(['y' * 200] * 5)}"[:1024]
CAUSE = "Error: The completion's key would exceed … bytes: …"


def text_of(page: Path) -> str:
    return " ".join(elements(page.read_text())[0].all_text.split())


def of_stage(document: Any, name: str) -> Any:
    (found,) = [item for item in document["activity"] if item["stage"] == name]
    return found


def test_page_shows_completed_inputs_and_failures_by_cause(running: Project, tmp_path: Path) -> None:
    good, throws = tmp_path / "reported.txt", tmp_path / "throw"
    for path in (good, throws):
        path.write_text("content\n")
    assert running.run("upload", str(good), "--wait").code == 0
    assert running.run("upload", str(throws), "--prefix", "FaultyInput/").code == 0
    running.client("s3").put_object(Bucket=BUCKET, Key=POISON, Body=b"poison")
    page = tmp_path / "a report.html"
    documents: list[Any] = []

    def failed() -> bool:
        done = running.run("report", "--html", str(page), "--since", "1h", "--no-verify", "--output", "json")
        assert done.code == 0, done.err
        documents.append(done.json())
        causes = {group["signature"] for item in documents[-1]["activity"] for group in item["failures"]}
        return {CAUSE, "Error: thrown on purpose"} <= causes

    assert eventually(failed), [item["failures"] for item in documents[-1]["activity"]]
    document = documents[-1]
    assert (document["file"], document["checks"], document["problems"]) == (str(page), None, [])
    poison = of_stage(document, "PoisonInput")
    (group,) = [item for item in poison["failures"] if item["signature"] == CAUSE]
    assert group["keys"][0] == POISON
    assert group["count"] <= poison["flow"]["failed"]
    refined = of_stage(document, "RefinerInput")
    assert refined["flow"]["completed"] >= 1
    assert refined["flow"]["completed"] == sum(item["completed"] for item in refined["intervals"])
    # What was ignored took no time, and messages that a test has sent itself may name none.
    assert 1 <= sum(refined["latency_s"]["counts"]) <= refined["flow"]["completed"]
    assert 1 <= sum(refined["duration_ms"]["counts"]) <= refined["flow"]["completed"]
    assert refined["flow"]["matched"] is None  # the emulator has no such metric

    done = running.run("report", "--html", str(page), "--since", "1h")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{page}: ")
    assert " completed, " in done.out
    assert " checks failed" in done.out
    text = text_of(page)
    assert "RefinerInput" in text
    assert CAUSE in text
    assert "thrown on purpose" in text
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == [page.name]


def test_report_of_chosen_stages(running: Project, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    done = running.run("report", "--html", str(page), "--stage", "RefinerInput", "--no-verify", "--output", "json")
    assert done.code == 0, done.err
    document = done.json()
    assert [item["stage"] for item in document["activity"]] == ["RefinerInput"]
    assert [item["name"] for item in document["status"]["stages"]] == ["RefinerInput"]
    assert "PoisonInput" not in page.read_text()


@pytest.fixture
def not_deployed(running: Project) -> Iterator[str]:
    """A stage that is in the environment's values and not deployed."""
    values = running.folder / "terraform/environments/local/refiner.tfvars"
    before = values.read_text()
    ruleset = '\n  NewInput = {\n    prefix    = "NewInput/"\n    image_uri = "dibbs-ecr-refiner/lambda"\n  }\n}\n'
    values.write_text(before.rstrip().removesuffix("}").rstrip() + ruleset)
    yield "NewInput"
    values.write_text(before)


def test_report_names_what_cannot_be_read_and_shows_the_rest(
    running: Project, not_deployed: str, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"
    done = running.run("report", "--html", str(page), "--no-verify", "--output", "json")
    assert done.code == 0, done.err
    document = done.json()
    problem = f"{not_deployed}: log group /aws/lambda/dibbs-ecr-{not_deployed} does not exist"
    assert document["problems"] == [problem]
    assert problem in done.err
    assert of_stage(document, not_deployed)["flow"]["completed"] is None
    assert of_stage(document, "RefinerInput")["flow"]["completed"] is not None
    text = text_of(page)
    assert problem in text
    assert f"it is not deployed in us-east-1 ({not_deployed})" in text
