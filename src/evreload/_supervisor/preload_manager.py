"""Preloading: a fork server imports in advance the modules of the program that do not change.

After a run has listed its modules, a fork server imports those from outside the project, in the
background. Another one replaces it when one of its files changes, or when the program has imported
more. While there is none, a start is cold.

Runs in: the supervisor, on its loop's thread.
Owns: the fork servers, and which modules they must not import.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import site
import sysconfig
from collections.abc import Callable, Collection

from .._common.project_paths import ProjectPaths
from .._common.protocol import ModuleListed
from .._settings import Settings
from .._watch.listener import WatchRequest
from .fork_server_client import ForkServerClient
from .program_process import ProgramProcess

MAX_ATTEMPTS = 6  # to find out which modules cannot be imported in advance
MAX_FAILURES = 2  # of warm starts; after these, all starts are cold
NO_PROJECT = ProjectPaths((), ())
ALWAYS_EXCLUDED = ("gevent", "eventlet")  # they replace what other modules have imported
PATCHING = {"gevent.monkey", "eventlet.patcher"}
PACKAGE = __name__.partition(".")[0]

logger = logging.getLogger("evreload")


class PreloadManager:
    """Keeps a fork server, if the settings say so.

    *request* takes files to watch; *on_ready* is called for each new fork server.
    """

    def __init__(
        self,
        settings: Settings,
        request: Callable[[set[WatchRequest]], object],
        on_ready: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._request = request
        self._on_ready = on_ready
        self._is_on = settings.warm
        self._server: ForkServerClient | None = None
        self._next: ForkServerClient | None = None  # the one that still imports
        self._left_out = dict.fromkeys(settings.cold, "you said so")  # modules, and why
        self._considered: set[str] = set()  # files whose modules were sorted already
        self._attempts = self._failures = 0
        self._killed_in = ""  # the module that a fork server was importing when it was killed
        self._project = ProjectPaths(_outside(), _inside(settings)) if settings.warm else NO_PROJECT

    @property
    def pids(self) -> set[int]:
        """The processes of the fork servers."""
        return {server.pid for server in self._servers()}

    def fork(self) -> ProgramProcess | None:
        """Return a run that the fork server has forked, or None."""
        server = self._server
        if server is None:
            return None
        try:
            return ProgramProcess.start(server.fork, loaded=server.files)
        except OSError as error:
            logger.debug("the fork server does not fork: %s", error)
            self._drop(server)
            return None

    def is_behind(self, process: ProgramProcess) -> bool:
        """Whether *process* has imported files that could be preloaded, and are not."""
        known = self._considered.union(process.loaded if self._servers() else ())
        new = _all_files(process) - known
        return self._is_on and any(map(self._project.is_outside, new))

    def learn(self, process: ProgramProcess) -> None:
        """Use the list of modules that *process* has sent."""
        if not self._is_on:
            return
        self._considered |= _all_files(process)
        if found := {module.name for module in process.modules} & PATCHING:
            self._give_up(f"{found.pop()} patches what others import")
            return
        names, others = self._sort(process)
        latest = self._next or self._server
        if names and not (latest and set(names) <= latest.considered):
            self._attempts = 0
            self._prepare(names, others)

    def _sort(self, process: ProgramProcess) -> tuple[list[str], list[str]]:
        """Return the names of the modules to preload, and of those never to preload."""
        names, others = [], []
        for module in _in_order_begun(process):
            name, places = module.name, module.places
            top = name.partition(".")[0]
            if top == PACKAGE:
                continue
            if top in ALWAYS_EXCLUDED:
                others.append(name)
            elif module.by_python and all(map(self._project.is_outside, places)):
                names.append(name)
            elif places:
                others.append(name)
        return names, others

    def forget(self, changes: Collection[str]) -> bool:
        """End the fork servers that have imported any of *changes*, or would import other files.

        Return whether that ended the one that forks the next run.
        """
        forked_by = self._server
        for server in self._servers():
            self._read(server)
            if not server.files.keys().isdisjoint(changes) or server.is_outdated:
                logger.debug("what was imported in advance has changed")
                self._drop(server)
                self._left_out = dict.fromkeys(self._settings.cold, "you said so")
            else:  # it may have sent just now that it is ready
                asyncio.get_running_loop().call_soon(self._judge, server)
        return self._server is not forked_by

    def distrust(self) -> None:
        """Make the next start cold, since this one has failed, perhaps because it was warm."""
        self._failures += 1
        self._is_on = self._failures < MAX_FAILURES
        which = "the next start is" if self._is_on else "all further starts are"
        logger.warning("a warm start has failed, perhaps because it was warm: %s cold", which)
        self.close()

    def on_exit(self, pid: int, status: int) -> None:
        """Note that a process has ended; a fork server should not have.

        *status* is as os.waitstatus_to_exitcode returns it. The module that was being imported is
        left out from now on; after a SIGKILL, only the second time, since a user may have sent the
        first one. A later run causes another fork server to be made.
        """
        for server in self._servers():
            if server.pid == pid:
                server.was_reaped = True
                self._read(server)
                failed = server is self._next and server.importing
                self._drop(server)
                if failed and (status != -signal.SIGKILL or failed == self._killed_in):
                    self._leave_out(failed, "its import ended the process")
                    self._try_again(server)
                elif failed:
                    self._killed_in = failed

    def close(self) -> None:
        """End the fork servers."""
        for server in self._servers():
            self._drop(server)

    def _servers(self) -> list[ForkServerClient]:
        return [server for server in (self._server, self._next) if server]

    # Making a fork server

    def _prepare(self, names: list[str], others: list[str]) -> None:
        if self._next:
            self._drop(self._next)
        excluded = [*self._left_out, *others]
        try:
            self._next = ForkServerClient(self._settings.target, self._project, names, excluded)
        except OSError as error:
            logger.warning("cannot import anything in advance: %s", error)
            self._considered.clear()  # try again for the next run
            return
        asyncio.get_running_loop().add_reader(self._next.input, self._on_message, self._next)

    def _on_message(self, server: ForkServerClient) -> None:
        if not self._read(server):
            asyncio.get_running_loop().remove_reader(server.input)
        self._judge(server)

    def _judge(self, server: ForkServerClient) -> None:
        """Use *server*, replace it, or give up, depending on its messages.

        Do nothing if it was dropped meanwhile.
        """
        if server not in self._servers():
            return
        for name, why in server.left_out.items():
            self._leave_out(name, why)
        if server.cannot_fork:
            self._give_up(server.cannot_fork)
        elif server is self._next and server.is_ready:
            if server.left_out:
                self._drop(server)
                self._try_again(server)
            else:
                self._replace(server)

    def _read(self, server: ForkServerClient) -> bool:
        """Read what *server* has sent; return whether it can send more."""
        requests = server.read()
        if requests:
            self._request(requests)
        return server.is_connected

    def _leave_out(self, name: str, why: str) -> None:
        if name not in self._left_out:
            self._left_out[name] = why
            logger.debug("%s is not imported in advance: %s", name, why)

    def _try_again(self, server: ForkServerClient) -> None:
        """Start another server, without the modules left out: part of them has run in *server*."""
        self._attempts += 1
        names = [name for name in server.names if name not in self._left_out]
        if self._attempts == MAX_ATTEMPTS or not names:
            self._give_up("too few modules can be imported in advance")
        else:
            self._prepare(names, server.excluded)

    def _give_up(self, why: str) -> None:
        logger.warning("--warm has no effect: %s", why)
        self._is_on = False
        self.close()

    def _replace(self, server: ForkServerClient) -> None:
        if self._server:
            self._drop(self._server)
            logger.debug("%d modules are imported in advance now", len(server.names))
        else:
            logger.info(
                "%d modules are imported in advance; the next start is warm", len(server.names)
            )
        self._server, self._next = server, None
        self._on_ready()

    def _drop(self, server: ForkServerClient) -> None:
        asyncio.get_running_loop().remove_reader(server.input)
        server.close()
        self._considered.clear()
        if server is self._server:
            self._server = None
        if server is self._next:
            self._next = None


def _all_files(process: ProgramProcess) -> set[str]:
    return {*process.loaded, *process.files}


def _in_order_begun(process: ProgramProcess) -> list[ModuleListed]:
    """Return the modules of *process* in the order in which their imports began.

    The program lists them in the order in which their imports ended. In that order, a cycle of
    imports may fail.
    """
    order = {path: number for number, path in enumerate([*process.loaded, *process.files])}
    last = len(order)  # a module without a file comes last: another module makes it
    return sorted(process.modules, key=lambda module: order.get((*module.places, "")[0], last))


def _outside() -> list[str]:
    """Return the directories of Python and its packages."""
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    return [*found, *map(os.path.realpath, found)]


def _inside(settings: Settings) -> list[str]:
    """Return the directories and files of the project."""
    here = os.getcwd()
    first = settings.target[0]
    target = os.path.join(here, first) if first not in ("-m", "-c") else here
    of_target = target if os.path.isdir(target) else os.path.dirname(target)
    found = [os.path.normpath(path) for path in (here, of_target, target, *settings.watch)]
    return [*found, *map(os.path.realpath, found)]
