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
    was removed; if it is created again, another event follows. *is_written*: it was written, not
    merely moved, nor were merely its attributes changed.
    """

    path: str
    is_unfinished: bool = False
    is_gone: bool = False
    is_written: bool = False


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

    def add_file_watch(self, path: str) -> None:
        """Watch the file *path* itself, which has other hard links. Raises OSError.

        It may be written by another of its names, in a directory that is not watched.
        """

    def remove_file_watch(self, path: str) -> None:
        """Watch the file *path* itself no more."""

    def catch_up(self) -> bool:
        """Report what has happened so far; return False if that cannot be done in a moment."""

    def stop(self) -> None:
        """End the observer's thread, and wait for its end."""
