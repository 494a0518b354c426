"""Story one: this process watches its own files, and begins again in place.

The loop's thread, but for the first survey. It ties the other rooms together; only the front
door imports it. What only watching needs is imported with the first survey, off the caller's
thread.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING

from tornado.ioloop import IOLoop

from . import _origin, _process, _workers
from ._console import KEPT, WAITING, name_some
from ._grace import Grace
from ._hooks import Hooks, is_interrupted
from ._mailbox import Mailbox
from ._modules import Imports, is_source, other_form, source, traceback_files
from ._workers import ADVICE

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket
    from typing import Any

    from ._broken import Broken
    from ._carried import Carried
    from ._handover import Handover
    from ._hooks import Hook
    from ._settings import Settings
    from ._watching.observers import News, Observers
    from ._watching.watcher import Changes, Want, Watcher

ARMING_PATIENCE = 2.0  # seconds that a fork, or `stop`, waits for the first survey to end
MOMENT = 0.002  # seconds after which it pays to look at all the files again
MOST_WANTS = 100  # taken in before the loop gets its turn: a program imports by the hundred
LET_GO = 0.002  # seconds until the first survey begins: `start` is to return before that

CLAIMING = 1.0  # seconds the program has to bind its sockets again, once it is up

DEAF = (
    "files have changed, but no event loop runs in this program: "
    "start() needs one; `python -m evreload` does not"
)

logger = logging.getLogger("evreload")


class Reloader:
    """The one reloader of a process."""

    def __init__(self, imports: Imports, carried: Callable[[], Carried]) -> None:
        self._imports = imports
        self._carried = carried
        self._has_failed = False
        self._hooks = Hooks()
        self._changed: frozenset[str] | None = None
        self._wants: dict[str, Want] = {}
        self._asked: dict[str, None] = {}  # by `watch`, in this run or before
        self._refused = False
        self._guarded = False  # against forks, which can't be undone
        self._lock = threading.RLock()  # held in each step of the watcher's, and while forking
        self._process = _origin.PROCESS
        self._mailbox: Mailbox[News | Want] | None = None
        self._arming: threading.Thread | None = None
        self._watcher: Watcher | None = None
        self._is_up = False
        self._changes: Changes = {}
        self._considering: asyncio.Future[None] | None = None

    # The front door's requests

    def start(self, settings: Settings, *, waiting: bool = False) -> None:
        """Watch from now on, and reload on the current loop."""
        if reason := _obstacle():
            self._refuse(reason)
            return
        io_loop = _current_loop()
        if self._mailbox is None:
            self._begin(io_loop, settings)
        elif self._mailbox.is_served() and not self._mailbox.serves(io_loop):
            if not waiting:
                logger.warning("evreload started more than once in the same process")
        else:
            self._mailbox.move(io_loop)
            with self._lock:
                self._rearm()

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
            self._want(path, since)
        # The program may have failed before it asked for them, or imported them.
        for path in self.handover.changed:
            self._want(path, since, explicit=False)
        for path in self.handover.watched:
            if path not in self._asked:
                self._asked[path] = None
                self._want(path, since)
        logger.error("the program failed; %s", WAITING)
        self.wait(settings)

    @property
    def _stance(self) -> str:
        return WAITING if self._has_failed else KEPT

    @property
    def is_started(self) -> bool:
        return self._mailbox is not None

    @functools.cached_property
    def handover(self) -> Handover:
        """What the run before has told."""
        from ._handover import Handover

        return Handover.received(_origin.PROCESS, _origin.STARTED)

    @property
    def changed(self) -> frozenset[str]:
        return self.handover.changed if self._changed is None else self._changed

    def stop(self) -> None:
        """Watch no more."""
        if self._mailbox:
            self._await_arming()
            with self._lock:
                self._disarm()
                self._imports.end()
                self._mailbox = self._watcher = None

    def watch(self, path: str) -> None:
        """Watch *path*, an absolute one, and all beneath it if it is a directory."""
        if path not in self._asked:
            self._asked[path] = None
            self._want(path, time.time_ns())

    def _want(self, path: str, since: int, *, explicit: bool = True) -> None:
        from ._watching.watcher import Want

        want = Want(path, since, explicit)
        known = self._wants.get(path)
        self._wants[path] = want.together_with(known) if known else want
        if self._mailbox:
            self._mailbox.put(want)

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
        self._restart(self._stale())

    # Arming

    def _begin(self, io_loop: IOLoop, settings: Settings) -> None:
        self._is_up = False
        self._mailbox = Mailbox(io_loop, self._receive, self._nobody_hears)
        self._settings = settings
        if hasattr(os, "register_at_fork") and not self._guarded:
            self._guarded = True
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork,
                after_in_child=self._inherit,
            )
        self._arming = threading.Thread(
            target=self._arm, args=(self._mailbox, settings), name="evreload-arm", daemon=True
        )
        self._arming.start()

    def _arm(self, mailbox: Mailbox[News | Want], settings: Settings) -> None:
        """Arm everything; on a thread of its own, which owns the watcher until it is done.

        Importing watchdog and looking at thousands of files would keep the loop waiting.
        """
        time.sleep(LET_GO)
        try:
            from ._watching.watcher import Want

            self._watcher = watcher = self._make_watcher(mailbox, settings)
            for want in list(self._wants.values()):  # other threads may add some
                watcher.want(_located(want))
            for path, read in self._imports.so_far(self.handover.since):
                watcher.want(_located(Want(path, read)))
            watcher.survey()
            with self._lock:
                if self._mailbox is mailbox:
                    self._arming = None
                    mailbox.open()
                else:  # it was stopped meanwhile
                    watcher.disarm()
        except Exception:
            logger.exception("evreload could not begin to watch: nothing will be reloaded")

    def _make_watcher(self, mailbox: Mailbox[News | Want], settings: Settings) -> Watcher:
        from ._broken import Broken
        from ._watching import patterns
        from ._watching.observers import Observers
        from ._watching.watcher import Want, Watcher

        def connect() -> Observers:
            observers = Observers(
                mailbox.tell, watcher.entries, check_time=settings.check_time, poll=settings.poll
            )
            observers.start()
            return observers

        watcher = Watcher(
            connect,
            self._on_changes,
            debounce=settings.debounce,
            excused=self._is_excused,
            has_made=self._imports.has_made,
            other_form=other_form,
            ignored=patterns.by_globs(settings.ignore),
            guard=self._lock,
        )
        self._broken: Broken = Broken(lambda path: is_source(path) and watcher.is_wanted(path))
        self._imports.began = self.handover.since
        self._imports.begin(lambda path, read: mailbox.put(Want(path, read)))
        return watcher

    def _nobody_hears(self) -> bool:
        """Say that no loop runs, if it matters: news may be of no change. The seeker's thread."""
        if self._stale():
            logger.warning(DEAF)
            return True
        return False

    def _is_excused(self, path: str) -> bool:
        may_be_own = self._imports.may_have_written(path)
        if self._watcher and not may_be_own and not self._watcher.may_be_known(path):
            return False  # somebody saved or touched it
        return self.handover.excused(path, may_be_own=may_be_own)

    def _receive(self, mail: set[News | Want]) -> None:
        if self._mailbox is None:
            return
        if reason := _workers.obstacle():  # a fork has made it one
            self._refuse(reason)
            self.stop()
            return
        with self._lock:
            watching = self._take_in(mail)
        if watching:
            logger.info("watching %s", watching)

    def _take_in(self, mail: set[News | Want]) -> str:
        """Have the watcher take *mail*; return what it watches, the first time."""
        if self._watcher is None or self._mailbox is None:  # it was stopped on another thread
            return ""
        from ._watching.watcher import Want

        is_first, self._is_up = not self._is_up, True
        if is_first:
            self._imports.has_started()
            self._watcher.program_is_up()
            if self._has_carried() and not self._has_failed:
                IOLoop.current().call_later(CLAIMING, self._carried().drop_unclaimed)
        wants = [item for item in mail if isinstance(item, Want)]
        news = mail.difference(wants)
        if len(wants) > MOST_WANTS:
            for want in wants[MOST_WANTS:]:
                self._mailbox.put(want)
            del wants[MOST_WANTS:]
        elif wants:
            # A loader of its own kind may run code under another name than the module's file.
            wants += [Want(path, read) for path, read in self._imports.so_far(time.time_ns())]
        self._watcher.receive({*news, *map(_located, wants)})
        return str(self._watcher) if is_first else ""

    # Forks: threads don't survive them, and since Python 3.12 they draw a warning

    def _before_fork(self) -> None:
        """Leave no thread of ours, and no step of the loop's half done, until after the fork.

        The lock is held by the thread that forks, in the child as well.
        """
        try:
            if self._mailbox and _workers.are_being_forked():
                self._go_under_the_command()
            self._await_arming()
        finally:
            self._lock.acquire()
        self._disarm()

    def _after_fork(self) -> None:
        try:
            self._rearm()
        finally:
            self._lock.release()

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

    def _await_arming(self) -> None:
        """Wait for the first survey to end, within reason: it takes the lock for each step."""
        arming = self._arming
        if arming and arming is not threading.current_thread():
            arming.join(ARMING_PATIENCE)

    def _disarm(self) -> None:
        self._process = os.getpid()
        if self._mailbox and self._watcher:
            self._mailbox.close()
            self._watcher.disarm()

    def _rearm(self) -> None:
        is_arming = self._arming is not None and self._arming.is_alive()  # and opens it then
        if self._mailbox and not is_arming:
            self._mailbox.open()

    def _inherit(self) -> None:
        """In a child: whoever goes on to run the loop reloads, the others never do."""
        try:
            if self._mailbox:
                self._mailbox.inherit(self._process)
        finally:
            self._lock.release()

    # From a change to the restart

    def _on_changes(self, changes: Changes) -> None:
        if self._mailbox is None:  # it was stopped while they settled
            return
        self._changes = changes
        task = self._considering
        # A loop that was stopped, and replaced by another, leaves its tasks undone.
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            self._considering = asyncio.ensure_future(self._consider())

    async def _consider(self) -> None:
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
            if sound is not None and self._mailbox and not is_interrupted():
                self._restart(sound)
            raise asyncio.CancelledError
        if has_hooks or time.monotonic() - began > MOMENT:
            latest = {**self._changes, **self._stale()}  # what was saved just now has not settled
            if latest != self._changes:
                self._changes = latest
        if sound is not self._changes:
            sound = await self._broken.sound(lambda: self._changes, self._stance)
        if sound is not None and self._mailbox:  # or it was stopped
            self._restart(sound)

    def _has_carried(self) -> bool:
        return "evreload._carried" in sys.modules  # or it was never asked for

    def _stale(self) -> Changes:
        return self._watcher.stale() if self._watcher else {}

    def _restart(self, changes: Changes) -> None:
        """Run the hooks and begin again: in one step, or a hook that stops the loop ends it."""
        from ._files import file_time, forget_bytecode
        from ._handover import VARIABLE

        if changes:
            logger.info("%s modified; restarting server", name_some(changes))
        else:
            logger.info("restarting server")
        self._changed = frozenset(changes)
        self._hooks.call()
        since = file_time()
        changes = {**changes, **self._stale()}  # more may have been saved while the hooks ran
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


def _located(want: Want) -> Want:
    """Return *want* for the file on the disk: code in an archive goes by a name within it."""
    return want if want.explicit else want._replace(path=source(want.path))


def _obstacle() -> str | None:
    return _workers.obstacle() or _process.obstacle()


def _current_loop() -> IOLoop:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return IOLoop.current()  # asyncio deprecates to have a loop before one runs
