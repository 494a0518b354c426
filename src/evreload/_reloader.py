"""Story one: this process watches its own files, and begins again in place.

The loop's thread, but for the first survey. It ties the other rooms together; none imports it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tornado.ioloop import IOLoop

from . import _patterns, _process
from ._files import compile_error, forget_bytecode
from ._handover import VARIABLE, Handover
from ._mailbox import Mailbox
from ._modules import Imports, traceback_files
from ._observers import News, Observers
from ._watcher import Changes, Want, Watcher

HOOK_TIMEOUT = 5.0  # seconds a coroutine hook may take
FORK_PATIENCE = 2.0  # seconds a fork waits for the first survey to end
MOST_NAMED = 3  # changed files in one line of the log

Hook = Callable[[], object]

logger = logging.getLogger("evreload")


class Settings(NamedTuple):
    """How to watch; all times in seconds."""

    check_time: float
    debounce: float
    poll: bool
    ignore: tuple[str, ...]


class Reloader:
    """The one reloader of a process."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports
        self.handover = Handover.received(os.getpid(), _process.started())
        self.changed: frozenset[str] = self.handover.changed
        self._hooks: list[Hook] = []
        self._wants: list[Want] = []
        self._guarded = False  # against forks, which can't be undone
        self._watcher: Watcher | None = None
        self._mailbox: Mailbox[News | Want] | None = None
        self._arming: threading.Thread | None = None
        self._changes: Changes = {}
        self._considering: asyncio.Future[None] | None = None
        self._told: Changes = {}

    # The front door's requests

    def start(self, settings: Settings, *, waiting: bool = False) -> None:
        """Watch from now on, and reload on the current loop."""
        if reason := self._obstacle():
            logger.warning("evreload cannot restart this process: %s", reason)
            return
        io_loop = _current_loop()
        if self._mailbox is None:
            self._begin(io_loop, settings)
        elif not self._mailbox.serves(io_loop):
            if not waiting:
                logger.warning("evreload started more than once in the same process")
            self._mailbox.open(io_loop)

    def wait(self, settings: Settings) -> None:
        """Run a loop of our own until a change, then restart."""
        io_loop = IOLoop(make_current=False)
        io_loop.add_callback(self.start, settings, waiting=True)
        io_loop.start()

    def wait_after(self, error: BaseException, settings: Settings) -> None:
        """Wait for a change of whatever *error* may have come from, then restart."""
        for path in traceback_files(error):
            self.watch(path)
        logger.error("the program failed; waiting for a change")
        self.wait(settings)

    @property
    def is_started(self) -> bool:
        return self._mailbox is not None

    def stop(self) -> None:
        """Watch no more."""
        if self._mailbox is None or self._watcher is None:
            return
        self._disarm()
        self._imports.end()
        self._mailbox = self._watcher = None

    def watch(self, path: str) -> None:
        """Watch *path*, an absolute one, and all beneath it if it is a directory."""
        want = Want(path, time.time_ns(), explicit=True)
        self._wants.append(want)
        if self._mailbox:
            self._mailbox.put(want)

    def add_hook(self, hook: Hook) -> None:
        self._hooks.append(hook)

    def remove_hook(self, hook: Hook) -> None:
        self._hooks.remove(hook)

    def reload(self) -> None:
        """Run the hooks and begin again, now."""
        changes = self._watcher.stale() if self._watcher else {}
        asynchronous = [hook for hook in self._hooks if _is_coroutine(hook)]
        if asynchronous:
            self._run_outside_loop(asynchronous)
        self._restart(changes)

    # Arming

    def _obstacle(self) -> str | None:
        process = sys.modules.get("tornado.process")
        if process and process.task_id() is not None:
            return (
                "it is one worker of several; start the program with `python -m evreload`, "
                "which replaces them all"
            )
        return _process.obstacle()

    def _begin(self, io_loop: IOLoop, settings: Settings) -> None:
        globs = _patterns.by_globs(settings.ignore)
        self._watcher = watcher = Watcher(
            lambda: self._connect(watcher, settings),
            self._on_changes,
            debounce=settings.debounce,
            excused=self._is_excused,
            ignored=lambda path: _patterns.by_default(path) or globs(path),
        )
        self._mailbox = Mailbox(io_loop, self._receive)
        if hasattr(os, "register_at_fork") and not self._guarded:
            self._guarded = True
            os.register_at_fork(
                before=self._disarm, after_in_parent=self._rearm, after_in_child=self._inherit
            )
        self._imports.begin(self._note)
        self._arming = threading.Thread(target=self._arm, name="evreload-arm", daemon=True)
        self._arming.start()

    def _arm(self) -> None:
        """Arm everything; on a thread of its own, which owns the watcher until it is done.

        Importing watchdog and looking at thousands of files would keep the loop waiting.
        """
        assert self._watcher
        assert self._mailbox
        try:
            for want in self._wants:
                self._watcher.want(want)
            for path, read in self._imports.so_far(self.handover.since):
                self._watcher.want(Want(path, read))
            self._watcher.survey()
            logger.info("watching %s", self._watcher)
            self._mailbox.open()
        except Exception:
            logger.exception("evreload could not begin to watch: nothing will be reloaded")

    def _is_excused(self, path: str) -> bool:
        may_be_own = self._imports.may_have_written(path)
        return self.handover.excused(path, may_be_own=may_be_own)

    def _connect(self, watcher: Watcher, settings: Settings) -> Observers:
        assert self._mailbox
        observers = Observers(
            self._mailbox.tell,
            watcher.entries,
            check_time=settings.check_time,
            poll=settings.poll,
        )
        observers.start()
        return observers

    def _note(self, path: str, read: int) -> None:
        if self._mailbox:
            self._mailbox.put(Want(path, read))

    def _receive(self, mail: set[News | Want]) -> None:
        if self._watcher is None:
            return
        self._imports.has_started()
        if any(isinstance(item, Want) for item in mail):
            # A loader of its own kind may run code under another name than the module's file.
            for path, read in self._imports.so_far(time.time_ns()):
                self._watcher.want(Want(path, read))
        self._watcher.receive(mail)

    # Forks: threads don't survive them, and since Python 3.12 they draw a warning

    def _disarm(self) -> None:
        if self._arming and self._arming is not threading.current_thread():
            self._arming.join(FORK_PATIENCE)
        if self._mailbox and self._watcher:
            self._mailbox.close()
            self._watcher.disarm()

    def _rearm(self) -> None:
        if self._mailbox:
            self._mailbox.open()

    def _inherit(self) -> None:
        """In a child: whoever goes on to run the loop reloads, the others never do."""
        if self._mailbox:
            self._mailbox.inherit()

    # From a change to the restart

    def _on_changes(self, changes: Changes) -> None:
        self._changes = changes
        if self._considering is None or self._considering.done():
            self._considering = asyncio.ensure_future(self._consider())

    async def _consider(self) -> None:
        """Restart for the changes, and for those that come meanwhile, unless they are broken."""
        if await self._is_broken(self._changes):
            return
        considered = self._changes
        await self._await_hooks()
        while considered is not self._changes:
            considered = self._changes
            if await self._is_broken(considered):
                return
        self._restart(considered)

    async def _is_broken(self, changes: Changes) -> bool:
        errors = []
        for path, fingerprint in changes.items():
            if fingerprint and (error := compile_error(path)):
                errors.append((path, error))
            await asyncio.sleep(0)  # one file at a time: the old program goes on serving
        for path, error in errors:
            if self._told.get(path) != changes[path]:
                logger.error("%s; still running the previous version", describe(path, error))
        self._told = {path: changes[path] for path, _ in errors}
        return bool(errors)

    async def _await_hooks(self) -> None:
        for hook in [hook for hook in self._hooks if _is_coroutine(hook)]:
            try:
                await asyncio.wait_for(hook(), HOOK_TIMEOUT)  # type: ignore[arg-type]
            except TimeoutError:
                logger.error("reload hook %s took over %g s", _name(hook), HOOK_TIMEOUT)
            except Exception:
                logger.exception("reload hook %s failed", _name(hook))

    def _run_outside_loop(self, hooks: Iterable[Hook]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self._await_hooks())
            return
        for hook in hooks:
            logger.warning("reload() was called on the loop: %s is not awaited", _name(hook))

    def _restart(self, changes: Changes) -> None:
        """Run the hooks and begin again: in one step, or a hook that stops the loop ends it."""
        if changes:
            logger.info("%s modified; restarting server", name_some(changes))
        else:
            logger.info("restarting server")
        self.changed = frozenset(changes)
        for hook in [hook for hook in self._hooks if not _is_coroutine(hook)]:
            try:
                hook()
            except Exception:
                logger.exception("reload hook %s failed", _name(hook))
        if self._watcher:  # more may have been saved while the hooks ran
            changes = {**changes, **self._watcher.stale()}
        forget_bytecode(changes)
        told = self.handover.pass_on(changes, owner=os.getpid(), since=time.time_ns())
        try:
            _process.restart({VARIABLE: told})
        except OSError as error:
            logger.error("cannot restart: %s; still running the previous version", error)


def describe(path: str, error: SyntaxError | ValueError) -> str:
    """Say in one line what keeps *path* from compiling."""
    line = getattr(error, "lineno", None)
    place = f"{path}:{line}" if line else path
    return f"{place}: {type(error).__name__}: {getattr(error, 'msg', None) or error}"


def name_some(paths: Iterable[str]) -> str:
    """Name a few of *paths*, and count the others."""
    names = sorted(paths)
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"


def _current_loop() -> IOLoop:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return IOLoop.current()  # asyncio deprecates to have a loop before one runs


def _is_coroutine(hook: Hook) -> bool:
    call = getattr(hook, "__call__", None)  # noqa: B004  # an object with `async def __call__`
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(call)


def _name(hook: Hook) -> str:
    return getattr(hook, "__qualname__", None) or repr(hook)
