"""Names of inputs and prefixes on a command line."""

from __future__ import annotations

import pytest

from refinerctl.errors import UsageError
from refinerctl.inputs.names import input_key, input_prefix, near_keys
from tests.unit.insight.fakes import Account, stage_of

IN, LAB = stage_of("In"), stage_of("Lab")


@pytest.fixture
def account() -> Account:
    return Account((IN, LAB))


@pytest.mark.parametrize("text", ["In/a", "/In/a", "s3://data-repository/In/a", "a"])
def test_an_input_is_named_by_its_key_or_its_name(account: Account, text: str) -> None:
    account.bucket.write("In/a")
    assert input_key(account.app, text) == "In/a"


def test_a_name_is_that_of_the_input_that_exists(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.bucket.write("Lab/2026/a")
    account.bucket.denied.add("In/2026/a")  # as S3 answers without s3:ListBucket about what does not exist
    assert input_key(account.app, "2026/a") == "Lab/2026/a"
    assert "using Lab/2026/a" in capsys.readouterr().err


def test_of_several_inputs_the_one_below_the_input_prefix_of_the_stack_is_used(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("In/a", "Lab/a", "RefinerInput/a"):
        account.bucket.write(key)
    assert input_key(account.app, "a") == "RefinerInput/a"
    assert "using RefinerInput/a; other inputs named a: In/a, Lab/a" in capsys.readouterr().err


def test_a_name_of_several_inputs_below_other_prefixes_is_refused(account: Account) -> None:
    account.bucket.write("In/a")
    account.bucket.write("Lab/a")
    with pytest.raises(UsageError) as caught:
        input_key(account.app, "a")
    assert str(caught.value.hint) == "Pass the key of one: In/a, Lab/a."
    assert input_key(account.app, "a", "Lab") == "Lab/a"


def test_a_key_that_no_stage_receives_is_used_unchanged(account: Account) -> None:
    account.bucket.write("Elsewhere/a")
    assert input_key(account.app, "Elsewhere/a") == "Elsewhere/a"
    assert input_key(account.app, "Elsewhere/b") == "Elsewhere/b"


@pytest.mark.parametrize("text", ["Lab", "Lab/", "/Lab/", "LabInput/"])
def test_a_prefix_is_named_by_itself_or_its_stage(account: Account, text: str) -> None:
    assert input_prefix(account.app, text) == ("LabInput/" if text == "LabInput/" else "Lab/")


def test_an_unknown_prefix_lists_the_stages(account: Account) -> None:
    with pytest.raises(UsageError) as caught:
        input_prefix(account.app, "Labb")
    assert "Did you mean Lab? Stages: Lab, In." in str(caught.value.hint)


def test_similar_keys_are_listed_the_most_similar_first(account: Account) -> None:
    for name in ("report-1.txt", "report-2.txt", "other"):
        account.bucket.write(f"In/{name}")
    assert near_keys(account.app, "In/reprot-2.txt") == ["In/report-2.txt", "In/report-1.txt"]
    account.bucket.write("In/2026/11/28/clinic-4/report-2.txt.gz")
    assert near_keys(account.app, "In/report-2.txt.gz")[0] == "In/2026/11/28/clinic-4/report-2.txt.gz"
