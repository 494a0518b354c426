"""The program, and every process that came of it.

The supervisor's thread. A program may fork, and its children may move to other groups and
sessions: what is to be ended is whatever descends from it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that descend from *pid*, parents first."""
    children_of = _children_of if os.path.exists("/proc/self/task") else _by_ps()
    todo = [pid]
    while todo:
        found = children_of(todo.pop(0))
        yield from found
        todo += found


def kill(pids: list[int], number: int) -> None:
    """Send a signal to those of *pids* that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_all(pid: int) -> None:
    """End *pid* and all that descends from it, at once."""
    doomed = {pid}
    while True:
        # Stopped first, they can't fork away from under our hands.
        kill(list(doomed), signal.SIGSTOP)
        found = set(descendants(pid)) - doomed
        if not found:
            break
        doomed |= found
    kill(list(doomed), signal.SIGKILL)


def _children_of(pid: int) -> list[int]:
    """Ask Linux, of each thread; see proc_tid_children(5)."""
    children: list[int] = []
    with contextlib.suppress(OSError):  # it ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                children += map(int, file.read().split())
    return children


def _by_ps() -> Callable[[int], list[int]]:
    """Ask `ps` where there is no /proc: macOS, some BSDs."""
    import subprocess

    children: dict[int, list[int]] = {}
    table = subprocess.run(["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True)
    for line in table.stdout.splitlines():
        parent, pid = map(int, line.split())
        children.setdefault(parent, []).append(pid)
    return lambda pid: children.get(pid, [])


class Guardian:
    """A process that ends the program's family should the supervisor die, however it dies.

    It waits on a pipe that only the supervisor can close. `PR_SET_PDEATHSIG` would do for the
    program alone, not for its workers, and not on other systems than Linux. Make it before
    there are threads: it is a fork of the supervisor.
    """

    def __init__(self) -> None:
        receiver, self._sender = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _guard(receiver)
            finally:
                os._exit(1)
        os.close(receiver)

    def protect(self, *pids: int) -> None:
        """From now on these are what would have to be ended."""
        with contextlib.suppress(OSError):  # it was killed: then there is no guardian
            os.write(self._sender, " ".join(map(str, pids)).encode() + b"\n")

    def dismiss(self) -> None:
        """Let it go: the supervisor ends as it should."""
        self.protect()
        os.close(self._sender)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    @property
    def pid(self) -> int:
        return self._pid


def _guard(receiver: int) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    # Nothing of the supervisor's may be kept open by us: a reader waits for the end of its output.
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    if receiver != 3:
        os.dup2(receiver, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 4096)
    protected = b""
    while told := os.read(3, 4096):
        protected = told.splitlines()[-1]
    for pid in map(int, protected.split()):
        kill_all(pid)
    os._exit(0)
