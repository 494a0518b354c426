"""Reaps the processes that earlier runs have started, once they have ended.

An exec keeps the children of a process, but the new run does not know them: each of them would be
left as a zombie when it ends.

Runs in: the program, in both modes, after a restart in place; on the main thread or that of its
loop.
Owns: a descriptor for each of these processes.
"""

from __future__ import annotations

from .._common.unpatched import os, read_bytes

FIRST_PAUSE = 0.1  # seconds until the next look; doubled each time
LAST_PAUSE = 60.0  # seconds; what still runs then is left to the next restart


class EarlierChildren:
    """The children that this process has when a run begins; to be made before its first line.

    Linux only. By their descriptors they cannot be mixed up with children of the present run, not
    even if those get the same process IDs.
    """

    def __init__(self) -> None:
        self._descriptors = list(filter(None, map(_open, _children())))
        self._pause = FIRST_PAUSE
        self.reap()

    def reap(self) -> bool:
        """Reap those that have ended; return whether there are others."""
        running: list[int] = []
        while True:
            try:
                descriptor = self._descriptors.pop()  # so that no other thread handles it
            except IndexError:
                self._descriptors += running
                return bool(running)
            try:
                if os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG):
                    os.close(descriptor)
                else:
                    running.append(descriptor)
            except ChildProcessError:  # the program has reaped it
                os.close(descriptor)
            except OSError:  # the program has closed it: the number may mean another file now
                continue

    def next_look(self) -> float | None:
        """Reap; return in how many seconds to call this again; None if that is not necessary."""
        pause, self._pause = self._pause, 2 * self._pause
        return pause if self.reap() and pause < LAST_PAUSE else None


def _children() -> list[int]:
    """Return the children of this process; see proc_tid_children(5)."""
    children: list[int] = []
    try:
        for thread in os.listdir("/proc/self/task"):
            children += map(int, read_bytes(f"/proc/self/task/{thread}/children").split())
    except OSError:  # there is no /proc, or it has no such file
        return []
    return children


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # an older system
        return None
