"""The demo of stack rnr: workers from none to several to none, one killed in mid-job, and an invalid input."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from refinerctl.app import AppContext
from refinerctl.aws.invocations import invoke
from refinerctl.embedded import MARKER
from refinerctl.errors import RefinerctlError, TimedOutError
from refinerctl.inputs.completions import completions_of
from refinerctl.insight.trace import hops_of
from refinerctl.insight.trace_search import trace_input
from refinerctl.local.logs import follow_lines
from refinerctl.parallel import concurrently
from refinerctl.stacks.base import Service

INPUTS = 60
WORKERS = 4
STEP_SECONDS = 1.5
LONGEST_SECONDS = 300.0
COUNTED_SECONDS = 30.0
SILENT_SECONDS = 5.0
# A job of a few seconds, in which its worker is killed. In the middle, so that all workers run by then.
LONG_INPUT, LONG_HOURS = "river-30.csv", 120_000
INVALID_INPUT, HOURS = "river-17.csv", 72
ROWS = (INPUTS - 1) * HOURS + LONG_HOURS

# No schedule interferes: the demo runs the functions itself, more often than a schedule can.
_UNSCHEDULED = {"schedule_enabled": False, "timeout_s": 60}
VARIABLES: Mapping[str, Any] = {
    "producer": _UNSCHEDULED,
    "postprocess": _UNSCHEDULED,
    "autoscaler": {
        **_UNSCHEDULED,
        "max_tasks": WORKERS,
        "environment": {"RNR_SCALE_IN_COOLDOWN_S": "3", "RNR_ZERO_COOLDOWN_S": "3"},
    },
    "worker": {
        "job_timeout_s": 60,
        "stop_timeout_s": 10,
        "container_insights": False,
        "environment": {"RNR_RETRY_DELAY_S": "0.2"},
    },
}


def run(app: AppContext) -> None:
    """Process the inputs, and print what happens."""
    demo = _Demo(app)
    demo.start()
    demo.work()
    demo.repair()
    demo.merge()
    demo.trace()
    demo.end()
    if app.render.is_json:
        app.render.json(demo.result)


def hydrograph(river: int, hours: int) -> bytes:
    """An input of the bundled processor: a flood wave, hour by hour."""
    lines = ["# k_hours = 2.3", "# x = 0.15", "time,inflow"]
    lines += [f"{hour},{20 + river + 80 * math.exp(-(((hour % 72) - 24) ** 2) / 90):.2f}" for hour in range(hours)]
    return ("\n".join(lines) + "\n").encode()


@dataclass
class _Demo:
    app: AppContext
    result: dict[str, Any] = field(default_factory=lambda: {"inputs": INPUTS, "workers": []})
    killed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Upload the inputs, and let the producer publish them."""
        rivers = {f"river-{number:02}.csv": hydrograph(number, HOURS) for number in range(1, INPUTS + 1)}
        rivers[LONG_INPUT] = hydrograph(30, LONG_HOURS)
        rivers[INVALID_INPUT] = rivers[INVALID_INPUT].replace(b"\n24,", b"\n24,?", 1)
        bucket, prefix = self.app.bucket, self.app.storage.input_prefix
        puts = [self._put(f"{prefix}{name}", body) for name, body in rivers.items()]
        concurrently(puts, 8)
        self._say(f"{INPUTS} river forecasts are uploaded to s3://{bucket.name}/{prefix}")
        self._say(f"{INVALID_INPUT} has an invalid number, and {LONG_INPUT} takes longest.", 1)
        published = self._invoke("producer")["published"]
        self.result["published"] = published
        self._say(f"The producer has claimed and published {published} messages. No worker runs.")
        threading.Thread(target=self._kill, name="kill", daemon=True).start()

    def work(self) -> None:
        """Run the autoscaler until all valid inputs are completed and the message of the invalid one is in the DLQ."""
        self._say("The autoscaler starts workers. One of them will be killed (kill -9) in mid-job.")
        self._say("The broker counts messages every few seconds, so the first two columns lag:", 1)
        self._table(lambda state, done: done >= INPUTS - 1 and state["dlqMessages"] == 1, "processing the inputs")
        if not self.killed.is_set():
            raise RefinerctlError(f"no worker was found in the job of {LONG_INPUT}")
        completion = self._completion(LONG_INPUT)
        self.result["attempts_after_kill"] = completion["attempt"]
        self._say(f"Attempt {completion['attempt']}, by another worker, has completed {LONG_INPUT}.")

    def repair(self) -> None:
        """Overwrite the invalid input, redrive its message, and wait until it is completed."""
        service_stage = self._stage("worker")
        queue = service_stage.dlq.name
        self._say(f"All attempts at {INVALID_INPUT} failed. Its message is in {queue}:")
        self.result["error_of_invalid_input"] = error = self._error_of(INVALID_INPUT)
        for line in textwrap.wrap(error, 76):
            self._say(line, 1)
        self._put(f"{self.app.storage.input_prefix}{INVALID_INPUT}", hydrograph(17, HOURS))()
        self._say("The input is corrected. `refinerctl dlq redrive` sends the message again:")
        self.result["redrive"] = self._redrive(queue)
        self._table(lambda _state, done: done >= INPUTS, "processing the corrected input")
        self.result["completed"] = INPUTS

    def merge(self) -> None:
        """Merge all outputs."""
        merged = self._invoke("postprocess")
        self.result["merged"] = merged
        if (merged["merged"], merged["rows"]) != (INPUTS, ROWS):
            raise RefinerctlError(
                f"{merged['merged']} of {INPUTS} results, {merged['rows']} of {ROWS} rows were merged"
            )
        name = f"{self.app.storage.merged_prefix}{merged['runId']}"
        self._say(f"The post-process function has merged {merged['merged']} results, {merged['rows']:,} rows:")
        for kind in ("csv", "parquet", "json"):
            info = self.app.results.head(f"{name}.{kind}")
            if info is None:
                raise RefinerctlError(f"the merged file s3://{self.app.results.name}/{name}.{kind} does not exist")
            self._say(f"{info.key}  {info.size:,} bytes", 1)
        found = self.app.results.read(f"{name}.csv", 1000)
        self.result["first_rows"] = found[1].decode().splitlines()[:4] if found else []
        self._say("The first rows of the CSV file:")
        for row in self.result["first_rows"]:
            self._say(row, 1)

    def trace(self) -> None:
        """Print the steps of the input whose worker was killed."""
        now = datetime.now(UTC)
        facts = trace_input(self.app, f"{self.app.storage.input_prefix}{LONG_INPUT}", now - timedelta(hours=1), now)
        hops = hops_of(facts)
        self.result["trace"] = [vars(hop) for hop in hops]
        self._say(f"The trace of {LONG_INPUT}, whose first worker was killed:")
        for hop in hops:
            elapsed = "" if hop.elapsed_s is None else f"+{hop.elapsed_s:.1f} s"
            self._say(f"{elapsed:<9}{hop.component:<9} {textwrap.shorten(hop.detail, 56, placeholder=' …')}", 1)

    def end(self) -> None:
        """Run the autoscaler until no worker is left."""
        self._say("Nothing is left to do. The autoscaler stops the workers.")
        self._table(lambda state, _done: state["running"] == 0 and state["desired"] == 0, "stopping the workers")
        self._say(f"{INPUTS} inputs, {INPUTS} results, none lost and none twice.")

    def _table(self, is_done: Callable[[Mapping[str, Any], int], bool], what: str) -> None:
        """Run the autoscaler until `is_done` of its result and the completions.

        Prints a line for each change, and at intervals without one.
        """
        began, shown = time.monotonic(), -math.inf
        last: tuple[int, ...] = ()
        self._say(f"{'time':>5}{'waiting':>9}{'in work':>9}{'completed':>11}{'in DLQ':>8}{'workers':>9}", 1)
        while True:
            state, done = self._scaled(), self._completed()
            if [state["running"]] != self.result["workers"][-1:]:
                self.result["workers"].append(state["running"])
            numbers = (state["ready"], state["unacknowledged"], done, state["dlqMessages"], state["running"])
            elapsed = time.monotonic() - began
            finished = is_done(state, done)
            if numbers != last or finished or elapsed - shown > SILENT_SECONDS:
                self._say("{:>3} s{:>9}{:>9}{:>11}{:>8}{:>9}".format(round(elapsed), *numbers), 1)
                last, shown = numbers, elapsed
            if finished:
                return
            if elapsed > LONGEST_SECONDS:
                raise TimedOutError(f"timed out {what}", hint=f"See {self.app.instance.log('functions')}.")
            time.sleep(STEP_SECONDS)

    def _scaled(self) -> Mapping[str, Any]:
        """The result of the autoscaler, whose runs fail until the broker has counted a new queue's messages."""
        deadline = time.monotonic() + COUNTED_SECONDS
        while True:
            try:
                return self._invoke("autoscaler")
            except RefinerctlError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(STEP_SECONDS)

    def _kill(self) -> None:
        """Kill the first worker that begins with the long input."""
        for record in self._records():
            if record["message"] == "record received" and record["key"].endswith(f"/{LONG_INPUT}"):
                task = record["request_id"]
                for process in _processes_of(task, str(self.app.instance.directory)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                self.result["killed_task"] = task
                self.killed.set()
                self._say(f"Killed: worker {task[:8]}, which had begun with {LONG_INPUT}.", 1)
                return

    def _records(self) -> Iterator[Mapping[str, Any]]:
        """What workers log, from now on, with the task's id."""
        service = self._service()
        for line in follow_lines(self.app.instance, "functions", 0.05):
            if line.get("function") != service.name:
                continue
            with contextlib.suppress(ValueError):
                record = json.loads(line["message"])
                if isinstance(record, dict) and "key" in record:
                    yield {**record, "request_id": line["request_id"]}

    def _error_of(self, name: str) -> str:
        """What the worker logged about the failure of an input."""
        text = self.app.instance.log("functions").read_text(encoding="utf-8")
        for line in reversed(text.splitlines()):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(json.loads(line)["message"])
                if record["message"] == "record failed" and record["key"].endswith(f"/{name}"):
                    return str(record["error"]["message"])
        return "unknown"

    def _redrive(self, queue: str) -> Any:
        """Print the report of the redrive, or return it with --output json. Its notes are not for a demo."""
        from refinerctl.dlq.redrive.journal import find
        from refinerctl.dlq.redrive.options import RedriveFlags, RedriveOptions
        from refinerctl.dlq.redrive.plan import Method
        from refinerctl.dlq.redrive.run import Redrive

        text, plan = io.StringIO(), None
        flags = RedriveFlags(Method.COPY, yes=True)
        try:
            with (
                contextlib.redirect_stdout(text),
                contextlib.redirect_stderr(io.StringIO()),
                Redrive(self.app, flags, RedriveOptions(queue)) as redrive,
            ):
                plan = redrive.prepare()
                if plan is not None:
                    redrive.copy(plan)
        finally:  # the journal is of no use without the queue
            for journal in find(self.app.settings.work_folder, plan.origin.queue.url) if plan else ():
                journal.path.unlink()
                with contextlib.suppress(OSError):
                    journal.path.parent.rmdir()
        if self.app.render.is_json:
            return json.loads(text.getvalue())
        for line in text.getvalue().splitlines():
            self._say(line, 1)
        return None

    def _put(self, key: str, body: bytes) -> Callable[[], str | None]:
        return lambda: self.app.bucket.put(key, io.BytesIO(body), len(body))

    def _completed(self) -> int:
        return sum(1 for _ in self.app.results.objects(self.app.storage.complete_prefix))

    def _completion(self, name: str) -> Any:
        (key,) = completions_of(self.app).keys_for(f"{self.app.storage.input_prefix}{name}")
        found = self.app.results.read(key)
        if found is None:
            raise RefinerctlError(f"completion {key} does not exist")
        return json.loads(found[1])

    def _invoke(self, stage: str) -> Mapping[str, Any]:
        name = self._stage(stage).function.name
        run = invoke(self.app.session, name)
        if run.error is not None:
            raise RefinerctlError(f"the run of function {name} failed: {run.error}")
        return run.result

    def _stage(self, name: str) -> Any:
        return self.app.pipeline.choose((name,))[0]

    def _service(self) -> Service:
        return next(self.app.pipeline.by_kind(Service))

    def _say(self, text: str, level: int = 0) -> None:
        if not self.app.render.is_json:
            self.app.render.line(f"{'    ' * level}{text}")


def _processes_of(task: str, instance: str) -> list[int]:
    """The pids of a task: its program, and what that has started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environ = process.environ()
            if environ.get(MARKER) == instance and environ.get("ECS_AGENT_URI", "").endswith(f"/{task}"):
                found.append(process.pid)
    return found
