"""One run of the terraform binary: its output line by line, and what an interrupt does to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from refinerctl.errors import Terminated

_LOOK_SECONDS = 0.05

# A job that is cancelled may send SIGTERM to every process, Terraform too: it is seen in Terraform's output by then.
_DIRECT_SECONDS = 3.0
_TERRAFORM_SAYS = "Interrupt received"

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_FINISHES = "interrupted: Terraform finishes what it has started and saves its state; this may take minutes"
_WARNS = "interrupted again: a third interrupt kills Terraform, which leaves its state incomplete and its lock held"

Tell = Callable[[str], None]

# Maximum length in bytes of the path of a temporary folder: the names of our folder and of a socket are added to it.
MAX_SOCKET_FOLDER = 60


@dataclass
class Process:
    """Runs a command to its end and passes on each line of its output, both streams as one.

    Its output goes into a file, not into a pipe: if this program is killed, Terraform still saves its state instead of
    dying with its next line. An interrupt reaches it once: on a second one it would not save its state. Ctrl-C comes
    from us, not from the terminal; SIGTERM comes from us unless Terraform got one itself: GitLab's Docker and
    Kubernetes executors send it to every process of a job. `disposable`: an interrupt kills it, with all that it
    started.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    disposable: bool = False
    tell: Tell = lambda _: None
    _interrupts: list[int] = field(default_factory=list, init=False)
    _since: float = field(default=0.0, init=False)
    _is_interrupted: bool = field(default=False, init=False)  # Terraform itself, by us or by others
    _by_others: bool = field(default=False, init=False)
    _told: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def run(self, on_line: Callable[[str], None]) -> int:
        """The exit code. Raises KeyboardInterrupt or Terminated after an interrupt, once Terraform has ended.

        Also if only Terraform was interrupted, and failed for it.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with (
            socket_folder() as sockets,
            tempfile.TemporaryFile(dir=self.folder) as output,
            self.log.open("a", encoding="utf-8") as log,
        ):

            def take(line: str) -> None:
                log.write(line)
                log.flush()
                on_line(line)

            with self._interrupts_forwarded():
                self._process = process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**self.environment, "TMPDIR": sockets},
                    start_new_session=True,
                )
                if self._interrupts:  # before there was a process that could receive it
                    self._interrupt(process)
                try:
                    self._follow(process, output.fileno(), take)
                finally:
                    self._end(process)
        if self._interrupts:
            raise KeyboardInterrupt if self._interrupts[0] == signal.SIGINT else Terminated
        if self._by_others and process.returncode != 0:
            raise Terminated
        return process.returncode

    def _follow(self, process: subprocess.Popen[bytes], output: int, take: Callable[[str], None]) -> None:
        """Pass on whole lines until the end; the file's own position is Terraform's."""
        position, rest = 0, b""
        ended = False
        while not ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
            ended = process.returncode is not None
            self._tell_interrupts()
            if self._interrupts and time.monotonic() - self._since >= _DIRECT_SECONDS:
                self._interrupt(process)
            while chunk := os.pread(output, 1 << 20, position):
                position += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace") + "\n"
                    if _TERRAFORM_SAYS in text and not self._is_interrupted:
                        self._is_interrupted = self._by_others = True
                    take(text)
        if rest:
            take(rest.decode(errors="replace"))

    @contextlib.contextmanager
    def _interrupts_forwarded(self) -> Iterator[None]:
        """Terraform gets the first signal only; SIGTERM after a moment, unless it got one itself."""
        if self.disposable or threading.current_thread() is not threading.main_thread():
            yield
            return

        def forward(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGHUP and self._interrupts:
                return  # a terminal that closes sends several: not a repeated interrupt
            self._interrupts.append(number)
            self._since = self._since or time.monotonic()
            if self._process is None or self._process.poll() is not None:
                return
            if len(self._interrupts) == 1 and number != signal.SIGTERM:
                self._interrupt(self._process)
            elif len(self._interrupts) > 2:
                _kill(self._process)

        ours = [number for number in _INTERRUPTS if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
        previous = {number: signal.signal(number, forward) for number in ours}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _interrupt(self, process: subprocess.Popen[bytes]) -> None:
        """Interrupt Terraform, unless it was already."""
        if not self._is_interrupted:
            self._is_interrupted = True
            process.send_signal(signal.SIGINT)

    def _tell_interrupts(self) -> None:
        """Print the messages outside of the signal handler, which may run while another line is being written."""
        for message in (_FINISHES, _WARNS)[self._told : max(len(self._interrupts), self._by_others)]:
            self._told += 1
            self.tell(message)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the process if it still runs: `take` has failed, maybe during an interrupt."""
        try:
            if process.poll() is None and not self.disposable:
                self._interrupt(process)
                process.wait()
        finally:
            _kill(process)
            process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it with all of its children; a process group that has ended is not an error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def socket_folder() -> contextlib.AbstractContextManager[str]:
    """A folder for the providers' sockets, which they leave when they are killed.

    Neither below the work folder nor below a deep TMPDIR: the path of a socket has at most 108 bytes (104 on macOS),
    and the provider needs 17 of them for the name.
    """
    deep = len(os.fsencode(tempfile.gettempdir())) > MAX_SOCKET_FOLDER
    return tempfile.TemporaryDirectory(prefix="refinerctl-tf-", dir="/tmp" if deep else None)  # noqa: S108
