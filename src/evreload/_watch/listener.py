"""What the file watcher needs of its owner: the supervisor, or the reloader in the program.

Runs in: the supervisor and the program, on the thread that owns the watcher.
Owns: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from .._common.filestat import Fingerprint
from .._common.own_writes import OwnWrites

Changes = dict[str, Fingerprint | None]  # the changed paths, and what they have become


class WatchRequest(NamedTuple):
    """Watch *path*; if it changed at *since_ns* or later, the program may not know it.

    *since_ns* is in nanoseconds since the epoch, by the clock that stamps files. If *is_explicit*,
    the path was named by the user; if it is a directory, everything below it is watched.
    """

    path: str
    since_ns: int
    is_explicit: bool = False

    def merge(self, other: WatchRequest) -> WatchRequest:
        """Return what stands for two requests of one path."""
        since_ns = min(self.since_ns, other.since_ns)
        return WatchRequest(self.path, since_ns, self.is_explicit or other.is_explicit)


class WatchListener(Protocol):
    """Owns a file watcher, and acts on what it finds."""

    def on_changes(self, changes: Changes, /) -> None:
        """Act on *changes*, which have settled; they include those delivered before."""

    def on_watching(self) -> None:
        """Act on the first delivery of the event queue: from now on, no edit is lost."""

    def may_continue(self) -> bool:
        """Whether to go on watching in this process."""

    def new_requests(self) -> Iterable[WatchRequest]:
        """Return what else is to be watched, now that something was requested."""

    def own_writes(self) -> OwnWrites:
        """Return what the program has written itself, as far as is known by now."""

    def is_excused(self, path: str, *, may_be_own: bool) -> bool:
        """Whether not to restart for *path*, which changed while the program started.

        *may_be_own*: the program may have written it.
        """
