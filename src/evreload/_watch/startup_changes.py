"""Whether the program knows a change that was made while it started.

If a file changed before it was watched, or while the program started, then the program may have
read the present content. Or the program wrote the file itself, and would write it again after a
restart.

Runs in: the supervisor and the program, on the thread that owns the watcher.
Owns: when the run began, since when it is up, and which files were in doubt then.
"""

from __future__ import annotations

from .._common.filestat import Fingerprint, Status, file_time
from .listener import WatchListener


class StartupChanges:
    """Files of which it is in doubt whether the program knows their content."""

    def __init__(self, listener: WatchListener) -> None:
        self._listener = listener
        self._seen: dict[str, Fingerprint | None] = {}  # in doubt, as found when first watched
        self._unsettled: set[str] = set()  # not yet scanned or delivered when the program was up
        self._up_ns: int | None = None  # since when the program is up; nanoseconds since the epoch
        self.began_ns = file_time()  # when the run began

    def begin_run(self) -> None:
        """Begin with another run, which will read every file as it is now."""
        self._seen.clear()
        self._unsettled.clear()
        self._up_ns = None
        self.began_ns = file_time()

    def add(self, path: str, now: Fingerprint | None) -> None:
        """Put *path* in doubt: it may have changed to *now* before it was watched."""
        self._seen[path] = now

    def program_is_up(self, at_ns: int | None, unsettled: set[str]) -> None:
        """From now on, or since *at_ns*, doubt no change, except those of the paths *unsettled*."""
        if self._up_ns is None:
            self._up_ns = file_time() if at_ns is None else at_ns
            self._unsettled = unsettled

    def settle(self) -> None:
        """Doubt the unsettled paths no more: each was delivered or excused."""
        self._unsettled.clear()

    def is_own_code(self, path: str, here: Status) -> bool:
        """Whether the program wrote the present content of *path* itself, and runs it."""
        return self._listener.own_writes().wrote_and_read(path, here.ctime_ns)

    def is_excused(self, path: str, here: Status | None) -> bool:
        """Whether not to restart for *path*, since the program knows its content."""
        if not self._is_early(path, here):
            return False
        may_be_own = self._listener.own_writes().may_have_written(path)
        # If an event reported the change, and the program did not make it, then the program had
        # read the file before.
        in_doubt = may_be_own or path in self._seen
        return in_doubt and self._listener.is_excused(path, may_be_own=may_be_own)

    def _is_early(self, path: str, here: Status | None) -> bool:
        if here is None:
            return path in self._unsettled
        if self._seen.get(path) == here.fingerprint:
            return True
        # It changed before the program was up, but its event came later. If the change is older
        # than the run, the file was moved or linked here at an unknown time.
        is_up = self._up_ns is not None and here.ctime_ns >= self._up_ns
        return self.began_ns <= here.ctime_ns and not is_up
