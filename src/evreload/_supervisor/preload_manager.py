"""What is imported in advance, so that the next run of the program need not.

The supervisor's loop. After a run has told which modules it is made of, a fork server imports
those from outside the project, while nobody waits; see `forkserver`. It is renewed when one of
its files changes, or when the program imports more. Without one, the next start is simply cold.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import site
import sysconfig
from collections.abc import Callable, Collection

from .._common.protocol import Record
from .._settings import Options
from .._snapshot.preload_check import Outside
from .._watch.watcher import Want
from .fork_server_client import Preloader
from .program_process import Run

MOST_ATTEMPTS = 6  # to find out what may not be imported in advance
MOST_FAILURES = 2  # of warm starts, after which there are no more
NOWHERE = Outside((), ())
ALWAYS_COLD = ("gevent", "eventlet")  # they replace what everybody else has imported
PATCHING = {"gevent.monkey", "eventlet.patcher"}
OURS = __name__.partition(".")[0]

logger = logging.getLogger("evreload")


class Warm:
    """Keeps the fork server. *want* takes files to watch; *ready* is called for each new one.

    Does nothing unless the options say so.
    """

    def __init__(
        self, options: Options, want: Callable[[set[Want]], object], ready: Callable[[], object]
    ) -> None:
        self._options = options
        self._want = want
        self._ready = ready
        self._is_on = options.warm
        self._server: Preloader | None = None
        self._next: Preloader | None = None  # which still imports
        self._left_out = dict.fromkeys(options.cold, "you said so")
        self._considered: set[str] = set()  # files that cannot be in a server, or are
        self._attempts = self._failures = 0
        self._killed_in = ""  # the import of which module
        self._outside = Outside(_outside(), _inside(options)) if options.warm else NOWHERE

    @property
    def pids(self) -> set[int]:
        """The processes that are neither the program nor have descended from it."""
        return {server.pid for server in self._servers()}

    def fork(self) -> Run | None:
        """Return a run with everything imported in advance, if that can be had."""
        server = self._server
        if server is None:
            return None
        try:
            return Run(server.fork, keep_sockets=self._options.keep_sockets, loaded=server.files)
        except OSError as error:
            logger.debug("the fork server does not fork: %s", error)
            self._drop(server)
            return None

    def is_behind(self, run: Run) -> bool:
        """Whether *run* has imported what the next one might find imported."""
        known = self._considered.union(run.loaded if self._servers() else ())
        return self._is_on and any(path in self._outside for path in _all_files(run) - known)

    def learn(self, run: Run) -> None:
        """Take in what *run* has told of its modules."""
        if not self._is_on:
            return
        self._considered |= _all_files(run)
        if told := {name for name, *_ in run.modules} & PATCHING:
            self._give_up(f"{told.pop()} patches what others import")
            return
        names, others = self._sort(run)
        latest = self._next or self._server
        if names and not (latest and set(names) <= latest.considered):
            self._attempts = 0
            self._prepare(names, others)

    def _sort(self, run: Run) -> tuple[list[str], list[str]]:
        """Part the names of the modules into those to import in advance, and those never to."""
        names, others = [], []
        for name, loader, *places in _as_begun(run):
            top = name.partition(".")[0]
            if top == OURS:
                continue
            if top in ALWAYS_COLD:
                others.append(name)
            elif loader == "plain" and all(place in self._outside for place in places):
                names.append(name)
            elif places:
                others.append(name)
        return names, others

    def forget(self, changes: Collection[str]) -> bool:
        """Let go of what is not what the program would import, now that there are *changes*.

        Return whether that is what the next run was forked by.
        """
        forked_by = self._server
        for server in self._servers():
            self._take_in(server)
            if not server.files.keys().isdisjoint(changes) or server.is_outdated:
                logger.debug("what was imported in advance has changed")
                self._drop(server)
                self._left_out = dict.fromkeys(self._options.cold, "you said so")
            else:  # it may have told just now that it is ready
                asyncio.get_running_loop().call_soon(self._judge, server)
        return self._server is not forked_by

    def distrust(self) -> None:
        """Make the next start cold, since this one has failed, and may have for being warm."""
        self._failures += 1
        self._is_on = self._failures < MOST_FAILURES
        which = "the next start is" if self._is_on else "all further starts are"
        logger.warning("a warm start has failed, perhaps because it was warm: %s cold", which)
        self.close()

    def note_exit(self, pid: int, status: int) -> None:
        """Take note that a process has ended; one of ours should not have.

        *status* is as os.waitstatus_to_exitcode gives it. The import under way is blamed. If the
        process was killed, it is blamed the second time only: the first time, somebody may have
        done that, and a later run has another process made.
        """
        for server in self._servers():
            if server.pid == pid:
                server.was_reaped = True
                self._take_in(server)
                failed = server is self._next and server.loading
                self._drop(server)
                if failed and (status != -signal.SIGKILL or failed == self._killed_in):
                    self._leave_out(failed, "its import ended the process")
                    self._try_again(server)
                elif failed:
                    self._killed_in = failed

    def close(self) -> None:
        for server in self._servers():
            self._drop(server)

    def _servers(self) -> list[Preloader]:
        return [server for server in (self._server, self._next) if server]

    # Making a fork server

    def _prepare(self, names: list[str], others: list[str]) -> None:
        if self._next:
            self._drop(self._next)
        cold = [*self._left_out, *others]
        try:
            self._next = Preloader(self._options.target, self._outside, names, cold)
        except OSError as error:
            logger.warning("cannot import anything in advance: %s", error)
            self._considered.clear()  # for the next run it is tried again
            return
        asyncio.get_running_loop().add_reader(self._next.reports, self._on_report, self._next)

    def _on_report(self, server: Preloader) -> None:
        if not self._take_in(server):
            asyncio.get_running_loop().remove_reader(server.reports)
        self._judge(server)

    def _judge(self, server: Preloader) -> None:
        """Decide what becomes of *server*, by what it has told, unless it was let go of."""
        if server not in self._servers():
            return
        for name, why in server.left_out.items():
            self._leave_out(name, why)
        if server.unfit:
            self._give_up(server.unfit)
        elif server is self._next and server.is_ready:
            if server.left_out:
                self._drop(server)
                self._try_again(server)
            else:
                self._replace(server)

    def _take_in(self, server: Preloader) -> bool:
        """Read what *server* has told; return whether it can tell more."""
        wants = server.read()
        if wants:
            self._want(wants)
        return server.is_there

    def _leave_out(self, name: str, why: str) -> None:
        if name not in self._left_out:
            self._left_out[name] = why
            logger.debug("%s is not imported in advance: %s", name, why)

    def _try_again(self, server: Preloader) -> None:
        """Begin anew, without what was found out: part of it has run in there."""
        self._attempts += 1
        names = [name for name in server.names if name not in self._left_out]
        if self._attempts == MOST_ATTEMPTS or not names:
            self._give_up("too few modules can be imported in advance")
        else:
            self._prepare(names, server.cold)

    def _give_up(self, why: str) -> None:
        logger.warning("--warm has no effect: %s", why)
        self._is_on = False
        self.close()

    def _replace(self, server: Preloader) -> None:
        if self._server:
            self._drop(self._server)
            logger.debug("%d modules are imported in advance now", len(server.names))
        else:
            logger.info(
                "%d modules are imported in advance; the next start is warm", len(server.names)
            )
        self._server, self._next = server, None
        self._ready()

    def _drop(self, server: Preloader) -> None:
        asyncio.get_running_loop().remove_reader(server.reports)
        server.close()
        self._considered.clear()
        if server is self._server:
            self._server = None
        if server is self._next:
            self._next = None


def _all_files(run: Run) -> set[str]:
    return {*run.loaded, *run.files}


def _as_begun(run: Run) -> list[Record]:
    """Return the modules of *run* in the order in which their imports began.

    They come in that in which they ended, in which modules that import each other may fail.
    """
    order = {path: number for number, path in enumerate([*run.loaded, *run.files])}
    last = len(order)  # what has no file has come with something that has
    return sorted(run.modules, key=lambda module: order.get((*module, "")[2], last))


def _outside() -> list[str]:
    """Return where Python keeps what is not of any project."""
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    return [*found, *map(os.path.realpath, found)]


def _inside(options: Options) -> list[str]:
    """Return what is of the project, wherever it lies."""
    here = os.getcwd()
    first = options.target[0]
    target = os.path.join(here, first) if first not in ("-m", "-c") else here
    of_target = target if os.path.isdir(target) else os.path.dirname(target)
    found = [os.path.normpath(path) for path in (here, of_target, target, *options.watch)]
    return [*found, *map(os.path.realpath, found)]
