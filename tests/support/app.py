"""A program under test: its files, its process, and its output.

There is no sleep: a test blocks on a line that the program prints. Once evreload has printed
`watching N files`, it must notice every change.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from evreload._supervisor.process_tree import kill_all, marked
from support.deadline import DEADLINE
from support.files import await_tick
from support.programs import START

# In seconds. A program that a signal ends never reports its imports, so no start becomes warm.
WARM_TIMEOUT = 4


class App:
    """A directory of files, and the program that runs in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[str] | None = None
        self.seen: list[str] = []
        self.mode: tuple[str, ...] = START
        self.warm = False  # add --warm to each command line of `evreload`
        self.times_cold = 0  # how often no warm start was ready after WARM_TIMEOUT seconds
        self._is_warm = threading.Event()  # set, too, if the next start cannot be warm
        self._is_warm.set()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
            and not name.startswith("EVRELOAD")
        }

    # Files

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def write(self, name: str, text: str = "") -> Path:
        """Save as most editors do: write another file, then rename it over the old one."""
        self.await_warm_start()
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".beside~")
        beside.write_text(textwrap.dedent(text))
        beside.replace(path)
        return path

    def write_in_place(self, name: str, text: str) -> Path:
        """Save as the other editors do: truncate the file, then write to it."""
        self.await_warm_start()
        path = self.directory / name
        path.write_text(textwrap.dedent(text))
        return path

    # The program

    def start(self, *arguments: str, **environment: str) -> None:
        """Run `python ARGUMENTS` in the directory."""
        self.start_command([sys.executable, *arguments], **environment)

    def await_warm_start(self) -> None:
        """Block until the next start is warm, or evreload has reported that it cannot be."""
        self.times_cold += not self._is_warm.wait(WARM_TIMEOUT)
        self._is_warm.set()

    def start_command(self, command: list[str], **environment: str) -> None:
        self.seen = []
        if self.warm and "evreload" in command:
            self._is_warm.clear()
            command = list(command)
            command.insert(command.index("evreload") + 1, "--warm")
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command,
            cwd=self.directory,
            env={**self.environment, **environment},
            text=True,
            errors="backslashreplace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            if "the next start is warm" in line or "--warm has no effect" in line:
                self._is_warm.set()
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, containing: str, timeout: float = DEADLINE) -> str:
        """Return the next line that contains *containing*; fail at the end of the output."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no line with {containing!r} in {timeout} s after:\n{self.output}")
            if line is None:
                self._lines.put(None)
                pytest.fail(f"the program ended without a line with {containing!r}:\n{self.output}")
            self.seen.append(line)
            if containing in line:
                return line

    def await_lines(self, containing: str, times: int = 1) -> str:
        """Block until *times* lines contain *containing*; lines already seen count, too.

        Return the last of these lines.
        """
        while self.count(containing) < times:
            self.line(containing)
        return [line for line in self.seen if containing in line][times - 1]

    def await_watching(self, *, by_now: bool = False) -> str:
        """Block until evreload has printed that it watches: from then on no edit is lost.

        With *by_now*, it may have printed this already. Return the line.
        """
        line = (self.await_lines if by_now else self.line)("evreload: watching ")
        await_tick()
        return line

    @property
    def output(self) -> str:
        return "\n".join(self.seen)

    def count(self, containing: str) -> int:
        """Return how many of the lines seen so far contain *containing*."""
        return sum(containing in line for line in self.seen)

    def wait(self, timeout: float = DEADLINE) -> int:
        """Block until the program ends, and read the rest of its output; return its status."""
        assert self.process
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.seen.append(line)
        return status

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def close(self) -> None:
        if self.process is None:
            return
        if "COVERAGE_PROCESS_CONFIG" in os.environ:  # a killed process saves no data
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        # Only the program and its descendants are in the session: all of them end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        if self._reader.is_alive():  # a process that left the session has the pipe open
            kill_all(lambda: marked(self.pid))
            self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()
