"""Whether to restart for a change that was made while the program started.

If a file changed before it was watched, or while the program started, then the program may have
read the present content. Or the program wrote the file itself, and would write it again after a
restart. So a restart may be needless, or may be followed by another one for ever. No such change is
dropped unless the program runs the present content; but a restart for it may have to wait.

Runs in: the supervisor and the program, on the thread that owns the watcher.
Owns: when the run began, since when it is up, which files were in doubt then, and which restarts
wait.
"""

from __future__ import annotations

import logging
import time

from .._common.filestat import Fingerprint, Status, file_time
from .listener import WatchListener

NS = 1_000_000_000  # nanoseconds in a second
# After the program is up, it goes on to write what is not code: logs, caches, databases.
SOON_NS = 1 * NS
# For so long after its start, a generator that the program has started may write its results.
RECENT_NS = 10 * NS

logger = logging.getLogger("evreload")


class StartupChanges:
    """Decides for each changed file whether and when to restart."""

    def __init__(self, listener: WatchListener) -> None:
        self._listener = listener
        self._seen: dict[str, Fingerprint | None] = {}  # in doubt, as found when first watched
        self._unsettled: set[str] = set()  # not yet scanned or delivered when the program was up
        self._up_ns: int | None = None  # since when the program is up; nanoseconds since the epoch
        self._ended_ns: int | None = None  # when it ended; nanoseconds since the epoch
        self._listens = False  # whether it is up because it listens
        self._waiting: dict[str, float] = {}  # until when restarts wait; by time.monotonic
        self.began_ns = file_time()  # when the run began

    def begin_run(self) -> None:
        """Begin with another run, which will read every file as it is now."""
        self._seen.clear()
        self._unsettled.clear()
        self._waiting.clear()
        self._up_ns = self._ended_ns = None
        self._listens = False
        self.began_ns = file_time()

    def add(self, path: str, now: Fingerprint | None) -> None:
        """Put *path* in doubt: it may have changed to *now* before it was watched."""
        self._seen[path] = now

    def program_is_up(
        self, ended_ns: int | None, unsettled: set[str], *, listening_ns: int | None
    ) -> None:
        """Note that the program has started, ended at *ended_ns*, or listens since *listening_ns*.

        The changes of the paths *unsettled* are still those of its start.
        """
        self._listens = self._listens or listening_ns is not None
        self._ended_ns = ended_ns or self._ended_ns
        if self._up_ns is None:
            self._up_ns = ended_ns or listening_ns or file_time()
            self._unsettled = unsettled

    def settle(self) -> None:
        """From now on, also the changes of the unsettled paths are later ones."""
        self._unsettled.clear()

    def is_waiting(self, path: str) -> bool:
        """Whether a restart for *path* waits."""
        return path in self._waiting

    def delay(self, path: str, here: Status | None, *, is_code: bool) -> float | None:
        """Return how many seconds to wait before a restart for *path*; None if there is no need.

        *here* is its present status. *is_code*: the program has only read it, as code.
        """
        own_writes = self._listener.own_writes()
        is_early = self._is_early(path, here)
        if here:
            if own_writes.wrote_and_read(path, here.ctime_ns):
                return None
            may_be_known = is_early or (
                not self._listens and self._is_recent(here) and own_writes.may_have_written(path)
            )
            if may_be_known and own_writes.has_read(path):
                return None
        run_info = self._listener.run_info
        is_soon = is_early or (not is_code and self._is_soon(here))
        if not (is_soon or self._is_recent(here)):
            run_info.forget_tries(path)
            return 0.0
        may_be_own = own_writes.may_have_written(path)
        seconds = run_info.delay(path, may_be_own=may_be_own, is_soon=is_soon, is_code=is_code)
        return self._wait(path, seconds) if seconds else seconds

    def _wait(self, path: str, seconds: float) -> float:
        """Wait *seconds* for a restart for *path*; return how many of them are left."""
        now = time.monotonic()
        if path not in self._waiting:
            self._waiting[path] = now + seconds
            logger.warning(
                "%s changes at each start, so the program seems to write it: "
                "restarting for it in %.0f s, or once it changes again; --ignore leaves it out",
                path,
                seconds,
            )
        return max(0.0, self._waiting[path] - now)

    def _is_soon(self, here: Status | None) -> bool:
        return self._up_ns is not None and self._is_between(here, self._up_ns + SOON_NS)

    def _is_recent(self, here: Status | None) -> bool:
        return self._is_between(here, self.began_ns + RECENT_NS)

    def _is_between(self, here: Status | None, end_ns: int) -> bool:
        """Whether the change was made in this run, before *end_ns* and the end of the program."""
        if self._ended_ns is not None:
            end_ns = min(end_ns, self._ended_ns)
        return here is not None and self.began_ns <= here.ctime_ns < end_ns

    def _is_early(self, path: str, here: Status | None) -> bool:
        if here is None:
            return path in self._unsettled
        if self._up_ns is not None and here.ctime_ns >= self._up_ns:
            return False
        # If the change is older than the run, the file was moved or linked here at an unknown time.
        return self.began_ns <= here.ctime_ns or self._seen.get(path) == here.fingerprint
