"""The processes that are measured: their start, output, costs and end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

LINES_KEPT = 20_000


def environment() -> dict[str, str]:
    """Return the environment for the measured programs: they write bytecode."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "WERKZEUG_RUN_MAIN", "NO_COLOR")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted and not name.startswith("EVRELOAD")
    }


class Program:
    """A process in a session of its own, its descendants and its output."""

    def __init__(
        self, command: Sequence[str], directory: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        self._lines: deque[tuple[float, str]] = deque(maxlen=LINES_KEPT)
        self._printed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env={**environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._printed:
                self._lines.append((time.perf_counter(), line.strip()))
                self._printed.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def time_of(self, text: str, since: float) -> float | None:
        """Return when it first printed *text* after *since*; None if it has not."""
        with self._printed:
            return next((when for when, line in self._lines if when > since and text in line), None)

    def line(self, text: str, since: float, limit: float) -> str:
        """Return the first line with *text* that it prints after *since*. Raises TimeoutError."""

        def found() -> str | None:
            return next((line for when, line in self._lines if when > since and text in line), None)

        with self._printed:
            if line := self._printed.wait_for(found, limit):
                return line
        raise TimeoutError(f"has not printed {text!r}")

    def last_line(self) -> str:
        """Return the last line that it printed, except lines about requests."""
        if not self.alive():
            self._reader.join(1)  # the reader may not have read all of the output yet
        with self._printed:
            lines = (line for _, line in reversed(self._lines) if line and "GET /" not in line)
            return next(lines, "nothing was printed")

    def kill(self) -> None:
        """Kill the process alone, at once."""
        self._process.kill()
        self._process.wait()
        self._close()

    def end(self) -> None:
        """Kill the process, its descendants, and all other processes of its session."""
        if self.alive():  # otherwise its id may belong to another process by now
            # It is stopped, then killed before its children: so it cannot start new ones.
            self._process.send_signal(signal.SIGSTOP)
            for pid in process_tree(self.pid):
                _signal(pid, signal.SIGKILL)
            self._process.wait()
        for pid in _session(self.pid):
            _signal(pid, signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        self._reader.join(1)
        if self._process.stdout and not self._reader.is_alive():
            self._process.stdout.close()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def process_tree(pid: int) -> list[int]:
    """Return *pid* and its descendants, parents first."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in _tasks(one):
                found += map(int, (task / "children").read_text().split())
    return found


def _session(leader: int) -> Iterator[int]:
    """Yield the processes of a session except its leader, orphans included."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            if path.read_text().rpartition(")")[2].split()[3] == str(leader) and pid != leader:
                yield pid


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _count(pids: Sequence[int], count: Callable[[Path], float]) -> dict[Path, float]:
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in _tasks(pid):
                with contextlib.suppress(OSError):
                    found[task] = count(task)
    return found


def processor_seconds(pids: Sequence[int]) -> dict[Path, float]:
    """Return the processor time of each thread of *pids* in seconds, from the scheduler."""
    return _count(pids, lambda task: int((task / "schedstat").read_text().split()[0]) / 1e9)


def wake_ups(pids: Sequence[int]) -> dict[Path, float]:
    """Return for each thread of *pids* how often it went to sleep, and so was wake_ups again."""
    return _count(pids, lambda task: _found(r"^voluntary_ctxt_switches:\s+(\d+)", task / "status"))


def increase(before: dict[Path, float], after: dict[Path, float]) -> float:
    """Return the increase of a count, over all threads that still exist."""
    return sum(number - before.get(task, 0) for task, number in after.items())


def threads(pids: Sequence[int]) -> int:
    return len(_count(pids, lambda task: 1))


def memory(pids: Sequence[int]) -> float:
    """Return the proportional set size of *pids* in MB: shared pages count in parts."""
    return sum(_found(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup")) for pid in pids) / 1e3


def _found(pattern: str, path: Path) -> int:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
