"""Observers for tests in which the test itself reports the events."""

from __future__ import annotations

from evreload._watch.observers import mounts
from evreload._watch.observers.observer_set import ObserverSet


class SilentObservers(ObserverSet):
    """Observers that report nothing, and note which directories they were to watch."""

    def __init__(self) -> None:
        super().__init__(lambda event: None, {}, check_time=1.0, poll=False)
        self.mounts = mounts.read()
        self.watched: set[str] = set()
        self.linked: set[str] = set()
        self.is_stopped = False

    def add_watch(self, directory: str) -> None:
        self.watched.add(directory)

    def remove_watch(self, directory: str) -> None:
        pass

    def add_file_watch(self, path: str) -> None:
        self.linked.add(path)

    def remove_file_watch(self, path: str) -> None:
        self.linked.discard(path)

    def stop(self) -> None:
        self.is_stopped = True
