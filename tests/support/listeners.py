"""The owner of a watcher, as far as the classes below `FileWatcher` need it."""

from __future__ import annotations

from collections.abc import Iterable

from evreload._common.own_writes import OwnWrites
from evreload._watch.listener import WatchRequest


class PartialListener:
    """Answers what the program has written; only `FileWatcher` itself calls the other methods."""

    def __init__(self) -> None:
        self.writes = OwnWrites()

    def on_watching(self) -> None:
        raise NotImplementedError

    def may_continue(self) -> bool:
        raise NotImplementedError

    def new_requests(self) -> Iterable[WatchRequest]:
        raise NotImplementedError

    def own_writes(self) -> OwnWrites:
        return self.writes
