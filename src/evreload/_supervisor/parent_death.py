"""A process that ends the program if the supervisor dies, however it dies.

Runs in: the supervisor, which forks it, on its main thread; and in the monitor process itself.
Owns: the monitor process, and the pipe to it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms
import os

TYPE_CHECKING = False  # `typing` costs 2 ms before the program starts
if TYPE_CHECKING:
    from typing import NoReturn


class ParentDeathMonitor:
    """Forks the monitor, and sends it the processes to end.

    The monitor waits for the end of a pipe of which only the supervisor has the other end.
    `PR_SET_PDEATHSIG` would end the program, but not its workers, and only on Linux. The monitor
    has a session of its own, so it outlives even a SIGKILL for the whole process group.
    """

    def __init__(self, *pids: int) -> None:
        """Fork the monitor, which protects *pids*; before there are threads. Raises OSError."""
        self._begin(pids)

    @property
    def pid(self) -> int:
        """The process ID of the monitor."""
        return self._pid

    def _begin(self, pids: tuple[int, ...]) -> None:
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
                _monitor(receiver, supervisor, pids)
            finally:
                os._exit(1)
        os.close(receiver)
        self._sender = sender

    def replace(self) -> None:
        """Fork another monitor: this one was killed."""
        import contextlib
        import warnings

        before = self._sender
        # By now there are threads, which the fork does not copy. The monitor needs none of them.
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(OSError):
            self._begin(())  # `protect` follows
            os.close(before)

    def protect(self, *pids: int) -> None:
        """From now on, end these processes if the supervisor dies."""
        try:
            os.write(self._sender, " ".join(map(str, pids)).encode() + b"\n")
        except OSError:  # the monitor was killed: `replace` follows
            return

    def end(self) -> None:
        """End the monitor: the supervisor ends normally."""
        self.protect()
        os.close(self._sender)
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:  # it was killed, and reaped
            return


def _monitor(receiver: int, supervisor: int, pids: tuple[int, ...]) -> NoReturn:
    os.setsid()
    for number in _signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP}:
        _signal.signal(number, _signal.SIG_IGN)
    # Close what the supervisor has open: a reader of its output waits until all have closed it.
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2} - {receiver}:
        os.dup2(null, standard)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) != receiver:
            try:
                os.close(int(name))
            except OSError:  # the one that listed the others is closed by now
                continue
    protected = list(pids)
    while data := os.read(receiver, 4096):
        protected = [int(pid) for pid in data.splitlines()[-1].split()]
        # Only once the supervisor is up: the program starts first.
        from . import process_tree  # noqa: F401
    from .process_tree import kill_all, marked, tree

    kill_all(lambda: [one for pid in protected for one in tree(pid)])
    if os.path.exists("/proc/self/environ"):
        kill_all(lambda: marked(supervisor))
    os._exit(0)
