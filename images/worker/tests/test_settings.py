"""Environment variables of the worker."""

from __future__ import annotations

import sys

import pytest

from worker.settings import Settings, SettingsError, refuse_longer_jobs

COMPLETE = {"RNR_INPUT_BUCKET": "in", "RNR_OUTPUT_BUCKET": "in"}
DAY_S = 24 * 3600


def test_defaults() -> None:
    settings = Settings.read(COMPLETE)
    assert (settings.input_prefix, settings.output_prefix) == ("rnr/input/", "rnr/output/")
    assert settings.complete_prefix == "rnr/complete/"
    assert (settings.prefetch, settings.job_timeout_s, settings.stop_timeout_s) == (1, 3600, 120)
    assert settings.processor.argv == (sys.executable, "-m", "worker.call", "worker.routing:process")


def test_a_program_gets_its_own_arguments() -> None:
    processor = Settings.read({**COMPLETE, "PROCESSOR_COMMAND": "sh -c 'exit 0'"}).processor
    assert (processor.name, processor.argv) == ("sh", ("sh", "-c", "exit 0"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RNR_INPUT_BUCKET": " "}, "RNR_INPUT_BUCKET is not set"),
        ({"RNR_OUTPUT_PREFIX": "out"}, "RNR_OUTPUT_PREFIX 'out' does not end in a slash"),
        ({"RNR_OUTPUT_PREFIX": "/rnr/input/out/"}, "RNR_OUTPUT_PREFIX rnr/input/out/ is below RNR_INPUT_PREFIX"),
        ({"RNR_COMPLETE_PREFIX": "rnr/input/"}, "RNR_COMPLETE_PREFIX rnr/input/ is below"),
        ({"RNR_PREFETCH": "0"}, "RNR_PREFETCH '0' is not a number of at least 1"),
        ({"RNR_JOB_TIMEOUT_S": "inf"}, "RNR_JOB_TIMEOUT_S 'inf' is not a number"),
        ({"RNR_STOP_TIMEOUT_S": "soon"}, "RNR_STOP_TIMEOUT_S 'soon' is not a number"),
        ({"PROCESSOR": "worker.routing"}, "is not like module:function"),
        ({"PROCESSOR": "no_such_module:run"}, "no module no_such_module"),
        ({"PROCESSOR": "no_such_package.module:run"}, "no module no_such_package.module"),
        ({"PROCESSOR_COMMAND": "no-such-program --fast"}, "no executable program no-such-program"),
        ({"PROCESSOR_COMMAND": "sh -c 'x"}, "cannot be split into words"),
        ({"PROCESSOR_COMMAND": "sh", "PROCESSOR": "a:b"}, "mutually exclusive"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changed: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.read({**COMPLETE, **changed})


def settings(**changed: str) -> Settings:
    return Settings.read({**COMPLETE, **{f"RNR_{name.upper()}": value for name, value in changed.items()}})


@pytest.mark.parametrize("version", ["3.12.0", "3.13.7", "4.2.0", "4.3.0-rc.1"])
def test_the_limit_of_the_queue_counts_where_the_broker_knows_it(version: str) -> None:
    refuse_longer_jobs(settings(job_timeout_s="7200"), version, DAY_S)
    with pytest.raises(SettingsError, match=rf"RabbitMQ {version} takes a message back after 86400 s.* at most 86100"):
        refuse_longer_jobs(settings(job_timeout_s="86400"), version, DAY_S)


def test_the_limit_of_an_older_broker_counts() -> None:
    refuse_longer_jobs(settings(job_timeout_s="1500"), "3.10.8", DAY_S)
    with pytest.raises(SettingsError, match=r"RabbitMQ 3\.10\.8 takes a message back after 1800 s.* at most 1500, or"):
        refuse_longer_jobs(settings(job_timeout_s="3600"), "3.10.8", DAY_S)
    refuse_longer_jobs(settings(job_timeout_s="3600", broker_consumer_timeout_s="7200"), "3.10.8", DAY_S)


def test_messages_that_wait_need_time_as_well() -> None:
    with pytest.raises(SettingsError, match=r"RNR_PREFETCH=4.* at most 150"):
        refuse_longer_jobs(settings(job_timeout_s="1500", prefetch="4"), "3.10.8", DAY_S)
