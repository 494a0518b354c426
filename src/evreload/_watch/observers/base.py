"""What an observer is, and what it reports.

Runs in: the supervisor and the program; observers report on threads of their own.
Owns: nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol


class FileEvent(NamedTuple):
    """Something happened at *path*: to an entry of a watched directory, or to the directory itself.

    *is_unfinished*: the entry was just created, and its writer has not closed it yet. *is_gone*: it
    was removed; if it is created again, another event follows.
    """

    path: str
    is_unfinished: bool = False
    is_gone: bool = False


EVENTS_LOST = FileEvent("")  # the kernel dropped events: every path must be looked at

OnEvent = Callable[[FileEvent], object]
# For each watched directory the names that matter in it: None for all, an empty set if only what
# happens to the directory itself matters.
Entries = Mapping[str, "set[str] | None"]


class Observer(Protocol):
    """Watches directories; reports events by calling an `OnEvent` on a thread of its own."""

    name: str

    def add_watch(self, directory: str) -> None:
        """Watch *directory*, whatever has that name now. Raises OSError if it cannot be watched."""

    def remove_watch(self, directory: str) -> None:
        """Watch *directory* no more."""

    def stop(self) -> None:
        """End the observer's thread, and wait for its end."""
