"""Story one: this process watches its own files, and begins again in place.

The loop's thread. It ties the other rooms together; only the front door imports it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import time
import warnings
from typing import TYPE_CHECKING

from tornado.ioloop import IOLoop

from .._common import process as _process
from .._common import startup as _origin
from .._common.log import KEPT, WAITING, name_some
from .._program.hooks import Hooks, is_interrupted
from .._program.imports import Imports, is_source, traceback_files
from .._program.tornado_drain import Grace
from . import workers as _workers
from .lookout import Lookout
from .workers import ADVICE

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket
    from typing import Any

    from .._common.run_info import Handover
    from .._program.hooks import Hook
    from .._settings import Settings
    from .._watch.syntax_check import Broken
    from .._watch.watcher import Changes
    from .inherited_sockets import Carried

MOMENT = 0.002  # seconds after which it pays to look at all the files again
CLAIMING = 10.0  # seconds the program has to bind its sockets again, once its loop runs

logger = logging.getLogger("evreload")


class Reloader:
    """The one reloader of a process."""

    def __init__(self, imports: Imports, carried: Callable[[], Carried]) -> None:
        self._lookout = Lookout(
            imports,
            lambda: self.handover,
            changed=self._on_changes,
            is_up=self._on_up,
            may_go_on=self._may_go_on,
            forking=self._on_fork,
        )
        self._imports = imports
        self._carried = carried
        self._has_failed = False
        self._hooks = Hooks()
        self._asked: dict[str, None] = {}  # to be watched, in this run or before
        self._refused = False
        self._changed: frozenset[str] | None = None
        self._changes: Changes = {}
        self._considering: asyncio.Future[None] | None = None

    # The front door's requests

    def start(self, settings: Settings, *, waiting: bool = False) -> None:
        """Watch from now on, and reload on the current loop."""
        if reason := _obstacle():
            self._refuse(reason)
            return
        io_loop = _current_loop()
        if not self._lookout.is_on:
            self._settings = settings
            self._lookout.begin(io_loop, settings)
        elif not self._lookout.move(io_loop) and not waiting:
            logger.warning("evreload started more than once in the same process")

    def _refuse(self, reason: str) -> None:
        """Say once why nothing will be reloaded; the first of several workers says it for all.

        A child of multiprocessing that merely imports what calls `start` has nothing to say.
        """
        if _workers.is_being_prepared():
            level = logging.DEBUG
        else:
            level = logging.DEBUG if self._refused or _workers.number() else logging.WARNING
            self._refused = True
        logger.log(level, "evreload cannot restart this process: %s", reason)

    def wait(self, settings: Settings) -> None:
        """Run a loop of our own until a change, then restart."""
        io_loop = IOLoop(make_current=False)
        io_loop.add_callback(self.start, settings, waiting=True)
        io_loop.start()

    def wait_after(self, error: BaseException, settings: Settings) -> None:
        """Wait for a change of whatever *error* may have come from, then restart."""
        self._has_failed = True  # who connects waits for it to be mended
        since = self.handover.since  # it may be mended already
        for path in traceback_files(error):
            self._lookout.want(path, since)
        # The program may have failed before it asked for them, or imported them.
        for path in self.handover.changed:
            self._lookout.want(path, since, explicit=False)
        for path in self.handover.watched:
            if path not in self._asked:
                self._asked[path] = None
                self._lookout.want(path, since)
        logger.error("the program failed; %s", WAITING)
        self.wait(settings)

    @property
    def _stance(self) -> str:
        return WAITING if self._has_failed else KEPT

    @property
    def is_started(self) -> bool:
        return self._lookout.is_on

    @functools.cached_property
    def handover(self) -> Handover:
        """What the run before has told."""
        from .._common.run_info import Handover

        return Handover.received(_origin.PROCESS, _origin.STARTED)

    @property
    def changed(self) -> frozenset[str]:
        return self.handover.changed if self._changed is None else self._changed

    def stop(self) -> None:
        """Watch no more."""
        self._lookout.end()

    def watch(self, path: str) -> None:
        """Watch *path*, an absolute one, and all beneath it if it is a directory."""
        if path not in self._asked:
            self._asked[path] = None
            self._lookout.want(path, self._imports.read_at(path))

    def bind_sockets(self, port: int, *arguments: Any) -> list[socket]:
        """Bind sockets that the next run will have, too."""
        return self._carried().bind(port, *arguments)

    def add_hook(self, hook: Hook) -> None:
        self._hooks.add(hook)

    def remove_hook(self, hook: Hook) -> None:
        self._hooks.remove(hook)

    def reload(self) -> None:
        """Run the hooks and begin again, now; where that is under way, leave it at that."""
        if self._hooks.are_running:
            logger.debug("reload() was called while the reload hooks run: it changes nothing")
            return
        if reason := _obstacle():
            logger.warning("evreload cannot restart this process: %s", reason)
            return
        self._hooks.wait_outside_a_loop()
        self._restart(self._lookout.changes())
        self._changed = None  # it has failed

    # What the lookout asks

    def _on_up(self) -> None:
        if self._has_carried() and not self._has_failed:
            IOLoop.current().call_later(CLAIMING, self._carried().drop_unclaimed)

    def _may_go_on(self) -> bool:
        if reason := _workers.obstacle():  # a fork has made it one
            self._refuse(reason)
        return reason is None

    def _on_fork(self) -> None:
        if _workers.are_being_forked():
            self._go_under_the_command()

    def _go_under_the_command(self) -> None:
        """Begin again as the command: who forks workers runs no loop, and they can't restart."""
        if _origin.TARGET[0] == "-c":
            logger.warning("evreload cannot restart this process: it forks workers; %s", ADVICE)
            self.stop()
            return
        logger.info("workers are being forked: going on under `python -m evreload`")
        self._hooks.wait_outside_a_loop()
        self._hooks.call()
        try:
            _process.restart_under_command(["--until-success", *self._settings.as_arguments()])
        except OSError as error:
            logger.error("cannot restart: %s; %s", error, ADVICE)

    # From a change to the restart

    def _on_changes(self, changes: Changes) -> None:
        self._changes = changes
        task = self._considering
        # A loop that was stopped, and replaced by another, leaves its tasks undone.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            self._considering = asyncio.ensure_future(self._consider())

    async def _consider(self) -> None:
        try:
            await self._restart_if_sound()
        except Exception:
            logger.exception("cannot restart; %s", self._stance)

    async def _restart_if_sound(self) -> None:
        """Restart for the changes, and for those that come meanwhile, unless they are broken."""
        sound = await self._broken.sound(lambda: self._changes, self._stance)
        if sound is None:
            return
        self._changed = frozenset(sound)
        servers = Grace()
        try:
            await self._restart_unless_broken(sound, servers)
        finally:  # it comes to that if there was none
            self._changed = None
            servers.resume()

    async def _restart_unless_broken(self, sound: Changes | None, servers: Grace) -> None:
        """Restart for *sound* changes, and for those that come while the restart is prepared."""
        began = time.monotonic()
        await servers.finish(self._settings.grace)
        try:
            has_hooks = await self._hooks.wait()
        except asyncio.CancelledError:
            has_hooks = None
        if has_hooks is None:  # the loop is ending: this is the last that is done on it
            if sound is not None and self._lookout.is_on and not is_interrupted():
                self._restart(sound)
            raise asyncio.CancelledError
        if has_hooks or time.monotonic() - began > MOMENT:
            latest = {**self._changes, **self._lookout.changes()}  # which have not settled
            if latest != self._changes:
                self._changes = latest
        if sound is not self._changes:
            sound = await self._broken.sound(lambda: self._changes, self._stance)
        if sound is not None and self._lookout.is_on:  # or it was stopped
            self._restart(sound)

    @functools.cached_property
    def _broken(self) -> Broken:
        from .._watch.syntax_check import Broken

        return Broken(lambda path: is_source(path) and self._lookout.is_wanted(path))

    def _has_carried(self) -> bool:
        return "evreload._inprocess.inherited_sockets" in sys.modules  # or it was never asked for

    def _restart(self, changes: Changes) -> None:
        """Run the hooks and begin again: in one step, or a hook that stops the loop ends it."""
        from .._common.filestat import file_time, forget_bytecode
        from .._common.run_info import VARIABLE

        if changes:
            logger.info("%s modified; restarting server", name_some(changes))
        else:
            logger.info("restarting server")
        self._changed = frozenset(changes)
        self._hooks.call()
        since = file_time()
        # More may have been saved while the hooks ran.
        changes = {**changes, **self._lookout.changes()}
        forget_bytecode(changes)
        told = self.handover.pass_on(
            changes, owner=os.getpid(), since=since, watched=list(self._asked)
        )
        try:
            sockets = self._carried().hand_over() if self._has_carried() else {}
            _process.restart({VARIABLE: told, **sockets})
        except OSError as error:
            logger.error("cannot restart: %s; %s", error, self._stance)
            if self._has_carried():
                self._carried().take_back()


def _obstacle() -> str | None:
    return _workers.obstacle() or _process.obstacle()


def _current_loop() -> IOLoop:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return IOLoop.current()  # asyncio deprecates to have a loop before one runs
