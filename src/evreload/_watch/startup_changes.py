"""Whether what seems to have changed is news to the program.

The owner's thread. What changed before it was watched, or as the program started, the program
may have read as it is, or have written itself, and would only write it again.
"""

from __future__ import annotations

from collections.abc import Callable

from .._common.filestat import Fingerprint, Status, file_time
from .._common.own_writes import Author


class Suspects:
    """Files of which it is not certain that they are news.

    *author* returns what is known of the program's own writing. *excused* decides, and is told
    whether the change may be the program's own.
    """

    def __init__(self, author: Callable[[], Author], excused: Callable[[str, bool], bool]) -> None:
        self._author = author
        self._excused = excused
        self._seen: dict[str, Fingerprint | None] = {}  # before they were watched, as seen then
        self._unsettled: set[str] = set()  # when the program was up
        self._up: int | None = None  # when that was; nanoseconds since the epoch
        self.began = file_time()  # when the run did

    def begin_run(self) -> None:
        """Begin anew, with a run that has read everything as it is now."""
        self._seen.clear()
        self._unsettled.clear()
        self._up = None
        self.began = file_time()

    def add(self, path: str, now: Fingerprint | None) -> None:
        """Suspect *path*: it may have become what it is *now* before it was watched."""
        self._seen[path] = now

    def program_is_up(self, at: int | None, unsettled: set[str]) -> None:
        """Suspect nothing that changes from now on, or *at* some time, but what is *unsettled*."""
        if self._up is None:
            self._up = file_time() if at is None else at
            self._unsettled = unsettled

    def have_settled(self) -> None:
        """Suspect no more what was unsettled: it has been judged."""
        self._unsettled.clear()

    def is_made(self, path: str, here: Status) -> bool:
        """Whether the program has itself made *path* as it is, and runs it."""
        return self._author().has_made(path, here.ctime_ns)

    def is_excused(self, path: str, here: Status | None) -> bool:
        """Whether to do nothing about *path*, since it is no news after all."""
        if not self._is_early(path, here):
            return False
        may_be_own = self._author().may_have_written(path)
        # What was seen to change, and is somebody else's, the program has not read as it is.
        return (may_be_own or path in self._seen) and self._excused(path, may_be_own)

    def _is_early(self, path: str, here: Status | None) -> bool:
        if here is None:
            return path in self._unsettled
        if self._seen.get(path) == here.fingerprint:
            return True
        # Told late, that is. What is older was moved here, or linked to, who knows when.
        return self.began <= here.ctime_ns and (self._up is None or here.ctime_ns < self._up)
