"""The supervisor's end of a fork server: what it has imported, and the programs it forks.

The fork server itself runs `_snapshot.fork_server`.

Runs in: the supervisor, on its loop's thread.
Owns: the process of the fork server, and the pipes to it.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterable

from .._common import protocol, spawn
from .._common.project_paths import ProjectPaths
from .._common.role import FORK_SERVER
from .._common.source import source_file
from .._watch.listener import WatchRequest
from .process_tree import kill_all, tree
from .program_process import ProgramProcess

FORK_TIMEOUT = 5.0  # seconds; a fork takes some milliseconds


class ForkServerClient:
    """A fork server: it imports the modules *names*, in this order, and no *excluded* ones."""

    def __init__(
        self, target: list[str], project: ProjectPaths, names: list[str], excluded: list[str]
    ) -> None:
        """Start the fork server. Raises OSError."""
        self.names = names
        self.considered = {*names, *excluded}
        self.excluded = excluded
        self.files: dict[str, int] = {}  # that it has read, and when
        self.left_out: dict[str, str] = {}  # modules that it could not import, and why
        self.cannot_fork = ""  # the reason why it must not fork, if there is one
        self.importing = ""  # the module that it imports now
        self.is_ready = False
        self.was_reaped = False
        self._forked: int | None = None
        self._project = project.inside
        self._project_names = _names_in(self._project)
        self._process = ProgramProcess.start(lambda pipes: spawn.spawn(target, pipes, FORK_SERVER))
        self.pid = self._process.pid
        self.input = self._process.input
        self._process.set_capacity(spawn.PIPE_SIZE)
        try:
            self._process.send(
                protocol.Preload(
                    tuple(names), tuple(excluded), tuple(project.outside), tuple(project.inside)
                )
            )
        except OSError:
            self.close()
            raise

    @property
    def is_connected(self) -> bool:
        """Whether it can send more messages."""
        return not self._process.is_at_end

    @property
    def is_outdated(self) -> bool:
        """Whether the same imports might find other files now.

        The project may have a new module with the name of an imported one.
        """
        new = _names_in(self._project) - self._project_names
        is_shadowed = any(name.partition(".")[0] in new for name in self.names)
        return is_shadowed or self._process.is_outdated

    def read(self) -> set[WatchRequest]:
        """Handle the messages that have come; return the files that it has read."""
        requests = set()
        while messages := self._process.read():
            for message in messages:
                match message:
                    case protocol.FileRead(path, read_ns):
                        request = WatchRequest(source_file(path), read_ns)
                        self.files[request.path] = request.since_ns
                        requests.add(request)
                    case protocol.Importing(name):
                        self.importing = name
                    case protocol.LeftOut(name, reason):
                        self.left_out[name] = reason
                    case protocol.CannotFork(reason):
                        self.cannot_fork = reason
                    case protocol.PreloadDone():
                        self.is_ready = True
                    case protocol.Forked(pid):
                        self._forked = pid
        return requests

    def fork(self, pipes: Iterable[int]) -> int:
        """Fork a program that gets *pipes*; return its process ID. Raises OSError."""
        self._forked = None
        socket.send_fds(self._process.service, [b"."], list(pipes))
        self._process.send(protocol.Fork())
        while self._forked is None:
            if not select.select([self.input], [], [], FORK_TIMEOUT)[0]:
                raise TimeoutError(f"no answer in {FORK_TIMEOUT:g} s")
            self.read()
            if not self.is_connected:
                raise BrokenPipeError("it has ended")
        return self._forked

    def close(self) -> None:
        """Kill the fork server: it has nothing to finish."""
        if not self.was_reaped:  # or another process may have its ID
            kill_all(lambda: tree(self.pid))
        self._process.close()


def _names_in(directories: Iterable[str]) -> set[str]:
    """Return the names of what might be modules in *directories*."""
    names: set[str] = set()
    for directory in directories:
        with contextlib.suppress(OSError):  # it was removed, or is a file
            names |= {entry.partition(".")[0] for entry in os.listdir(directory)}
    return names
