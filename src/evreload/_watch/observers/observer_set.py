"""Chooses how each directory is watched: by events where they arrive, else by polling.

Runs in: the supervisor and the program; on the thread that owns the watcher.
Owns: the observers, and which of them watches a directory.
"""

from __future__ import annotations

import errno
import logging
import sys
from typing import TYPE_CHECKING

from ..._common.unpatched import os
from .base import EVENTS_LOST, Entries, FileEvent, Observer, OnEvent

if TYPE_CHECKING:
    from .mounts import Mounts
    from .polling import PollingObserver

logger = logging.getLogger("evreload")

REMEDIES = {
    errno.ENOSPC: (
        "the limit of inotify watches is reached",
        "raise fs.inotify.max_user_watches with sysctl",
    ),
    errno.EMFILE: (
        "the limit of inotify instances is reached",
        "raise fs.inotify.max_user_instances with sysctl, or end programs that watch files",
    ),
    errno.EACCES: ("it may not be read", "make it readable"),
}


class ObserverSet:
    """Watches directories, by events or by polling.

    *entries* may change at any time; after a change, the owner calls `add_watch` again.
    *check_time* is in seconds. With *poll*, all directories are polled. If *reports_all*, inotify
    also reports events of names that do not matter.
    """

    def __init__(
        self,
        on_event: OnEvent,
        entries: Entries,
        *,
        check_time: float,
        poll: bool,
        reports_all: bool = False,
    ) -> None:
        self._on_event = on_event
        self._entries = entries
        self._check_time = check_time
        self._poll = poll
        self._reports_all = reports_all
        self._events: Observer | None = None
        self._polling: PollingObserver | None = None
        self._explained: set[str] = set()
        self._is_stopped = False
        self.mounts: Mounts

    def start(self) -> None:
        """Prepare to watch. This imports watchdog: it takes too long for the thread of a loop."""
        from . import mounts

        self.mounts = mounts.read()
        if self._poll:
            return
        try:
            self._events = self._make_event_observer()
        except Exception as error:  # whatever it is, polling remains
            self._explain("this program's directories", *_reason(error))

    def _make_event_observer(self) -> Observer:
        if sys.platform == "linux":
            from .inotify import InotifyObserver

            return InotifyObserver(
                self._on_event, self._entries, self._on_death, reports_all=self._reports_all
            )
        from .portable import PortableObserver

        return PortableObserver(self._on_event, self._entries)

    def add_watch(self, directory: str) -> None:
        """Watch *directory*, which may have been replaced by another of that name."""
        if self._is_stopped:  # another thread forks, and stopped it in the middle of a scan
            return
        events = self._events  # its thread may die, and set it to None, at any moment
        if events is None:
            self._poll_directory(directory)
        elif kind := self.mounts.silent(directory):
            self._explain(directory, f"{kind} delivers no file events", "keep it on a local disk")
            self._poll_directory(directory)
        else:
            self._watch_by_events(events, directory)
            if file := self._entries.get(directory) != set() and self.mounts.file_in(directory):
                self._explain(file, "it is mounted by itself", "mount its directory")
                self._poll_directory(directory)

    def remove_watch(self, directory: str) -> None:
        """Watch *directory* no more."""
        for observer in (self._events, self._polling):
            if observer is not None:
                observer.remove_watch(directory)

    def add_file_watch(self, path: str) -> None:
        """Watch the file *path* itself, which has other hard links; see `Observer`."""
        events = self._events
        directory = os.path.dirname(path)
        if self._is_stopped or events is None or self.mounts.silent(os.path.realpath(directory)):
            return  # its directory is polled
        try:
            events.add_file_watch(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return  # the directory reports its removal
            self._explain(path, *_reason(error))
            self._poll_directory(os.path.realpath(directory))

    def remove_file_watch(self, path: str) -> None:
        """Watch the file *path* itself no more."""
        if self._events is not None:
            self._events.remove_file_watch(path)

    def catch_up(self) -> bool:
        """Report what has happened so far; return False if it is not certain that this is all."""
        return self._events is not None and self._polling is None and self._events.catch_up()

    def stop(self) -> None:
        """End all threads, for good."""
        self._is_stopped = True
        for observer in (self._events, self._polling):
            if observer is not None:
                observer.stop()
        self._events = self._polling = None

    def __str__(self) -> str:
        """Return how the directories are watched."""
        if self._events is None:
            return f"polling every {self._check_time:g} s"
        if not self._polling:
            return self._events.name
        return f"{self._events.name}; {len(self._polling)} of them polled"

    def _watch_by_events(self, events: Observer, directory: str) -> None:
        try:
            events.add_watch(directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._on_event(FileEvent(directory))  # removed since it was found
                return
            if self._entries.get(directory) == set():
                return  # an ancestor: only its removal or renaming goes unnoticed
            self._explain(directory, *_reason(error))
            self._poll_directory(directory)
        else:
            if self._polling is not None:
                self._polling.remove_watch(directory)

    def _poll_directory(self, directory: str) -> None:
        if self._polling is None:
            from .polling import PollingObserver

            self._polling = PollingObserver(self._on_event, self._entries, self._check_time)
        self._polling.add_watch(directory)

    def _explain(self, what: str, reason: str, remedy: str) -> None:
        """Warn once for each reason."""
        if reason not in self._explained:
            self._explained.add(reason)
            logger.warning("polling %s every %g s: %s (%s)", what, self._check_time, reason, remedy)

    def _on_death(self) -> None:
        """Poll from now on. Called by the thread of the event observer, which ends."""
        logger.error("no more file events: polling every %g s from now on", self._check_time)
        self._events = None
        self._on_event(EVENTS_LOST)


def _reason(error: Exception) -> tuple[str, str]:
    number = error.errno if isinstance(error, OSError) else None
    return REMEDIES.get(number or 0, (str(error), "nothing is lost, but it costs more"))
