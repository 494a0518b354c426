"""The processes that descend from the program: how to find them, and how to end them.

A program may fork, and its children may move to other groups and sessions. The supervisor ends all
of them with the program.

Runs in: the supervisor, on its loop's thread; the parent-death monitor.
Owns: nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator

from .._common.spawn import SUPERVISOR_VARIABLE


def tree(pid: int) -> list[int]:
    """Return *pid* and the processes that descend from it."""
    return [pid, *descendants(pid)]


def descendants(pid: int, besides: Collection[int] = ()) -> Iterator[int]:
    """Yield the descendants of *pid*, parents first, without *besides* and their descendants."""
    children_of = _children_of if os.path.exists("/proc/thread-self/children") else _by_ps()
    todo = [pid]
    while todo:
        found = [child for child in children_of(todo.pop(0)) if child not in besides]
        yield from found
        todo += found


def marked(supervisor: int) -> Iterator[int]:
    """Yield the processes with the mark of *supervisor* in their environment, on Linux.

    This finds its descendants after it has ended: they are then children of another process.
    """
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if _is_marked(pid, supervisor):
            yield pid


def foreign_children(supervisor: int) -> set[int]:
    """Return the children of *supervisor*, on Linux, that do not have its mark.

    When it starts, these are the children of a shell that has become the supervisor by `exec`.
    """
    return {pid for pid in _children_of(supervisor) if not _is_marked(pid, supervisor)}


def adopted_children(supervisor: int) -> set[int]:
    """Return its foreign children whose environment proves that they have no mark, on Linux."""
    return {pid for pid in foreign_children(supervisor) if _is_intact(_environment(pid))}


def waits_for_signal(pid: int) -> bool:
    """Whether the main thread of *pid* waits for any signal, on Linux.

    SIGURG would end its `signal.pause`; and `signal.sigwait` does not run the handler of SIGURG.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/wchan") as file:
        where = file.read()  # a function of the kernel, with what its compiler has appended
        return any(name in where for name in ("sys_pause", "sigsuspend", "sigtimedwait"))
    return False


def main_thread_rest(pid: int) -> str | None:
    """Return how the main thread of *pid* sleeps, on Linux; None if it runs, or is stopped.

    The result changes whenever the thread wakes up. It stays the same while the thread waits in C
    code, but not while it waits for Python's interpreter: then it wakes up every few milliseconds.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        lines = [
            line for line in file if line.startswith(("State:", "voluntary_", "nonvoluntary_"))
        ]
        return "".join(lines) if lines[0].split()[1] == "S" else None
    return None


def has_open(pid: int, descriptor: int) -> bool | None:
    """Whether the process *pid* has the file of *descriptor* open; None if that is unknown.

    It is known on Linux, unless *pid* belongs to another user.
    """
    wanted = os.fstat(descriptor)
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except PermissionError:
        return False if _is_zombie(pid) else None
    except OSError:  # it has ended
        return False if os.path.exists("/proc/self/fd") else None
    for name in names:
        with contextlib.suppress(OSError):  # it was closed meanwhile
            if os.path.samestat(os.stat(f"{directory}/{name}"), wanted):
                return True
    return False


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].startswith(b"Z")  # see proc_pid_stat(5)
    except OSError:
        return True


def send(pids: Iterable[int], number: int) -> None:
    """Send a signal to those of *pids* that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_all(members: Callable[[], Iterable[int]]) -> None:
    """Kill all processes that *members* returns; call it again until it returns no others."""
    found_so_far: set[int] = set()
    while found := set(members()) - found_so_far:
        # A process that is stopped cannot fork before it is killed.
        send(found, signal.SIGSTOP)
        found_so_far |= found
    send(found_so_far, signal.SIGKILL)


def _is_marked(pid: int, supervisor: int) -> bool:
    return f"{SUPERVISOR_VARIABLE}={supervisor}".encode() in _environment(pid)


def _is_intact(environment: list[bytes]) -> bool:
    """Whether *environment* was readable, and the process has not written its title over it."""
    return bool(environment) and all(b"=" in one for one in environment)


def _environment(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read().removesuffix(b"\0").split(b"\0")
    return []


def _children_of(pid: int) -> list[int]:
    """Return the children of each thread, from /proc; see proc_tid_children(5)."""
    children: list[int] = []
    with contextlib.suppress(OSError):  # it ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                children += map(int, file.read().split())
    return children


def _by_ps() -> Callable[[int], list[int]]:
    """Return a function like `_children_of`, for systems without /proc: macOS, some BSDs."""
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
