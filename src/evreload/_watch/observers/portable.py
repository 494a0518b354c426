"""macOS, Windows, BSD: watchdog's public Observer on a few recursive roots, with a filter.

These systems watch whole trees at no cost. The project's tests do not run on them.

Runs in: the program (on Windows and macOS), or the supervisor (on macOS); watches are added on
the thread that owns the watcher, events are reported on watchdog's thread.
Owns: the Observer, and its roots.
"""

from __future__ import annotations

from watchdog.events import (
    EVENT_TYPE_CLOSED_NO_WRITE,
    EVENT_TYPE_MODIFIED,
    EVENT_TYPE_OPENED,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

from ..._common.unpatched import os
from .base import Entries, FileEvent, OnEvent

READS = {EVENT_TYPE_OPENED, EVENT_TYPE_CLOSED_NO_WRITE}
QUIET_TIME = 0.05  # seconds; on Windows, watchdog reports events this long after the last one


class PortableObserver(FileSystemEventHandler):
    """Watches directories; `dispatch` runs on watchdog's thread.

    Ancestors in which no name matters are not watched: a recursive root above them all would
    report the whole disk.
    """

    name = "events"

    def __init__(
        self,
        on_event: OnEvent,
        entries: Entries,
    ) -> None:
        self._on_event = on_event
        self._entries = entries
        self._observer = Observer(timeout=QUIET_TIME)
        self._roots: dict[str, ObservedWatch] = {}
        self._observer.start()

    def add_watch(self, directory: str) -> None:
        """Watch *directory*. Raises OSError if it cannot be watched."""
        os.stat(directory)
        if self._entries.get(directory) == set() or any(
            _is_below(directory, root) for root in self._roots
        ):
            return
        self._roots[directory] = self._observer.schedule(self, directory, recursive=True)
        for root in [root for root in self._roots if root != directory]:
            if _is_below(root, directory):
                self._observer.unschedule(self._roots.pop(root))

    def remove_watch(self, directory: str) -> None:
        """Leave the root as it is: it may serve other directories, and costs nothing."""

    def add_file_watch(self, path: str) -> None:
        """Do nothing: the other names of a file are not known here."""

    def remove_file_watch(self, path: str) -> None:
        """Do nothing."""

    def catch_up(self) -> bool:
        """Return False: the system delivers events when it likes to."""
        return False

    def stop(self) -> None:
        """End the observer's thread, and wait for its end."""
        self._observer.stop()
        self._observer.join()

    def dispatch(self, event: FileSystemEvent) -> None:
        """Report *event* if it may be a change of a name that matters."""
        if event.event_type in READS:
            return
        if event.is_directory and event.event_type == EVENT_TYPE_MODIFIED:
            return  # one of its entries changed, and has an event itself
        for path in {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)} - {""}:
            directory, name = os.path.split(path)
            names = self._entries.get(directory, ())
            if names is None or name in names or path in self._entries:
                self._on_event(FileEvent(path))


def _is_below(directory: str, root: str) -> bool:
    return directory == root or directory.startswith(root.rstrip(os.sep) + os.sep)
