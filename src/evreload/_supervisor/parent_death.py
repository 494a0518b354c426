"""A process that ends the program if the supervisor dies, however it dies.

Runs in: the supervisor, which forks it, on its main thread; and in the monitor process itself.
Owns: the monitor process, and the pipe to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NoReturn

from .process_tree import kill_all, marked, tree


class ParentDeathMonitor:
    """Forks the monitor, and sends it the processes to end.

    The monitor waits for the end of a pipe of which only the supervisor has the other end.
    `PR_SET_PDEATHSIG` would end the program, but not its workers, and only on Linux. The monitor
    has a session of its own, so it outlives even a SIGKILL for the whole process group.
    """

    def __init__(self) -> None:
        """Fork the monitor; to be called before there are threads. Raises OSError."""
        self._begin()

    @property
    def pid(self) -> int:
        """The process ID of the monitor."""
        return self._pid

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
                _monitor(receiver, supervisor)
            finally:
                os._exit(1)
        os.close(receiver)
        self._sender = sender

    def replace(self) -> None:
        """Fork another monitor: this one was killed."""
        import warnings

        before = self._sender
        # By now there are threads, which the fork does not copy. The monitor needs none of them.
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(OSError):
            self._begin()
            os.close(before)

    def protect(self, *pids: int) -> None:
        """From now on, end these processes if the supervisor dies."""
        with contextlib.suppress(OSError):  # the monitor was killed: `replace` follows
            os.write(self._sender, " ".join(map(str, pids)).encode() + b"\n")

    def end(self) -> None:
        """End the monitor: the supervisor ends normally."""
        self.protect()
        os.close(self._sender)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _monitor(receiver: int, supervisor: int) -> NoReturn:
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    # No descriptor of the supervisor may stay open here: a process that reads the supervisor's
    # output waits until all copies are closed.
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - {receiver}:
        os.dup2(null, standard)
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor > 2 and descriptor != receiver:
            with contextlib.suppress(OSError):  # the one that listed the others is closed by now
                os.close(descriptor)
    protected: list[int] = []
    while data := os.read(receiver, 4096):
        protected = [int(pid) for pid in data.splitlines()[-1].split()]
    kill_all(lambda: [one for pid in protected for one in tree(pid)])
    if os.path.exists("/proc/self/environ"):
        kill_all(lambda: marked(supervisor))
    os._exit(0)
