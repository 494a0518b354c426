"""In-process mode: this process watches its own files, and restarts in place.

Runs in: the program, in in-process mode; on the thread of its loop, except where a method says
otherwise.
Owns: the watcher, the hooks, and the changes that lead to the restart.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import time
import warnings
from typing import TYPE_CHECKING

from tornado.ioloop import IOLoop

from .._common import startup
from .._common.filestat import changed_since, file_time
from .._common.log import HALF_SAVED, STILL_RUNNING, WAITING, name_some
from .._common.source import bytecode_time, is_source
from .._common.unpatched import os
from .._program import restart as restarting
from .._program.hooks import Hooks, is_interrupted
from .._program.imports import Imports
from .._program.tornado_drain import TornadoDrain
from .._watch.listener import WatchRequest
from .._watch.watcher import FileWatcher
from . import workers
from .fork_guard import ForkGuard
from .tornado_loop import TornadoLoop
from .workers import ADVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket
    from typing import Any

    from .._common.own_writes import OwnWrites
    from .._common.run_info import RunInfo
    from .._program.earlier_children import EarlierChildren
    from .._program.hooks import Hook
    from .._settings import Settings
    from .._watch.listener import Changes
    from .._watch.syntax_check import SyntaxCheck
    from .inherited_sockets import InheritedSockets

RESCAN_TIME = 0.002  # seconds; after a longer wait, the reloader looks at all files once more
UNCLAIMED_TIME = 10.0  # seconds the program has to bind its sockets again, once its loop runs
NO_LOOP_WARNING = (
    "files have changed, but no event loop runs in this program yet: "
    "start() needs one; `python -m evreload` does not"
)

logger = logging.getLogger("evreload")


class Reloader:
    """The backend of a program that restarts itself."""

    def __init__(
        self,
        imports: Imports,
        sockets: Callable[[], InheritedSockets],
        earlier_children: EarlierChildren | None = None,
    ) -> None:
        self._imports = imports
        self._sockets = sockets
        self._earlier_children = earlier_children
        self._hooks = Hooks()
        self._forks = ForkGuard(self)
        self._settings: Settings
        self._watcher: FileWatcher | None = None
        self._loop: TornadoLoop | None = None
        self._requests: dict[str, WatchRequest] = {}
        self._watched: dict[str, None] = {}  # passed to `watch`, in this run or the previous one
        self._running_ns: int | None = None  # since when the loop runs, or None if not known
        self._has_refused = False  # whether it has logged why it does nothing
        self._has_failed = False  # whether the program has failed
        self._changed: frozenset[str] | None = None  # of the restart in progress, if there is one
        self._changes: Changes = {}  # the latest from the watcher
        self._restart_task: asyncio.Future[None] | None = None

    # The backend

    @property
    def is_started(self) -> bool:
        """Whether changes are watched for."""
        return self._watcher is not None

    @functools.cached_property
    def run_info(self) -> RunInfo:
        """What the previous run passed to this one."""
        from .._common.run_info import RunInfo

        return RunInfo.from_environment(startup.PROCESS, startup.STARTED_NS)

    @property
    def changed(self) -> frozenset[str]:
        """The changed paths that led to the restart under way, else to this run."""
        return self.run_info.changed if self._changed is None else self._changed

    def start(self, settings: Settings, *, is_waiting: bool = False) -> None:
        """Watch from now on, and restart on the current loop."""
        if reason := _obstacle():
            self._refuse(reason)
            return
        io_loop = _current_loop()
        if self._watcher is None:
            self._settings = settings
            self._loop = TornadoLoop(io_loop, self._on_no_loop)
            # Only the command leaves out what git ignores.
            watch_settings = settings.replace(gitignore=False)
            self._watcher = FileWatcher(watch_settings, self, self._loop, self._forks.lock)
            self._forks.register()
            self._loop.add_callback(self._on_first_turn)
            self._watcher.start_in_background(self._first_requests)
        elif self._loop and self._loop.move_to(io_loop):
            with self._forks.lock:
                self._watcher.reopen()
        elif not is_waiting:
            logger.warning("evreload started more than once in the same process")

    def stop(self) -> None:
        """Stop watching; the requests are kept for the next `start`."""
        if self._watcher:
            self._watcher.stop()
            self._imports.end()
            self._watcher = None

    def wait(self, settings: Settings) -> None:
        """Run a loop until a change, then restart."""
        io_loop = IOLoop(make_current=False)
        io_loop.add_callback(self.start, settings, is_waiting=True)
        io_loop.start()

    def wait_after(self, error: BaseException, settings: Settings) -> None:
        """Wait for a change of any file that may have caused *error*, then restart."""
        from .._program.tracebacks import traceback_files

        self._has_failed = True  # connections to its sockets wait for the restart
        since_ns = self.run_info.started_ns  # the file may be fixed already
        for path in traceback_files(error):
            self._request(WatchRequest(path, since_ns, is_explicit=True))
        self._request_previous()
        logger.error("the program failed; %s", WAITING)
        self.wait(settings)

    def wait_for_rest(self, files: list[str], settings: Settings) -> None:
        """Wait for a change, since *files* may be half saved; return if there is none.

        The program has ended with success before it called `start`.
        """
        from .._common.half_saved import WAIT

        def stop_unless_changed() -> None:
            is_restarting = self._restart_task is not None and not self._restart_task.done()
            if is_restarting or (self._watcher and self._watcher.changes()):
                io_loop.call_later(WAIT, stop_unless_changed)
            else:
                io_loop.stop()

        self._has_failed = True
        self._request_previous()
        logger.info(HALF_SAVED, name_some(files))
        io_loop = IOLoop(make_current=False)
        io_loop.add_callback(self.start, settings, is_waiting=True)
        io_loop.call_later(WAIT, stop_unless_changed)
        io_loop.start()
        self.stop()

    def _request_previous(self) -> None:
        """Request what the previous run did: this one may have ended before it did so."""
        since_ns = self.run_info.started_ns
        for path in self.run_info.changed:
            self._request(WatchRequest(path, since_ns))
        for path in self.run_info.watched:
            if path not in self._watched:
                self._watched[path] = None
                self._request(WatchRequest(path, since_ns, is_explicit=True))

    def watch(self, path: str) -> None:
        """Watch *path*, an absolute one, and everything below it if it is a directory."""
        if path not in self._watched:
            self._watched[path] = None
            read_ns = self._imports.last_read_ns(path)
            self._request(WatchRequest(path, read_ns, is_explicit=True))

    def bind_sockets(self, port: int, *arguments: Any) -> list[socket]:
        """Bind sockets that the next run inherits."""
        return self._sockets().bind(port, *arguments)

    def add_hook(self, hook: Hook) -> None:
        """Add *hook*."""
        self._hooks.add(hook)

    def remove_hook(self, hook: Hook) -> None:
        """Remove *hook*. Raises ValueError if it was not added."""
        self._hooks.remove(hook)

    def reload(self) -> None:
        """Run the hooks and restart, now; do nothing if the hooks run already."""
        if self._hooks.are_running:
            logger.debug("reload() was called while the reload hooks run: it changes nothing")
            return
        if reason := _obstacle():
            logger.warning("evreload cannot restart this process: %s", reason)
            return
        self._hooks.run_coroutines_outside_loop()
        self._restart(self._watcher.changes() if self._watcher else {})
        self._changed = None  # the restart has failed

    def _refuse(self, reason: str) -> None:
        """Warn once why nothing will be reloaded; of several workers, only the first warns.

        While multiprocessing prepares a child by importing the main module, nothing warns.
        """
        if workers.is_being_prepared():
            level = logging.DEBUG
        else:
            level = logging.DEBUG if self._has_refused or workers.number() else logging.WARNING
            self._has_refused = True
        logger.log(level, "evreload cannot restart this process: %s", reason)

    def _request(self, request: WatchRequest) -> None:
        known = self._requests.get(request.path)
        self._requests[request.path] = request.merge(known) if known else request
        if self._watcher:
            self._watcher.request(request)

    def _on_first_turn(self) -> None:
        """Note that the loop runs; the first scan may take a while longer."""
        self._running_ns = file_time()

    # The listener of the watcher

    def on_watching(self) -> None:
        """Note that the program is up, since its loop runs: from now on each change counts."""
        assert self._watcher is not None
        self._imports.ignore_data_writes()
        self._watcher.program_is_up(listening_ns=self._running_ns or file_time())
        asyncio.get_running_loop().call_soon(self._watcher.announce)
        if self._has_sockets() and not self._has_failed:
            IOLoop.current().call_later(UNCLAIMED_TIME, self._sockets().close_unclaimed)
        self._reap()

    def _reap(self) -> None:
        """Reap what earlier runs have started; look again for a while."""
        if self._earlier_children and (pause := self._earlier_children.next_look()):
            IOLoop.current().call_later(pause, self._reap)

    def may_continue(self) -> bool:
        """Whether this process can be restarted; if a fork has made it a worker, stop."""
        if reason := workers.obstacle():
            self._refuse(reason)
            self.stop()
        return reason is None

    def new_requests(self) -> Iterable[WatchRequest]:
        """Return the files of imported modules that are not requested yet.

        The audit hook misses some: a custom loader may run code under a name that is no file.
        """
        for path, read_ns in self._imports.unreported(time.time_ns()):
            yield self._file_request(path, read_ns)

    def own_writes(self) -> OwnWrites:
        """Return what the program has written itself."""
        return self._imports.own_writes

    def on_changes(self, changes: Changes) -> None:
        """Restart for *changes*, once they compile."""
        if self._watcher is None:  # `stop` was called while they settled
            return
        self._changes = changes
        task = self._restart_task
        # If the loop was stopped and replaced by another, its task never ends.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            self._restart_task = asyncio.ensure_future(self._restart_when_drained())

    def _first_requests(self) -> Iterable[WatchRequest]:
        """Yield the first requests, and request each imported file. On the scanning thread."""
        watcher = self._watcher
        started_ns = self.run_info.started_ns
        self._imports.started_ns = started_ns
        if watcher:
            self._imports.begin(lambda *file: watcher.request(self._file_request(*file)))
        yield from list(self._requests.values())  # other threads may add some
        for path, read_ns in self._imports.unreported(started_ns):
            if read_ns == started_ns and changed_since(started_ns, [path]) and bytecode_time(path):
                read_ns = time.time_ns()  # the program wrote the file itself, then imported it
            yield self._file_request(path, read_ns)

    def _file_request(self, path: str, read_ns: int) -> WatchRequest:
        return WatchRequest(path, read_ns, is_plain=self._imports.is_plain(path))

    def _on_no_loop(self) -> bool:
        """Warn that no loop runs, if a file has changed. On the thread that looks for a loop."""
        if self._watcher and self._watcher.changes():
            logger.warning(NO_LOOP_WARNING)
            return True
        return False

    # Forks

    def before_fork(self) -> None:
        """Wait for the first scan; if Tornado forks workers, restart under the command."""
        if self._watcher and workers.are_being_forked():
            self._restart_under_command()
        if self._watcher:  # unless `_restart_under_command` has stopped it
            self._watcher.await_first_scan()

    def disconnect(self) -> None:
        """End all threads of the watcher."""
        if self._watcher:
            self._watcher.disconnect()

    def reopen(self) -> None:
        """Watch again, in the parent."""
        if self._watcher:
            self._watcher.reopen()

    def await_takeover(self, parent: int) -> None:
        """In a child of *parent*, watch again only if this process runs the loop."""
        if self._watcher and self._loop:
            self._loop.await_takeover(parent, self._take_over)

    def _take_over(self) -> None:
        """Watch in this forked child, which runs the loop. On any thread."""
        with self._forks.lock:
            if self._watcher and not self._watcher.is_delivering:
                self._watcher.reopen()

    def _restart_under_command(self) -> None:
        """Restart this process as the command: its workers run the loops, and it runs none."""
        if startup.TARGET[0] == "-c":
            logger.warning("evreload cannot restart this process: it forks workers; %s", ADVICE)
            self.stop()
            return
        logger.info("workers are being forked: going on under `python -m evreload`")
        self._hooks.run_coroutines_outside_loop()
        self._hooks.run_ordinary()
        try:
            arguments = ["--until-success", *self._settings.as_arguments()]
            restarting.restart_under_command(arguments)
        except OSError as error:
            logger.error("cannot restart: %s; %s", error, ADVICE)

    # From changes to the restart

    async def _restart_when_drained(self) -> None:
        """Check the syntax, finish requests, run the hooks, and restart for all changes so far."""
        servers = TornadoDrain()
        try:
            changes = await self._checked_changes()
            if changes is None:
                return
            self._changed = frozenset(changes)
            began = time.monotonic()
            await servers.finish(self._settings.grace)
            has_hooks = await self._run_coroutine_hooks(changes)
            if self._watcher and (has_hooks or time.monotonic() - began > RESCAN_TIME):
                latest = {**self._changes, **self._watcher.changes()}  # not settled yet
                if latest != self._changes:
                    self._changes = latest
            if changes is not self._changes:
                changes = await self._checked_changes()
            if changes is not None and self._watcher:  # or it was stopped
                self._restart(changes)
        except Exception:
            logger.exception("cannot restart; %s", self._stance)
        finally:  # reached only if there was no restart
            self._changed = None
            servers.resume()

    async def _checked_changes(self) -> Changes | None:
        return await self._syntax_check.wait_until_checked(lambda: self._changes, self._stance)

    async def _run_coroutine_hooks(self, changes: Changes) -> bool:
        """Await the coroutine hooks; return whether there are any.

        If the loop ends meanwhile, which cancels this task, restart at once for *changes*.
        """
        try:
            return await self._hooks.run_coroutines()
        except asyncio.CancelledError:
            pass
        if self._watcher and not is_interrupted():
            self._restart(changes)
        raise asyncio.CancelledError

    def _restart(self, changes: Changes) -> None:
        """Run the hooks and restart, with no await in between: a hook may stop the loop."""
        from .._common.source import delete_bytecode
        from .._common.spawn import RUN_INFO_VARIABLE

        if changes:
            logger.info("%s modified; restarting server", name_some(changes))
        else:
            logger.info("restarting server")
        self._changed = frozenset(changes)
        self._hooks.run_ordinary()
        started_ns = file_time()
        if self._watcher:  # more may have been saved while the hooks ran
            changes = {**changes, **self._watcher.changes()}
        delete_bytecode(changes, self._imports.bytecode_prefixes)
        _, run_info = self.run_info.next_run(
            changes, owner=os.getpid(), started_ns=started_ns, watched=list(self._watched)
        )
        try:
            sockets = self._sockets().make_inheritable() if self._has_sockets() else {}
            restarting.restart({RUN_INFO_VARIABLE: run_info, **sockets})
        except OSError as error:
            logger.error("cannot restart: %s; %s", error, self._stance)
            if self._has_sockets():
                self._sockets().take_back()

    @functools.cached_property
    def _syntax_check(self) -> SyntaxCheck:
        from .._watch.syntax_check import SyntaxCheck

        return SyntaxCheck(
            self._is_code,
            lambda path: self._watcher.transformed_source(path) if self._watcher else None,
        )

    def _is_code(self, path: str) -> bool:
        return is_source(path) and self._watcher is not None and self._watcher.is_requested(path)

    @property
    def _stance(self) -> str:
        """What the program does while it is not restarted, for messages."""
        return WAITING if self._has_failed else STILL_RUNNING

    def _has_sockets(self) -> bool:
        return "evreload._inprocess.inherited_sockets" in sys.modules  # or there are none


def _obstacle() -> str | None:
    return workers.obstacle() or restarting.obstacle()


def _current_loop() -> IOLoop:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return IOLoop.current()  # asyncio deprecates making a loop before one runs
