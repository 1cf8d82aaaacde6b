"""One run of the terraform binary: its output line by line, and what an interrupt does to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from refinerctl.errors import Terminated

_LOOK_SECONDS = 0.05

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
    dying with its next line. Ctrl-C reaches it once, from us, not from the terminal. `disposable`: an interrupt kills
    it, with all that it started.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    disposable: bool = False
    tell: Tell = lambda _: None
    _interrupts: list[int] = field(default_factory=list, init=False)
    _told: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def run(self, on_line: Callable[[str], None]) -> int:
        """The exit code. Raises KeyboardInterrupt or Terminated after an interrupt, once Terraform has ended."""
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
                    process.send_signal(signal.SIGINT)
                try:
                    self._follow(process, output.fileno(), take)
                finally:
                    self._end(process)
        if self._interrupts:
            raise KeyboardInterrupt if self._interrupts[0] == signal.SIGINT else Terminated
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
            while chunk := os.pread(output, 1 << 20, position):
                position += len(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    take(line.decode(errors="replace") + "\n")
        if rest:
            take(rest.decode(errors="replace"))

    @contextlib.contextmanager
    def _interrupts_forwarded(self) -> Iterator[None]:
        """Terraform gets the first signal only: on a second one it would not save its state."""
        if self.disposable or threading.current_thread() is not threading.main_thread():
            yield
            return

        def forward(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGHUP and self._interrupts:
                return  # a terminal that closes sends several: not a repeated interrupt
            self._interrupts.append(number)
            if self._process is None or self._process.poll() is not None:
                return
            if len(self._interrupts) == 1:
                self._process.send_signal(signal.SIGINT)
            elif len(self._interrupts) > 2:
                _kill(self._process)

        ours = [number for number in _INTERRUPTS if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
        previous = {number: signal.signal(number, forward) for number in ours}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _tell_interrupts(self) -> None:
        """Print the messages outside of the signal handler, which may run while another line is being written."""
        for message in (_FINISHES, _WARNS)[self._told : len(self._interrupts)]:
            self._told += 1
            self.tell(message)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the process if it still runs: `take` has failed, maybe during an interrupt."""
        try:
            if process.poll() is None and not self.disposable:
                if not self._interrupts:
                    process.send_signal(signal.SIGINT)
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
