"""What this process looks out for itself: the watcher, and all that tells it something.

Armed on a thread of its own, then the loop's; laid down while a process is forked, on whatever
thread forks. What only watching needs is imported when it is armed, off the caller's thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from .._program.imports import Imports, other_form, source
from .._watch.event_queue import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.ioloop import IOLoop

    from .._common.run_info import Handover
    from .._settings import Settings
    from .._watch.observers import News, Observers
    from .._watch.watcher import Changes, Want, Watcher

ARMING_PATIENCE = 2.0  # seconds that a fork, or `end`, waits for the first survey to end
MOST_WANTS = 100  # taken in before the loop gets its turn: a program imports by the hundred
LET_GO = 0.002  # seconds until the first survey begins: `start` is to return before that

DEAF = (
    "files have changed, but no event loop runs in this program yet: "
    "start() needs one; `python -m evreload` does not"
)

logger = logging.getLogger("evreload")


class Lookout:
    """Tells of what changes, from `begin` to `end`.

    All that is called is called on the loop, but for *forking*, which is before a fork. *changed*
    gets what changed. *is_up* is called once the loop turns. Before anything is taken in,
    *may_go_on* is asked.
    """

    def __init__(
        self,
        imports: Imports,
        handover: Callable[[], Handover],
        *,
        changed: Callable[[Changes], object],
        is_up: Callable[[], object],
        may_go_on: Callable[[], bool],
        forking: Callable[[], object],
    ) -> None:
        self._imports = imports
        self._handover = handover
        self._changed = changed
        self._is_up = is_up
        self._may_go_on = may_go_on
        self._forking = forking
        self._wants: dict[str, Want] = {}
        self._guarded = False  # against forks, which can't be undone
        self._lock = threading.RLock()  # held in each step of the watcher's, and while forking
        self._process = os.getpid()
        self._mailbox: Mailbox[News | Want] | None = None
        self._arming: threading.Thread | None = None
        self._watcher: Watcher | None = None
        self._has_begun = False  # to take in what comes

    @property
    def is_on(self) -> bool:
        return self._mailbox is not None

    def begin(self, io_loop: IOLoop, settings: Settings) -> None:
        """Look out from now on, and tell on *io_loop*."""
        self._has_begun = False
        self._mailbox = Mailbox(io_loop, self._receive, self._nobody_hears)
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

    def move(self, io_loop: IOLoop) -> bool:
        """Tell on *io_loop* from now on; return False if another one runs."""
        assert self._mailbox
        if self._mailbox.is_served() and not self._mailbox.serves(io_loop):
            return False
        self._mailbox.move(io_loop)
        with self._lock:
            self._rearm()
        return True

    def end(self) -> None:
        """Look out no more; what was wanted is remembered."""
        if self._mailbox:
            self._await_arming()
            with self._lock:
                self._disarm()
                self._imports.end()
                self._mailbox = self._watcher = None

    def want(self, path: str, since: int, *, explicit: bool = True) -> None:
        """Look out for *path*, too; see `Want`. Any thread."""
        from .._watch.watcher import Want

        want = Want(path, since, explicit)
        known = self._wants.get(path)
        self._wants[path] = want.together_with(known) if known else want
        if self._mailbox:
            self._mailbox.put(want)

    def is_wanted(self, path: str) -> bool:
        """Whether *path* is wanted by its name, and does not just lie in a tree."""
        return self._watcher is not None and self._watcher.is_wanted(path)

    def changes(self) -> Changes:
        """Look at every file, now; return what has changed since the program read it."""
        return self._watcher.changes() if self._watcher else {}

    # Arming

    def _arm(self, mailbox: Mailbox[News | Want], settings: Settings) -> None:
        """Arm everything; on a thread of its own, which owns the watcher until it is done.

        Importing watchdog and looking at thousands of files would keep the loop waiting.
        """
        time.sleep(LET_GO)
        try:
            from .._watch.watcher import Want

            self._watcher = watcher = self._make_watcher(mailbox, settings)
            for want in list(self._wants.values()):  # other threads may add some
                watcher.want(_located(want))
            for path, read in self._imports.so_far(self._handover().since):
                watcher.want(_located(Want(path, read)))
            watcher.survey()
            with self._lock:
                if self._mailbox is mailbox:
                    self._arming = None
                    mailbox.open()
                else:  # it was ended meanwhile
                    watcher.disarm()
        except Exception:
            logger.exception("evreload could not begin to watch: nothing will be reloaded")

    def _make_watcher(self, mailbox: Mailbox[News | Want], settings: Settings) -> Watcher:
        from .._watch import ignore as patterns
        from .._watch.observers import Observers
        from .._watch.watcher import Want, Watcher

        def connect() -> Observers:
            observers = Observers(
                mailbox.tell, watcher.entries, check_time=settings.check_time, poll=settings.poll
            )
            observers.start()
            return observers

        watcher = Watcher(
            connect,
            self._tell,
            debounce=settings.debounce,
            author=lambda: self._imports.author,
            excused=lambda path, may_be_own: self._handover().excused(path, may_be_own=may_be_own),
            other_form=other_form,
            ignored=patterns.by_globs(settings.ignore),
            guard=self._lock,
        )
        self._imports.began = self._handover().since
        self._imports.begin(lambda path, read: mailbox.put(Want(path, read)))
        return watcher

    # What comes in, and goes out

    def _receive(self, mail: set[News | Want]) -> None:
        if self._mailbox is None:
            return
        if not self._may_go_on():
            self.end()
            return
        with self._lock:
            watching = self._take_in(mail)
        if watching:
            self._is_up()
            logger.info("watching %s", watching)

    def _take_in(self, mail: set[News | Want]) -> str:
        """Have the watcher take *mail*; return what it watches, the first time."""
        if self._watcher is None or self._mailbox is None:  # it was ended on another thread
            return ""
        from .._watch.watcher import Want

        is_first, self._has_begun = not self._has_begun, True
        if is_first:
            self._imports.has_started()
            self._watcher.program_is_up()
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

    def _nobody_hears(self) -> bool:
        """Say that no loop runs, if it matters: news may be of no change. The seeker's thread."""
        if self.changes():
            logger.warning(DEAF)
            return True
        return False

    def _tell(self, changes: Changes) -> None:
        if self._mailbox:  # or it was ended while they settled
            self._changed(changes)

    # Forks: threads don't survive them, and since Python 3.12 they draw a warning

    def _before_fork(self) -> None:
        """Leave no thread of ours, and no step of the loop's half done, until after the fork.

        The lock is held by the thread that forks, in the child as well.
        """
        try:
            if self._mailbox:
                self._forking()
            self._await_arming()
        finally:
            self._lock.acquire()
        self._disarm()

    def _after_fork(self) -> None:
        try:
            self._rearm()
        finally:
            self._lock.release()

    def _inherit(self) -> None:
        """In a child: whoever goes on to run the loop reloads, the others never do."""
        try:
            if self._mailbox:
                self._mailbox.inherit(self._process)
        finally:
            self._lock.release()

    def _await_arming(self) -> None:
        """Wait for the first survey to end, within reason: it takes the lock for each step."""
        arming = self._arming
        if arming and arming is not threading.current_thread():
            arming.join(ARMING_PATIENCE)

    def _disarm(self) -> None:
        self._process = os.getpid()
        if self._mailbox and self._watcher:
            self._watcher.disarm()  # first: its observers may make the mailbox seek a loop
            self._mailbox.close()

    def _rearm(self) -> None:
        is_arming = self._arming is not None and self._arming.is_alive()  # and opens it then
        if self._mailbox and not is_arming:
            self._mailbox.open()


def _located(want: Want) -> Want:
    """Return *want* for the file on the disk: code in an archive goes by a name within it."""
    return want if want.explicit else want._replace(path=source(want.path))
