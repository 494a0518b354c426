"""Linux: watches exactly the directories that matter, with one descriptor and one thread.

watchdog's own Observer starts a thread for each directory. Its `InotifyFD`, with a callback for
each directory, needs only one. The callbacks run on its thread; if one raises, the thread ends:
https://github.com/gorakhargosh/watchdog/blob/v7.1.0/src/watchdog/observers/inotify_c.py

Runs in: the supervisor and the program; watches are added on the thread that owns the watcher,
events are reported on the thread of the descriptor.
Owns: the inotify descriptor, and its watches.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from typing import Any

from watchdog.observers.inotify_c import InotifyConstants as IN
from watchdog.observers.inotify_c import (
    InotifyEvent,
    InotifyFD,
    inotify_add_watch,
    inotify_rm_watch,
)

from ..._common.unpatched import os
from .base import EVENTS_LOST, Entries, FileEvent, OnEvent

# After one of these events, the watch is no longer that of the directory of this name.
WATCH_LOST = IN.IN_DELETE_SELF | IN.IN_MOVE_SELF | IN.IN_UNMOUNT
# Two names may lead to one directory (a bind mount), which has one watch: MASK_ADD keeps the mask
# of the first name. The deletion of an entry is needed if the entry is a watched directory: while
# any process, such as a shell, has a removed directory open, its own watch reports nothing.
ITSELF = IN.IN_DELETE | IN.IN_DELETE_SELF | IN.IN_MOVE_SELF | IN.IN_ONLYDIR | IN.IN_MASK_ADD
# No opens and no reads, or each import would be an event; no writes, since a file that is being
# written is not complete. Attributes, for `touch`.
CONTENTS = ITSELF | IN.IN_CLOSE_WRITE | IN.IN_CREATE | IN.IN_MOVE | IN.IN_ATTRIB
# Of a file that has other hard links: the directory of this name gets no events of the others.
FILE = IN.IN_CLOSE_WRITE | IN.IN_ATTRIB | IN.IN_MASK_ADD
# A watch that ends at once: its end is reported after all events so far. The watch must not become
# one with another watch of the same file; watchdog has no name for this flag. See inotify(7).
IN_MASK_CREATE = 1 << 28
MARK = IN.IN_DELETE_SELF | IN_MASK_CREATE
CATCH_UP_TIME = 0.1  # seconds to wait for the end of that watch
GONE = IN.IN_DELETE | IN.IN_MOVED_FROM

logger = logging.getLogger("evreload")


class InotifyObserver:
    """Watches directories, and calls *on_event* on a thread of its own.

    *on_death* is called on that thread if it ends unexpectedly. Raises OSError if the limit of
    inotify instances is reached, or if this version of watchdog is not a known one.
    """

    name = "inotify"

    def __init__(
        self,
        on_event: OnEvent,
        entries: Entries,
        on_death: Callable[[], object],
        *,
        reports_all: bool = False,
    ) -> None:
        self._reports_all = reports_all
        self._on_event = on_event
        self._entries = entries
        self._watches: dict[str, _DirectoryWatch] = {}
        self._file_watches: dict[str, _FileWatch] = {}
        self._thread = _InotifyThread(on_death)
        self._thread.start()

    def add_watch(self, directory: str) -> None:
        """Watch *directory*, whatever has that name now. Raises OSError if it cannot be watched."""
        status = os.stat(directory)
        identity = status.st_dev, status.st_ino
        contents = self._entries.get(directory) != set()
        old = self._watches.get(directory)
        if old and old.covers(identity, contents):
            return
        new = _DirectoryWatch(directory, identity, contents, self._on_event, self._matters)
        self._add(directory, CONTENTS if contents else ITSELF, new)
        self._watches[directory] = new
        if old:
            self._remove(old)

    def remove_watch(self, directory: str) -> None:
        """Watch *directory* no more."""
        if old := self._watches.pop(directory, None):
            self._remove(old)

    def add_file_watch(self, path: str) -> None:
        """Watch the file *path* itself, whatever has that name now. Raises OSError."""
        status = os.stat(path)
        identity = status.st_dev, status.st_ino
        old = self._file_watches.get(path)
        if old and old.live and old.identity == identity:
            return
        new = _FileWatch(path, identity, self._on_event)
        self._add(path, FILE, new)
        self._file_watches[path] = new
        if old:
            self._remove(old)

    def remove_file_watch(self, path: str) -> None:
        """Watch the file *path* itself no more."""
        if old := self._file_watches.pop(path, None):
            self._remove(old)

    def catch_up(self) -> bool:
        """Wait until all events so far are reported; return False if that takes too long."""
        return self._thread.catch_up()

    def stop(self) -> None:
        """Close the descriptor and wait for the thread: neither may be left before a fork."""
        for watch in self._watches.values():
            watch.live = False  # so that the end of the watch is not reported
        self._thread.stop()
        self._thread.join()

    def _matters(self, directory: str, name: str, event: InotifyEvent) -> bool:
        names = self._entries.get(directory, ())
        if names is None or name in names or self._reports_all:
            return True
        return event.is_delete and os.path.join(directory, name) in self._entries

    def _add(self, path: str, mask: Any, watch: _DirectoryWatch | _FileWatch) -> None:
        watch.wd = self._thread.add_callback(os.fsencode(path), mask, watch, _key(watch))
        if watch.wd == -1:  # watchdog returns this for EACCES
            self._remove(watch)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def _remove(self, watch: _DirectoryWatch | _FileWatch) -> None:
        watch.live = False
        self._thread.remove_callbacks([(watch.wd, _key(watch))])


class _DirectoryWatch:
    """watchdog's WatchCallback for one directory. Must neither block nor raise."""

    def __init__(
        self,
        directory: str,
        identity: tuple[int, int],
        contents: bool,
        on_event: OnEvent,
        matters: Callable[[str, str, InotifyEvent], bool],
    ) -> None:
        self.wd: Any = -1
        self.live = True
        self._directory = directory
        self._identity = identity
        self._contents = contents
        self._report = on_event
        self._matters = matters

    def covers(self, identity: tuple[int, int], contents: bool) -> bool:
        return self.live and self._identity == identity and self._contents >= contents

    def on_event(self, event: InotifyEvent) -> None:
        if not self.live:
            return
        if not event.name:
            if event.mask & WATCH_LOST:
                self._report(FileEvent(self._directory))
            return
        name = os.fsdecode(event.name)
        if self._matters(self._directory, name, event):
            created = event.is_create and not event.is_directory
            gone = bool(event.mask & GONE)
            path = os.path.join(self._directory, name)
            self._report(FileEvent(path, created, gone, event.is_close_write))

    def on_watch_deleted(self, wd: object) -> None:
        if self.live:
            self.live = False
            self._report(FileEvent(self._directory))

    def on_queue_overflow(self) -> None:
        if self.live:
            self._report(EVENTS_LOST)


class _FileWatch:
    """watchdog's WatchCallback for one file. Must neither block nor raise.

    What happens to the name of the file is reported by the watch of its directory.
    """

    def __init__(self, path: str, identity: tuple[int, int], on_event: OnEvent) -> None:
        self.wd: Any = -1
        self.live = True
        self.identity = identity
        self._path = path
        self._report = on_event

    def on_event(self, event: InotifyEvent) -> None:
        if self.live:
            self._report(FileEvent(self._path, is_written=event.is_close_write))

    def on_watch_deleted(self, wd: object) -> None:
        self.live = False

    def on_queue_overflow(self) -> None:
        """Do nothing: the directories report it."""


class _InotifyThread(InotifyFD):
    """watchdog's thread; it calls *on_death* if it fails, and an exec closes its descriptor."""

    def __init__(self, on_death: Callable[[], object]) -> None:
        super().__init__()
        self._on_death = on_death
        try:
            # watchdog leaves it inheritable: each exec would use up one of a user's 128 instances.
            os.set_inheritable(self._inotify_fd, False)
        except AttributeError:
            raise OSError(errno.ENOSYS, "an unknown version of watchdog") from None
        self.name = "evreload-inotify"
        self._marks: dict[int, threading.Event] = {}

    def catch_up(self) -> bool:
        """Wait until all events so far are handled; return False if that takes too long."""
        descriptor = self._inotify_fd
        with self._lock:  # so that the end of the watch is not handled before it is in `_marks`
            if self._closed:
                return False
            mark: Any = inotify_add_watch(descriptor, os.fsencode(os.devnull), MARK)
            if mark == -1:  # such as by the user's limit, or an old kernel
                return False
            self._marks[mark] = reached = threading.Event()
            inotify_rm_watch(descriptor, mark)
        return reached.wait(CATCH_UP_TIME)

    def handle_event(self, event: InotifyEvent) -> None:
        if self._marks and event.is_ignored:
            with self._lock:
                reached = self._marks.pop(event.wd, None)
            if reached:
                reached.set()
                return
        super().handle_event(event)

    def run(self) -> None:
        try:
            super().run()
        except BaseException:  # whatever it is: on this thread, nothing would handle it
            logger.exception("the thread that reads file events has failed")
        if self.should_keep_running():
            self._on_death()

    def read_events(self, **options: Any) -> list[InotifyEvent]:
        events = super().read_events(**options)
        if not events and self.should_keep_running():
            os.fstat(self._inotify_fd)  # raises if the program has closed it; watchdog would spin
        return events


def _key(watch: _DirectoryWatch | _FileWatch) -> Any:
    return id(watch)
