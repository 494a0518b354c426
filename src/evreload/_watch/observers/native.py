"""macOS, Windows, BSD: watchdog's public Observer on few recursive roots, filtered.

Their systems watch whole trees at no cost. Not run on those systems by the project's own tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from watchdog.events import (
    EVENT_TYPE_CLOSED_NO_WRITE,
    EVENT_TYPE_MODIFIED,
    EVENT_TYPE_OPENED,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

from . import News

READS = {EVENT_TYPE_OPENED, EVENT_TYPE_CLOSED_NO_WRITE}
TIMEOUT = 0.05  # seconds; on Windows watchdog delivers after so much quiet


class Native(FileSystemEventHandler):
    """Arm and disarm directories; `dispatch` runs on watchdog's thread.

    Ancestors that hold nothing wanted are not watched here: a recursive root above them all
    would report the whole disk. *died* is never called: this Observer cannot tell.
    """

    name = "events"

    def __init__(
        self,
        tell: Callable[[News], object],
        entries: Mapping[str, set[str] | None],
        died: Callable[[], object],
    ) -> None:
        self._tell = tell
        self._entries = entries
        self._observer = Observer(timeout=TIMEOUT)
        self._roots: dict[str, ObservedWatch] = {}
        self._observer.start()

    def arm(self, directory: str) -> None:
        """Watch *directory*. Raises OSError if it can't be."""
        os.stat(directory)
        if self._entries.get(directory) == set() or any(
            _beneath(directory, root) for root in self._roots
        ):
            return
        self._roots[directory] = self._observer.schedule(self, directory, recursive=True)
        for root in [root for root in self._roots if root != directory]:
            if _beneath(root, directory):
                self._observer.unschedule(self._roots.pop(root))

    def disarm(self, directory: str) -> None:
        """Leave the root: it may serve others, and costs nothing."""

    def stop(self) -> None:
        self._observer.stop()
        self._observer.join()

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.event_type in READS:
            return
        if event.is_directory and event.event_type == EVENT_TYPE_MODIFIED:
            return  # an entry of it changed, and that has an event of its own
        for path in {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)} - {""}:
            directory, name = os.path.split(path)
            names = self._entries.get(directory, ())
            if names is None or name in names or path in self._entries:
                self._tell(News(path))


def _beneath(directory: str, root: str) -> bool:
    return directory == root or directory.startswith(root.rstrip(os.sep) + os.sep)
