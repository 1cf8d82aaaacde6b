"""Workers with real RabbitMQ: from a message to its result, and what becomes of a message that fails."""

from __future__ import annotations

import os
import signal
import time

import pika

from rnr_common import topology
from rnr_common.message import WorkMessage
from worker.tests.environment import HYDROGRAPH, EcsAgent, Environment, wait_for

SLOW = """
import pathlib, sys, time
pathlib.Path(__file__ + ".started").touch()
while not pathlib.Path(__file__ + ".go").exists():
    time.sleep(0.02)
(pathlib.Path(sys.argv[2]) / "out.txt").write_text("done")
"""
COPY = """
import pathlib, sys
for name in ("b.txt", "a.txt"):
    (pathlib.Path(sys.argv[2]) / name).write_bytes(pathlib.Path(sys.argv[1]).read_bytes())
"""


def begin(environment: Environment, name: str, **variables: str) -> tuple[WorkMessage, str]:
    """Publish an input and start a worker that works on it until `finish`."""
    message = environment.put(name)
    environment.publish(message)
    environment.worker(SLOW, **variables)
    program = str(environment.folder / f"processor-{len(environment.workers) - 1}.py")
    wait_for("the job's start", lambda: os.path.exists(program + ".started"))  # noqa: PTH110
    return message, program


def finish(program: str) -> None:
    with open(program + ".go", "w"):  # noqa: PTH123
        pass


def test_a_hydrograph_is_routed_and_its_completion_says_what_was_done(
    environment: Environment, agent: EcsAgent
) -> None:
    name = "rivers/Rhein bei Köln + 100%.csv"
    message = environment.put(name)
    traceparent = environment.publish(message)
    worker = environment.worker(ECS_AGENT_URI=agent.url, ECS_CONTAINER_METADATA_URI_V4=agent.url + "/v4/x")

    done = worker.wait_for_line("record done")
    assert (done["key"], done["messageId"], done["taskId"]) == (message.key, message.claim_id, "0123456789abcdef")
    completion = environment.completion(name)
    assert completion is not None
    assert completion["status"] == "completed"
    assert completion["input"] == {
        "bucket": environment.name,
        "key": message.key,
        "version_id": None,
        "etag": message.etag,
        "size": len(HYDROGRAPH),
    }
    (output,) = completion["outputs"]
    assert output["key"] == f"rnr/output/{name}/routed.csv"
    routed = environment.s3.get_object(Bucket=environment.name, Key=output["key"])
    assert routed["Body"].read().splitlines()[:2] == [b"time,inflow,outflow", b"0,93.000,93.000"]
    assert (routed["ETag"].strip('"'), routed["ContentLength"]) == (output["etag"], output["size"])
    assert routed["ContentType"] == "text/csv"
    assert (completion["attempt"], completion["processor"]) == (1, "worker.routing:process")
    trace_id = traceparent.split("-")[1]
    assert completion["traceparent"].split("-")[1] == trace_id
    assert completion["metadata"] == {
        "source-version": message.etag,
        "source-event-version": message.etag,
        "source-bucket-key": f"{environment.name}/rnr/input/rivers/Rhein%20bei%20K%C3%B6ln%20+%20100%25.csv",
        "traceparent": completion["traceparent"],
    }
    # The idle worker is not protected any more.
    wait_for("the end of protection", lambda: agent.states and not agent.states[-1]["ProtectionEnabled"])
    assert agent.states[0] == {
        "path": "/task-protection/v1/state",
        "ProtectionEnabled": True,
        "ExpiresInMinutes": 30,
    }
    assert worker.terminate() == 0
    assert environment.ready() == 0
    assert list((environment.folder / "tmp-0").iterdir()) == []


def test_a_second_delivery_is_recognized_and_another_version_replaces_the_result(environment: Environment) -> None:
    first = environment.put("a.csv", b"first")
    environment.publish(first)
    environment.publish(first)
    worker = environment.worker(COPY)
    assert worker.wait_for_line("record ignored")["reason"] == "already completed"

    second = environment.put("a.csv", b"second")
    environment.publish(second)
    worker.wait_for_line("record done", 2)
    # A late message of the first version finds the second, which is completed.
    environment.publish(first)
    worker.wait_for_line("record ignored", 2)
    completion = environment.completion("a.csv")
    assert completion is not None
    assert [output["key"] for output in completion["outputs"]] == [
        "rnr/output/a.csv/a.txt",
        "rnr/output/a.csv/b.txt",
    ]
    assert completion["input"]["etag"] == second.etag
    found = environment.s3.get_object(Bucket=environment.name, Key="rnr/output/a.csv/a.txt")
    assert found["Body"].read() == b"second"


def test_a_poison_input_is_in_the_dlq_after_six_deliveries(environment: Environment) -> None:
    poison, good = environment.put("poison.csv", b"time,inflow\n0,abc\n"), environment.put("good.csv")
    environment.publish(poison)
    environment.publish(good)
    worker = environment.worker()
    failed = worker.wait_for_line("record failed", 6)
    assert failed["receiveCount"] == 6
    assert failed["error"]["name"] == "ProgramError"
    assert "line 2: inflow 'abc' is not a number" in failed["error"]["output"]
    worker.wait_for_line("record done")
    ((properties, body),) = wait_for("a message in the DLQ", environment.dead_letters)
    assert body == poison.body()
    assert properties.headers["x-death"][0]["reason"] == "delivery_limit"
    assert environment.completion("poison.csv") is None


def test_hopeless_messages_are_in_the_dlq_at_once(environment: Environment) -> None:
    gone = environment.put("gone.csv")
    environment.s3.delete_object(Bucket=environment.name, Key=gone.key)
    elsewhere = WorkMessage(environment.name, "other/a.csv", None, "x", 1)
    other_bucket = WorkMessage("other-bucket", "rnr/input/a.csv", None, "x", 1)
    for message in (gone, elsewhere, other_bucket):
        environment.publish(message)
    environment.publish_body(b"{", pika.BasicProperties())
    environment.publish(environment.put("folder/", b""))

    worker = environment.worker()
    failed = [worker.wait_for_line("record failed", number)["error"]["message"] for number in range(1, 5)]
    assert failed[:3] == [
        "the object does not exist any more",
        "the key is not below rnr/input/",
        f"bucket other-bucket is not the input bucket {environment.name}",
    ]
    assert failed[3].startswith("the body is not JSON")
    assert worker.wait_for_line("record ignored")["reason"] == "folder"
    wait_for("four messages in the DLQ", lambda: len(environment.dead_letters()) == 4)


def test_a_job_that_exceeds_its_time_limit_is_killed_and_delivered_again(environment: Environment) -> None:
    begin(environment, "long.csv", RNR_JOB_TIMEOUT_S="2")
    failed = environment.workers[0].wait_for_line("record failed")
    assert failed["error"]["message"] == "killed after 2 s (RNR_JOB_TIMEOUT_S)"
    environment.workers[0].kill()
    environment.worker(COPY).wait_for_line("record done")
    assert environment.completion("long.csv")


def test_a_worker_that_is_killed_in_mid_job_loses_nothing(environment: Environment) -> None:
    begin(environment, "killed.csv")
    environment.workers[0].kill()
    worker = environment.worker(COPY)
    assert worker.wait_for_line("record received")["receiveCount"] == 2
    worker.wait_for_line("record done")
    completion = environment.completion("killed.csv")
    assert completion is not None
    assert completion["attempt"] == 2


def test_sigterm_lets_a_job_finish_that_fits_in_the_stop_timeout(environment: Environment) -> None:
    _, program = begin(environment, "fits.csv")
    worker = environment.workers[0]
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for_line("stopping")
    environment.publish(environment.put("next.csv"))
    finish(program)
    assert worker.process.wait(120) == 0
    assert environment.completion("fits.csv")
    assert environment.ready() == 1  # the stopping worker took no other message


def test_sigterm_returns_the_message_of_a_job_that_does_not_fit(environment: Environment) -> None:
    begin(environment, "returned.csv", RNR_STOP_TIMEOUT_S="2")
    worker = environment.workers[0]
    assert worker.terminate() == 0
    assert worker.lines("record returned")
    assert list((environment.folder / "tmp-0").iterdir()) == []
    assert environment.ready() == 1
    assert environment.completion("returned.csv") is None


def test_no_message_is_taken_while_protection_is_refused(environment: Environment, agent: EcsAgent) -> None:
    agent.refuse = True
    environment.publish(environment.put("protected.csv"))
    worker = environment.worker(ECS_AGENT_URI=agent.url)
    refused = worker.wait_for_line("task protection refused")
    assert "DEPLOYMENT_BLOCKED" in refused["reason"]
    worker.wait_for_line("task protection refused", 2)
    assert worker.lines("record received") == []
    assert environment.ready() == 1

    agent.refuse = False
    # It was never delivered before.
    assert worker.wait_for_line("record received")["receiveCount"] == 1
    worker.wait_for_line("record done")


def test_a_busy_worker_gives_way_to_a_deployment_between_jobs(environment: Environment, agent: EcsAgent) -> None:
    for number in range(10):
        environment.publish(environment.put(f"busy-{number}.csv"))
    worker = environment.worker(ECS_AGENT_URI=agent.url, RNR_PROTECTION_S="0.01")
    worker.wait_for_line("record done", 10)
    granted = [state["ProtectionEnabled"] for state in agent.states]
    assert granted[:3] == [True, False, True]  # there were messages left


def test_an_unreachable_agent_does_not_protect(environment: Environment) -> None:
    environment.publish(environment.put("alone.csv"))
    worker = environment.worker(ECS_AGENT_URI="http://127.0.0.1:9")
    assert "no answer of the ECS agent" in worker.wait_for_line("task protection refused")["reason"]
    assert worker.terminate() == 0
    assert environment.ready() == 1


def test_messages_that_were_fetched_ahead_are_returned_on_sigterm(environment: Environment) -> None:
    for number in range(3):
        environment.publish(environment.put(f"ahead-{number}.csv"))
    environment.worker(SLOW, RNR_PREFETCH="5", RNR_STOP_TIMEOUT_S="2", RNR_JOB_TIMEOUT_S="30")
    environment.workers[0].wait_for_line("record received")
    wait_for("three messages in hand", lambda: environment.ready() == 0)
    assert environment.workers[0].terminate() == 0
    assert environment.ready() == 3


def test_outputs_in_folders_and_no_outputs_are_failures(environment: Environment) -> None:
    environment.publish(environment.put("a.csv"))
    environment.publish(environment.put("b.csv"))
    code = "import os, sys; sys.argv[1].endswith('a.csv') and os.mkdir(sys.argv[2] + '/folder')"
    worker = environment.worker(code)

    def errors() -> dict[str, str]:
        return {line["key"]: line["error"]["message"] for line in worker.lines("record failed")}

    wait_for("failures of both inputs", lambda: len(errors()) == 2)
    assert errors() == {
        "rnr/input/a.csv": "folder in the output folder is not a regular file",
        "rnr/input/b.csv": "no file in the output folder",
    }


def test_a_function_of_another_module_is_called(environment: Environment) -> None:
    code = "def run(source, folder):\n    (folder / 'size.txt').write_text(str(source.stat().st_size))\n"
    (environment.folder / "my_processor.py").write_text(code)
    environment.publish(environment.put("a.csv", b"12345"))
    environment.worker(PROCESSOR="my_processor:run").wait_for_line("record done")
    found = environment.s3.get_object(Bucket=environment.name, Key="rnr/output/a.csv/size.txt")
    assert found["Body"].read() == b"5"


def test_a_limit_that_the_broker_does_not_keep_is_refused_at_start(environment: Environment) -> None:
    worker = environment.worker(RNR_JOB_TIMEOUT_S="86400")
    error = worker.wait_for_line("worker cannot start")["error"]["message"]
    assert error.startswith("RNR_JOB_TIMEOUT_S=86400 with RNR_PREFETCH=1: RabbitMQ ")
    assert worker.process.wait(60) == 1


def test_an_invalid_setting_is_named(environment: Environment) -> None:
    worker = environment.worker(RNR_INPUT_BUCKET="")
    assert worker.wait_for_line("worker cannot start")["error"]["message"] == "RNR_INPUT_BUCKET is not set"
    assert worker.process.wait(60) == 1


def test_a_failing_dependency_does_not_use_up_the_deliveries_at_once(environment: Environment) -> None:
    environment.publish(environment.put("a.csv"))
    began = time.monotonic()
    worker = environment.worker("raise SystemExit(1)", RNR_RETRY_DELAY_S="1")
    worker.wait_for_line("record failed", 3)
    assert time.monotonic() - began > 1.5  # pauses of at least 0.5 s and 1 s


def test_a_message_that_failed_is_returned_at_once_when_the_worker_stops(environment: Environment) -> None:
    environment.publish(environment.put("a.csv"))
    worker = environment.worker("raise SystemExit(1)", RNR_RETRY_DELAY_S="60")
    worker.wait_for_line("record failed")
    assert worker.terminate() == 0
    assert environment.ready() == 1
    assert environment.ready(topology.dlq_name(environment.queue)) == 0
