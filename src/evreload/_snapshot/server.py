"""Warm restarts: a process that has imported what does not change, and forks the program.

Its only thread. It imports what the last run imported from outside the project, then waits to
be told to fork; what it forks is the program, before its first line. What may be in it is the
business of `guard`. Linux only.
"""

from __future__ import annotations

import _socket
import _thread
import gc
import os
import sys

from .._common import process as _process
from .._common import protocol as channel
from .._common import startup as _origin
from .._common.protocol import Pipes
from .._program.imports import absolute
from .preload_check import Guard, Outside

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from .._program.imports import Imports

ASKED = (channel.OUTSIDE, channel.INSIDE, channel.COLD, channel.PRELOAD)
MOST_PIPES = 3


class ForkServer:
    """Told what to import through the pipes of a run, and then, as often as wished, to fork."""

    def __init__(self, mode: str, imports: Imports) -> None:
        self._pipes = Pipes(_process.pipes_of(mode))
        self._imports = imports

    def serve(self) -> str:
        """Import, then fork; return in each fork, with the mode of the program it is to be."""
        try:
            self._preload()
            while True:
                for record in self._pipes.wait():
                    if record[0] == channel.FORK and (mode := self._fork()):
                        return mode
        except KeyboardInterrupt:
            os._exit(130)
        except OSError:  # the supervisor has died, or no fork works
            os._exit(1)

    # Imports

    def _preload(self) -> None:
        import warnings

        wishes: dict[str, list[str]] = {kind: [] for kind in ASKED}
        while not wishes[channel.PRELOAD]:
            for kind, *words in self._pipes.wait():
                wishes[kind] += words
        if _thread._count():  # of sitecustomize, say
            self._pipes.report(channel.UNFIT, "a thread is started before the program begins")
        was_batch = _schedule(os.SCHED_OTHER, os.SCHED_BATCH)  # nobody waits for us
        self._imports.began = _origin.STARTED
        self._imports.begin(lambda path, read: self._pipes.report(channel.FILE, str(read), path))
        for path, read in self._imports.so_far(_origin.STARTED):
            self._pipes.report(channel.FILE, str(read), path)
        outside = Outside(wishes[channel.OUTSIDE], wishes[channel.INSIDE])
        guard = Guard(self._imports, outside, wishes[channel.COLD])
        silence = ("ignore", None, Warning, None, 0)  # the first run has warned already
        warnings.filters.insert(0, silence)  # type: ignore[attr-defined]
        for name in wishes[channel.PRELOAD]:
            self._pipes.report(channel.LOADING, name)
            guard.load(name)
        guard.dismiss()
        # Not one that is merely equal: a package may want silence, too.
        warnings.filters[:] = [one for one in warnings.filters if one is not silence]  # type: ignore[index]
        for name, why in guard.left_out.items():
            self._pipes.report(channel.LEFT_OUT, name, why)
        if was_batch:
            _schedule(os.SCHED_BATCH, os.SCHED_OTHER)
        self._get_ready(outside)
        self._pipes.report(channel.READY)

    def _get_ready(self, outside: Outside) -> None:
        if "socket" in sys.modules:
            from .._program import kept_sockets as sockets  # noqa: F401  # the program would, at its first socket
        _forget_directories(outside)
        _process.flush()  # or every fork would write it
        gc.collect()
        gc.freeze()  # or each collection would copy all of it, for its marks

    # Forks

    def _fork(self) -> str | None:
        """Fork the program as a child of the supervisor's; return None in this process.

        It is forked by a fork, whose end makes an orphan of it: these come to the supervisor.
        """
        pipes = self._receive_pipes()
        receiver, sender = os.pipe()
        between = _fork_quietly()
        if between == 0:
            program = _fork_quietly()
            if program == 0:
                for descriptor in (receiver, sender, *self._pipes.numbers):
                    os.close(descriptor)
                self._imports.author.forget_writing()
                return _process.mode_for(pipes, warm=True)
            os.write(sender, str(program).encode())
            os._exit(0)
        for descriptor in (sender, *pipes):
            os.close(descriptor)
        os.waitpid(between, 0)
        told = os.read(receiver, 32)
        os.close(receiver)
        if not told:
            raise ChildProcessError("there is no room for another process")
        self._pipes.report(channel.FORKED, told.decode())
        return None

    def _receive_pipes(self) -> list[int]:
        # Not `socket`: the program may not have imported it.
        service = _socket.socket(fileno=self._pipes.service[0])
        try:
            space = _socket.CMSG_SPACE(4 * MOST_PIPES)
            _, ancillary, _, _ = service.recvmsg(64, space)
        finally:
            service.detach()
        data = ancillary[0][2]
        return [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]


def _schedule(usual: int, other: int) -> bool:
    """Be scheduled in the *other* way, if it is in the *usual* one; return whether that worked.

    Not by `os.nice`, which only root can take back.
    """
    try:
        if os.sched_getscheduler(0) == usual:
            os.sched_setscheduler(0, other, os.sched_param(0))
            return True
    except OSError:  # a container may forbid it
        pass
    return False


def _forget_directories(outside: Outside) -> None:
    """Forget what the project's directories and archives hold: it will be something else."""
    archives = getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {})
    for path in list(sys.path_importer_cache):
        if absolute(path) not in outside:
            del sys.path_importer_cache[path]
            archives.pop(path, None)


def _fork_quietly() -> int:
    """Fork without Python's warning of native threads, like OpenBLAS's, which care for it."""
    import warnings

    filters = warnings.filters[:]
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        return os.fork()
    finally:
        warnings.filters[:] = filters  # type: ignore[index]
