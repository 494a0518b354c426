"""The program, and every process that came of it.

The supervisor's thread. A program may fork, and its children may move to other groups and
sessions: what is to be ended is whatever descends from it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NoReturn

# In the environment of the program, and of whatever it starts: our process id.
MARK = "EVRELOAD_PID"


def family(pid: int) -> list[int]:
    """Return *pid* and the processes that descend from it."""
    return [pid, *descendants(pid)]


def descendants(pid: int, besides: Collection[int] = ()) -> Iterator[int]:
    """Yield the processes that descend from *pid*, parents first; *besides* some, and theirs."""
    children_of = _children_of if os.path.exists("/proc/thread-self/children") else _by_ps()
    todo = [pid]
    while todo:
        found = [child for child in children_of(todo.pop(0)) if child not in besides]
        yield from found
        todo += found


def marked(supervisor: int) -> Iterator[int]:
    """Yield the processes that bear the mark of *supervisor*, on Linux.

    With it ends their relationship: then they are children of whoever takes in orphans.
    """
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if _is_marked(pid, supervisor):
            yield pid


def strangers(supervisor: int) -> set[int]:
    """Return the children of *supervisor*, on Linux, that do not bear its mark.

    Asked for early, those are what a shell had started before it became the supervisor.
    """
    return {pid for pid in _children_of(supervisor) if not _is_marked(pid, supervisor)}


def latecomers(supervisor: int) -> set[int]:
    """Return those that came to it later, on Linux: what can be told by the mark they lack."""
    return {pid for pid in strangers(supervisor) if _is_whole(_environment(pid))}


def _is_marked(pid: int, supervisor: int) -> bool:
    return f"{MARK}={supervisor}".encode() in _environment(pid)


def _is_whole(environment: list[bytes]) -> bool:
    """Whether it is there, and no program has written its title over it."""
    return bool(environment) and all(b"=" in one for one in environment)


def _environment(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read().removesuffix(b"\0").split(b"\0")
    return []


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to those of *pids* that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_all(members: Callable[[], Iterable[int]]) -> None:
    """End *members*, which are asked for until there are no others, at once."""
    doomed: set[int] = set()
    while found := set(members()) - doomed:
        # Stopped first, they can't fork away from under our hands.
        send(found, signal.SIGSTOP)
        doomed |= found
    send(doomed, signal.SIGKILL)


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
    command = ["ps", "-A", "-o", "ppid=,pid="]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ps:
        table = ps.communicate()[0]
    for line in table.splitlines():
        parent, pid = map(int, line.split())
        if pid != ps.pid:  # it lists itself, too
            children.setdefault(parent, []).append(pid)
    return lambda pid: children.get(pid, [])


class Guardian:
    """A process that ends the program's family should the supervisor die, however it dies.

    It waits on a pipe that only the supervisor can close. `PR_SET_PDEATHSIG` would do for the
    program alone, not for its workers, and not on other systems than Linux. Make it before
    there are threads: it is a fork of the supervisor. It has a session of its own, so that it
    outlives even a SIGKILL for the whole process group.
    """

    def __init__(self) -> None:
        self._begin()
        os.environ[MARK] = str(os.getpid())

    def _begin(self) -> None:
        receiver, sender = os.pipe()
        supervisor = os.getpid()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(receiver)
            os.close(sender)
            raise
        if self._pid == 0:
            try:
                _guard(receiver, supervisor)
            finally:
                os._exit(1)
        os.close(receiver)
        self._sender = sender

    def replace(self) -> None:
        """Make another: this one was killed."""
        import warnings

        before = self._sender
        # By now there are threads, which the fork leaves behind. It needs nothing of theirs.
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(OSError):
            self._begin()
            os.close(before)

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


def _guard(receiver: int, supervisor: int) -> NoReturn:
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    # Nothing of the supervisor's may be kept open by us: a reader waits for the end of its output.
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - {receiver}:
        os.dup2(null, standard)
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor > 2 and descriptor != receiver:
            with contextlib.suppress(OSError):  # it was for listing them
                os.close(descriptor)
    protected: list[int] = []
    while told := os.read(receiver, 4096):
        protected = [int(pid) for pid in told.splitlines()[-1].split()]
    kill_all(lambda: [one for pid in protected for one in family(pid)])
    if os.path.exists("/proc/self/environ"):
        kill_all(lambda: marked(supervisor))
    os._exit(0)
