"""Redrives side by side, in one run: refinerctl's copy, a plain boto3 receive-send-delete loop, and one in batches.

`make bench`, or `python -m benchmarks.dlq [repetitions]`. An SQS server on 127.0.0.1 that answers each request RTT_MS
later: half of it passes before it acts, half after. (A forwarder in between, as for the other benchmarks, is a Python
process that would take part of the two cores.) Each way is a process of its own, from its start to its end; the loops
move fewer messages, because they are slow, and their rate does not depend on how many. Prints messages a second, calls
per message and peak memory, and what they are aimed at; asserts nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import LAUNCHER
from tests.sqs.server import SqsServer, sqs_server

RTT_MS = 20
REPETITIONS = 3
COUNT = 20_000
MEMORY_AT = (1_000, 20_000, 200_000)
ROOT = Path(__file__).parents[1]
REFINERCTL = str(Path(sys.executable).with_name("refinerctl"))
EVENT = json.loads((ROOT / "tests" / "events" / "object-created.json").read_text())
REGION = "us-east-1"


@dataclass(frozen=True)
class Run:
    """Messages, seconds on the clock and of CPU, requests to SQS, peak memory in MB."""

    count: int
    wall: float
    cpu: float
    calls: int
    memory: float

    @property
    def rate(self) -> float:
        return self.count / self.wall

    @property
    def calls_per_message(self) -> float:
        return self.calls / self.count


# What a way takes: the URLs of source and target.
Way = Callable[[str, str], list[str]]


def with_refinerctl(source: str, target: str) -> list[str]:
    options = ["--to", target, "--method", "copy", "--yes", "--force", "--output", "json"]
    return [REFINERCTL, "--quiet", "dlq", "redrive", source, *options]


def with_loop(source: str, target: str) -> list[str]:
    return [sys.executable, "-c", PLAIN_LOOP, source, target, REGION]


def with_batches(source: str, target: str) -> list[str]:
    return [sys.executable, "-c", BATCH_LOOP, source, target, REGION]


PLAIN_LOOP = """
import sys, boto3
source, target, region = sys.argv[1:]
sqs = boto3.client("sqs", region_name=region)
while messages := sqs.receive_message(QueueUrl=source, MessageAttributeNames=["All"]).get("Messages"):
    for message in messages:
        sqs.send_message(
            QueueUrl=target, MessageBody=message["Body"], MessageAttributes=message.get("MessageAttributes", {})
        )
        sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
"""

BATCH_LOOP = """
import sys, boto3
source, target, region = sys.argv[1:]
sqs = boto3.client("sqs", region_name=region)
while messages := sqs.receive_message(
    QueueUrl=source, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
).get("Messages"):
    sent = sqs.send_message_batch(QueueUrl=target, Entries=[
        {"Id": message["MessageId"], "MessageBody": message["Body"],
         "MessageAttributes": message.get("MessageAttributes", {})} for message in messages
    ])["Successful"]
    receipts = {message["MessageId"]: message["ReceiptHandle"] for message in messages}
    sqs.delete_message_batch(QueueUrl=source, Entries=[
        {"Id": entry["Id"], "ReceiptHandle": receipts[entry["Id"]]} for entry in sent
    ])
"""

# With how many messages.
WAYS: dict[str, tuple[Way, int]] = {
    "refinerctl": (with_refinerctl, COUNT),
    "boto3 loop": (with_loop, 150),
    "boto3 batch loop": (with_batches, 1_500),
}


def measure(server: SqsServer, way: Way, count: int) -> Run:
    """Move `count` messages, and see that they have arrived."""
    for queue in ("work", "work-dlq"):
        server.clear(queue)
    EVENT["detail"]["object"]["key"] = "RefinerInput/{n}.json"
    server.fill("work-dlq", count, body=json.dumps(EVENT), source="work", receive_count=3)
    server.counts(reset=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = 'environment = "account"\n[environments.account]\nregion = "us-east-1"\n'
        (Path(folder) / "refinerctl.toml").write_text(settings)
        command = [sys.executable, "-I", "-S", "-c", LAUNCHER]
        command += way(server.queue_url("work-dlq"), server.queue_url("work"))
        done = subprocess.run(command, cwd=folder, env=environment(server), capture_output=True, text=True, check=False)
    calls = sum(server.counts().values())
    *said, numbers = done.stdout.splitlines()
    status, wall, cpu, memory = json.loads(numbers)
    moved = server.depth("work")
    if status != 0 or moved != count or server.depth("work-dlq"):
        raise SystemExit(f"{' '.join(command[5:])} moved {moved} of {count}:\n{done.stderr}{said}")
    return Run(count, wall, cpu, calls, memory / 1024)


def environment(server: SqsServer) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REFINERCTL_"))}
    return inherited | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": server.url,  # of boto3 alone
        "REFINERCTL_ENDPOINT_URL": server.url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def compare(server: SqsServer, repetitions: int) -> dict[str, list[Run]]:
    """Every way in turn, again and again: whatever else the machine does hits them all."""
    runs: dict[str, list[Run]] = {name: [] for name in WAYS}
    for repetition in range(repetitions):
        for name, (way, count) in WAYS.items():
            if sys.stderr.isatty():
                print(f"\r{repetition + 1} of {repetitions}, {name}", end="\033[K\r", file=sys.stderr)
            runs[name].append(measure(server, way, count))
    return runs


def show(runs: dict[str, list[Run]]) -> None:
    rates = {name: statistics.median(run.rate for run in found) for name, found in runs.items()}
    for name, found in runs.items():
        calls = statistics.median(run.calls_per_message for run in found)
        cpu = statistics.median(run.cpu / run.count * 1e6 for run in found)
        memory = max(run.memory for run in found)
        print(
            f"  {name:<18} {rates[name]:7.0f} messages/s  {calls:5.2f} calls per message  {cpu:6.0f} µs CPU per message"
            f"  {memory:4.0f} MB peak  1/{rates['refinerctl'] / rates[name]:.1f} of refinerctl's rate"
        )


def aim(what: str, found: float, limit: float, *, at_least: bool = False) -> None:
    reached = found >= limit if at_least else found <= limit
    print(f"  {'reached' if reached else 'MISSED':<8} {what}: {found:.2f}, aim {limit}")


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else REPETITIONS
    with sqs_server() as server:
        server.create_pair("work", VisibilityTimeout="300")
        server.latency(RTT_MS / 1000)
        runs = compare(server, repetitions)
        print(f"\nredrive of messages of {len(json.dumps(EVENT)):,} bytes, {RTT_MS} ms round trip")
        show(runs)
        ours: list[Any] = runs["refinerctl"]
        aim("messages a second", statistics.median(run.rate for run in ours), 2_000, at_least=True)
        aim("calls per message", statistics.median(run.calls_per_message for run in ours), 0.31)
        print("\npeak memory of refinerctl, by number of messages")
        peaks = {}
        for count in MEMORY_AT:
            run = measure(server, with_refinerctl, count)
            peaks[count] = run.memory
            print(f"  {count:>9,}  {run.memory:5.1f} MB  {run.rate:7.0f} messages/s  {run.calls_per_message:.3f} calls")
        aim("peak memory at the most, of that at the fewest", peaks[MEMORY_AT[-1]] / peaks[MEMORY_AT[0]], 1.2)


if __name__ == "__main__":
    main()
