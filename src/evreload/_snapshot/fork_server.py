"""The fork server: a process that has imported modules in advance, and forks the program.

It imports the modules that the last run imported from outside the project, as far as
`preload_check` allows. Then it waits for requests to fork. Each fork becomes a run of the program,
before its first line. Linux only.

Runs in: the fork server, on its only thread.
Owns: the modules in this process; each fork gets a copy.
"""

from __future__ import annotations

import _socket
import _thread
import gc
import os
import sys

from .._common import protocol, startup
from .._common.paths import absolute
from .._common.project_paths import ProjectPaths
from .._common.protocol import Pipes
from .._common.role import PROGRAM, Role
from .._program.output import flush_output
from .preload_check import PreloadCheck

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from .._program.imports import Imports

MAX_PIPES = 3  # descriptors that come with a request to fork


class ForkServer:
    """Receives one request to preload modules, and then requests to fork."""

    def __init__(self, role: Role, imports: Imports) -> None:
        self._pipes = Pipes(role.pipes)
        self._imports = imports

    def serve(self) -> Role:
        """Import the modules, then fork on request. Return only in a fork, with its role."""
        try:
            self._preload()
            while True:
                for message in self._pipes.wait():
                    if isinstance(message, protocol.Fork) and (role := self._fork()):
                        return role
        except KeyboardInterrupt:
            os._exit(130)
        except OSError:  # the supervisor was killed, or the system refuses to fork
            os._exit(1)

    # Imports

    def _preload(self) -> None:
        import warnings

        request = self._await_request()
        if _thread._count():  # for example, of sitecustomize
            reason = "a thread is started before the program begins"
            self._pipes.send(protocol.CannotFork(reason))
        # Nothing waits for this process yet.
        is_batch = _change_policy(os.SCHED_OTHER, os.SCHED_BATCH)
        self._imports.started_ns = startup.STARTED_NS
        self._imports.begin(lambda path, read: self._pipes.send(protocol.FileRead(path, read)))
        for path, read in self._imports.unreported(startup.STARTED_NS):
            self._pipes.send(protocol.FileRead(path, read))
        project = ProjectPaths(request.outside, request.inside)
        check = PreloadCheck(self._imports, project, request.excluded)
        silence = ("ignore", None, Warning, None, 0)  # the first run has warned already
        warnings.filters.insert(0, silence)  # type: ignore[attr-defined]
        for name in request.names:
            self._pipes.send(protocol.Importing(name))
            check.load(name)
        check.end()
        # By identity: a package may have added an equal filter.
        warnings.filters[:] = [one for one in warnings.filters if one is not silence]  # type: ignore[index]
        for name, reason in check.left_out.items():
            self._pipes.send(protocol.LeftOut(name, reason))
        if is_batch:
            _change_policy(os.SCHED_BATCH, os.SCHED_OTHER)
        self._prepare_forks(project)
        self._pipes.send(protocol.PreloadDone())

    def _await_request(self) -> protocol.Preload:
        while True:
            for message in self._pipes.wait():
                if isinstance(message, protocol.Preload):
                    return message

    def _prepare_forks(self, project: ProjectPaths) -> None:
        if "socket" in sys.modules:
            from .._program import kept_sockets  # noqa: F401  # the client imports it otherwise
        _forget_directories(project)
        flush_output()  # each fork would write what is buffered
        gc.collect()
        gc.freeze()  # each collection in a fork would copy all objects, since it marks them

    # Forks

    def _fork(self) -> Role | None:
        """Fork the program, and make it a child of the supervisor; return None in this process.

        This process forks an intermediate process, which forks the program and ends. Then the
        kernel makes the supervisor the parent of the program; see `spawn.adopt_orphans`.
        """
        pipes = self._receive_pipes()
        receiver, sender = os.pipe()
        intermediate = _fork_quietly()
        if intermediate == 0:
            program = _fork_quietly()
            if program == 0:
                for descriptor in (receiver, sender, *self._pipes.numbers):
                    os.close(descriptor)
                self._imports.own_writes.clear_writes()
                return Role(PROGRAM, tuple(pipes))
            os.write(sender, str(program).encode())
            os._exit(0)
        for descriptor in (sender, *pipes):
            os.close(descriptor)
        os.waitpid(intermediate, 0)
        answer = os.read(receiver, 32)
        os.close(receiver)
        if not answer:
            raise ChildProcessError("the intermediate process could not fork")
        self._pipes.send(protocol.Forked(int(answer)))
        return None

    def _receive_pipes(self) -> list[int]:
        # Not `socket`: the program may not have imported it.
        service = _socket.socket(fileno=self._pipes.service[0])
        try:
            space = _socket.CMSG_SPACE(4 * MAX_PIPES)
            _, ancillary, _, _ = service.recvmsg(64, space)
        finally:
            service.detach()
        if not ancillary:
            raise OSError("the pipes did not come with the request")
        data = ancillary[0][2]
        return [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]


def _change_policy(before: int, after: int) -> bool:
    """Change the scheduling policy from *before*, if it is that, to *after*; return whether it did.

    `os.nice` would not do, since only root can undo it.
    """
    try:
        if os.sched_getscheduler(0) == before:
            os.sched_setscheduler(0, after, os.sched_param(0))
            return True
    except OSError:  # a container may forbid it
        pass
    return False


def _forget_directories(project: ProjectPaths) -> None:
    """Clear Python's caches of the directories and archives of the project, which may change."""
    archives = getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {})
    for path in list(sys.path_importer_cache):
        if not project.is_outside(absolute(path)):
            del sys.path_importer_cache[path]
            archives.pop(path, None)


def _fork_quietly() -> int:
    """Fork without Python's warning of other threads: those of OpenBLAS, say, do no harm."""
    import warnings

    filters = warnings.filters[:]
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        return os.fork()
    finally:
        warnings.filters[:] = filters  # type: ignore[index]
