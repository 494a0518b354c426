"""A fork server, as the supervisor sees it: what it has imported, and the runs it forks.

The supervisor's loop. Its other end is `forkserver`.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterable

from .._common import process as _process
from .._common import protocol as channel
from .._program.imports import source
from .._snapshot.preload_check import Outside
from .._watch.watcher import Want
from .process_tree import family, kill_all
from .program_process import PIPE_SIZE, Run

FORK_TIMEOUT = 5.0  # seconds; a fork takes some milliseconds


class Preloader:
    """The supervisor's end of a fork server."""

    def __init__(
        self, target: list[str], outside: Outside, names: list[str], cold: list[str]
    ) -> None:
        self.names = names  # in the order of their imports
        self.considered = {*names, *cold}
        self.cold = cold
        self.files: dict[str, int] = {}  # and when they were read
        self.left_out: dict[str, str] = {}
        self.unfit = ""  # or why it is
        self.loading = ""
        self.is_ready = False
        self.was_reaped = False
        self._forked: int | None = None
        self._project = outside.directories(False)
        self._own_names = _names_in(self._project)
        self._run = Run(lambda pipes: _process.spawn(target, pipes, forks=True), keep_sockets=True)
        self.pid = self._run.pid
        self.reports = self._run.reports
        self._run.widen(PIPE_SIZE)
        try:
            self._run.tell(channel.OUTSIDE, *outside.directories(True))
            self._run.tell(channel.INSIDE, *self._project)
            self._run.tell(channel.COLD, *cold)
            self._run.tell(channel.PRELOAD, *names)
        except OSError:
            self.close()
            raise

    @property
    def is_there(self) -> bool:
        return not self._run.has_hung_up

    @property
    def is_outdated(self) -> bool:
        """Whether the same imports, now, might find something else.

        Such as a module of the project, by the name of one that is in there.
        """
        new = _names_in(self._project) - self._own_names
        is_shadowed = any(name.partition(".")[0] in new for name in self.names)
        return is_shadowed or self._run.is_outdated

    def read(self) -> set[Want]:
        """Take in what it has told; return the files it has read."""
        wants = set()
        while records := self._run.read():
            for kind, *words in records:
                if kind == channel.FILE:
                    want = Want(source(words[1]), int(words[0]))
                    self.files[want.path] = want.since
                    wants.add(want)
                elif kind == channel.LOADING:
                    self.loading = words[0]
                elif kind == channel.LEFT_OUT:
                    self.left_out[words[0]] = words[1]
                elif kind == channel.UNFIT:
                    self.unfit = words[0]
                elif kind == channel.READY:
                    self.is_ready = True
                elif kind == channel.FORKED:
                    self._forked = int(words[0])
        return wants

    def fork(self, pipes: Iterable[int]) -> int:
        """Fork a program that has *pipes* to us; return its process id. Raises OSError."""
        self._forked = None
        socket.send_fds(self._run.service, [b"."], list(pipes))
        self._run.tell(channel.FORK)
        while self._forked is None:
            if not select.select([self.reports], [], [], FORK_TIMEOUT)[0]:
                raise TimeoutError(f"no answer in {FORK_TIMEOUT:g} s")
            self.read()
            if not self.is_there:
                raise BrokenPipeError("it has ended")
        return self._forked

    def close(self) -> None:
        """End it at once: there is nothing in it to lose."""
        if not self.was_reaped:  # or its id may be another's
            kill_all(lambda: family(self.pid))
        self._run.close()


def _names_in(directories: Iterable[str]) -> set[str]:
    """Return the names of what might be modules in *directories*."""
    names: set[str] = set()
    for directory in directories:
        with contextlib.suppress(OSError):  # it is gone, or it is a file
            names |= {entry.partition(".")[0] for entry in os.listdir(directory)}
    return names
