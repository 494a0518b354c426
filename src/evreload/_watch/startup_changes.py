"""Whether a change made while the program started is one that it does not know.

What changed before it was watched, or while the program started, the program may have read as it
is now; or it may have written it itself, and would only write it again after a restart.

Runs in: the supervisor and the program, on the thread that owns the watcher.
Owns: since when the run counts as started, and what was in doubt then.
"""

from __future__ import annotations

from .._common.filestat import Fingerprint, Status, file_time
from .listener import WatchListener


class StartupChanges:
    """Files of which it is in doubt whether the program knows their content."""

    def __init__(self, listener: WatchListener) -> None:
        self._listener = listener
        self._seen: dict[str, Fingerprint | None] = {}  # what was found when the watch was added
        self._unsettled: set[str] = set()  # changed, but not delivered, when the program was up
        self._up_ns: int | None = None  # since when the program is up; nanoseconds since the epoch
        self.began_ns = file_time()  # when the run began

    def begin_run(self) -> None:
        """Begin anew, with a run that has read everything as it is now."""
        self._seen.clear()
        self._unsettled.clear()
        self._up_ns = None
        self.began_ns = file_time()

    def add(self, path: str, now: Fingerprint | None) -> None:
        """Doubt *path*: it may have become what it is *now* before it was watched."""
        self._seen[path] = now

    def program_is_up(self, at_ns: int | None, unsettled: set[str]) -> None:
        """Doubt nothing that changes from now on, or since *at_ns*, but what is *unsettled*."""
        if self._up_ns is None:
            self._up_ns = file_time() if at_ns is None else at_ns
            self._unsettled = unsettled

    def settle(self) -> None:
        """Doubt no more what was unsettled: it has been judged."""
        self._unsettled.clear()

    def is_own_code(self, path: str, here: Status) -> bool:
        """Whether the program wrote the present content of *path* itself, and runs it."""
        return self._listener.own_writes().wrote_and_read(path, here.ctime_ns)

    def is_excused(self, path: str, here: Status | None) -> bool:
        """Whether not to restart for *path*, since the program knows its content."""
        if not self._is_early(path, here):
            return False
        may_be_own = self._listener.own_writes().may_have_written(path)
        # If the change was seen, and is not the program's, the program has not read the result.
        in_doubt = may_be_own or path in self._seen
        return in_doubt and self._listener.is_excused(path, may_be_own=may_be_own)

    def _is_early(self, path: str, here: Status | None) -> bool:
        if here is None:
            return path in self._unsettled
        if self._seen.get(path) == here.fingerprint:
            return True
        # If its event came late. An older file was moved or linked here, at an unknown time.
        is_up = self._up_ns is not None and here.ctime_ns >= self._up_ns
        return self.began_ns <= here.ctime_ns and not is_up
