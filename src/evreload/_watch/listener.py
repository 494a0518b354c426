"""What the file watcher needs of its owner: the supervisor, or the reloader in the program.

Runs in: the supervisor and the program, on the thread that owns the watcher.
Owns: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from .._common.filestat import Fingerprint
from .._common.own_writes import OwnWrites
from .._common.run_info import RunInfo

Changes = dict[str, Fingerprint | None]  # the changed paths, and what they have become


class WatchRequest(NamedTuple):
    """A request to watch *path*. The program may not know a change made at *since_ns* or later.

    *since_ns* is in nanoseconds since the epoch, by the clock that stamps files. *is_explicit*: the
    user named the path; if it is a directory, everything below it is watched. *is_plain*: as far as
    is known, the program compiles the file as it is, if at all.
    """

    path: str
    since_ns: int
    is_explicit: bool = False
    is_plain: bool = True

    def merge(self, other: WatchRequest) -> WatchRequest:
        """Return one request for this one and *other*, which have the same path."""
        since_ns = min(self.since_ns, other.since_ns)
        return WatchRequest(
            self.path,
            since_ns,
            self.is_explicit or other.is_explicit,
            self.is_plain and other.is_plain,
        )


class WatchListener(Protocol):
    """Owns a file watcher, and acts on what it finds."""

    def on_changes(self, changes: Changes, /) -> None:
        """Act on *changes*, which have settled; they include the earlier ones of this run."""

    def on_watching(self) -> None:
        """Act on the beginning of deliveries: the loop runs. Called once, before the first one."""

    def may_continue(self) -> bool:
        """Whether to go on watching in this process; if not, the watcher stops."""

    def new_requests(self) -> Iterable[WatchRequest]:
        """Return further requests; called when the event queue delivers requests."""

    def own_writes(self) -> OwnWrites:
        """Return what the program has written itself, as far as is known by now."""

    @property
    def run_info(self) -> RunInfo:
        """What the previous run passed to the present one."""
        ...
