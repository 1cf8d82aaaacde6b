"""Settings of the worker: environment variables, checked at start."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_PROCESSOR = "worker.routing:process"
# Before RabbitMQ 3.12 a queue's `x-consumer-timeout` is ignored and the broker's own limit counts; this is its default.
OLD_CONSUMER_TIMEOUT_S = 1800
FIRST_QUEUE_TIMEOUT = (3, 12)
# What a message needs beside the processor while it is not acknowledged: transfers, and the pause after a failure.
TRANSFER_S = 300


class SettingsError(Exception):
    """The worker cannot start: the message names the variable and what to change."""


@dataclass(frozen=True)
class Processor:
    """The program that processes an input; it gets the input file and the output folder as its last arguments."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What the worker is told by its environment."""

    input_bucket: str
    input_prefix: str
    output_bucket: str
    output_prefix: str
    complete_prefix: str
    processor: Processor
    prefetch: int
    job_timeout_s: float
    stop_timeout_s: float
    retry_delay_s: float
    protection_s: float
    broker_consumer_timeout_s: float

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings; raises `SettingsError`."""
        settings = cls(
            input_bucket=_text(environ, "RNR_INPUT_BUCKET"),
            input_prefix=_prefix(environ, "RNR_INPUT_PREFIX", "rnr/input/"),
            output_bucket=_text(environ, "RNR_OUTPUT_BUCKET"),
            output_prefix=_prefix(environ, "RNR_OUTPUT_PREFIX", "rnr/output/"),
            complete_prefix=_prefix(environ, "RNR_COMPLETE_PREFIX", "rnr/complete/"),
            processor=read_processor(environ),
            prefetch=int(_number(environ, "RNR_PREFETCH", 1, least=1)),
            job_timeout_s=_number(environ, "RNR_JOB_TIMEOUT_S", 3600, least=1),
            stop_timeout_s=_number(environ, "RNR_STOP_TIMEOUT_S", 120, least=1),
            retry_delay_s=_number(environ, "RNR_RETRY_DELAY_S", 1, least=0),
            protection_s=_number(environ, "RNR_PROTECTION_S", 60, least=0),
            broker_consumer_timeout_s=_number(
                environ, "RNR_BROKER_CONSUMER_TIMEOUT_S", OLD_CONSUMER_TIMEOUT_S, least=1
            ),
        )
        settings._refuse_loops()
        return settings

    def _refuse_loops(self) -> None:
        """Outputs below the input prefix would be inputs themselves."""
        if self.input_bucket == self.output_bucket:
            for name, prefix in (("OUTPUT", self.output_prefix), ("COMPLETE", self.complete_prefix)):
                if prefix.startswith(self.input_prefix):
                    raise SettingsError(f"RNR_{name}_PREFIX {prefix} is below RNR_INPUT_PREFIX {self.input_prefix}")


def read_processor(environ: Mapping[str, str]) -> Processor:
    """Return the processor of PROCESSOR (a function `module:function`) or PROCESSOR_COMMAND (a program)."""
    function, command = environ.get("PROCESSOR", "").strip(), environ.get("PROCESSOR_COMMAND", "").strip()
    if function and command:
        raise SettingsError("PROCESSOR and PROCESSOR_COMMAND are mutually exclusive: unset one of them")
    return _program(command) if command else _function(function or DEFAULT_PROCESSOR)


def _function(name: str) -> Processor:
    module, colon, function = name.partition(":")
    if not (module and colon and function.isidentifier()):
        raise SettingsError(f"PROCESSOR {name!r} is not like module:function")
    try:
        found = importlib.util.find_spec(module)  # the module itself is imported by the process of each job only
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise SettingsError(f"PROCESSOR {name}: no module {module} on Python's path")
    # The process runs in the job's folder: it finds modules where this one does.
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 - "" is the present folder
    return Processor(name, (sys.executable, "-m", "worker.call", name), {"PYTHONPATH": path})


def _program(command: str) -> Processor:
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"PROCESSOR_COMMAND cannot be split into words: {error}") from None
    if shutil.which(argv[0]) is None:
        raise SettingsError(f"PROCESSOR_COMMAND: no executable program {argv[0]}")
    return Processor(os.path.basename(argv[0]), tuple(argv))  # noqa: PTH119 - a name, maybe without a folder


def refuse_longer_jobs(settings: Settings, broker_version: str, queue_timeout_s: float) -> None:
    """Raise `SettingsError` if the broker would take a message back before its job may end.

    A prefetched message waits for the jobs before it, and its time counts, too.
    """
    by_queue = _version(broker_version) >= FIRST_QUEUE_TIMEOUT
    limit_s = queue_timeout_s if by_queue else settings.broker_consumer_timeout_s
    longest_s = settings.prefetch * (settings.job_timeout_s + TRANSFER_S)
    if longest_s > limit_s:
        allowed = max(int(limit_s / settings.prefetch - TRANSFER_S), 0)
        where = "the queue's x-consumer-timeout" if by_queue else "its consumer_timeout; set per queue since 3.12"
        raise SettingsError(
            f"RNR_JOB_TIMEOUT_S={settings.job_timeout_s:g} with RNR_PREFETCH={settings.prefetch}: RabbitMQ "
            f"{broker_version} takes a message back after {limit_s:g} s ({where}). "
            f"Set RNR_JOB_TIMEOUT_S to at most {allowed}"
            + ("" if by_queue else ", or raise consumer_timeout and tell it by RNR_BROKER_CONSUMER_TIMEOUT_S")
        )


def _version(text: str) -> tuple[int, ...]:
    numbers = text.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _text(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set")
    return value


def _prefix(environ: Mapping[str, str], name: str, default: str) -> str:
    prefix = environ.get(name, "").strip().lstrip("/") or default
    if not prefix.endswith("/"):
        raise SettingsError(f"{name} {prefix!r} does not end in a slash")
    return prefix


def _number(environ: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not least <= number < float("inf"):
        raise SettingsError(f"{name} {text!r} is not a number of at least {least:g}")
    return number
