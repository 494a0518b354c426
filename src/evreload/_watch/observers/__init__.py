"""watchdog's rooms, and the choice between them.

Events where they arrive, polling where they don't, directory by directory. Armed and disarmed
on the loop's thread; the news comes from the observers' own.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .inotify import Inotify
    from .mounts import Mounts
    from .native import Native
    from .polling import Polling

logger = logging.getLogger("evreload")

REMEDIES = {
    errno.ENOSPC: (
        "the limit of inotify watches is reached",
        "raise fs.inotify.max_user_watches with sysctl",
    ),
    errno.EMFILE: (
        "the limit of inotify instances is reached",
        "raise fs.inotify.max_user_instances with sysctl, or end programs that watch files",
    ),
    errno.EACCES: ("it may not be read", "make it readable"),
}


class News(NamedTuple):
    """Look at *path*: an entry of a directory, or a watched directory itself.

    An *unfinished* entry was just created, and its writer has not closed it yet. One that has
    *gone* may have been created again by now, which is told in the same breath.
    """

    path: str
    unfinished: bool = False
    gone: bool = False


EVERYWHERE = News("")  # events were lost: look at everything


class Observers:
    """Watch directories, by events or by polling.

    *entries* holds the wanted names in each directory; None means all, an empty set that only
    its own fate matters. It may change at any time; after a change, `arm` again.
    *check_time* is in seconds. With *poll* events are not even tried. A *curious* caller is told
    of the other names in a directory, too, where that costs nothing.
    """

    def __init__(
        self,
        tell: Callable[[News], object],
        entries: Mapping[str, set[str] | None],
        *,
        check_time: float,
        poll: bool,
        curious: bool = False,
    ) -> None:
        self._tell = tell
        self._entries = entries
        self._check_time = check_time
        self._poll = poll
        self._curious = curious
        self._events: Inotify | Native | None = None
        self._polling: Polling | None = None
        self._told: set[str] = set()
        self._is_stopped = False
        self.mounts: Mounts

    def start(self) -> None:
        """Make ready. Imports watchdog, which takes a while: not for the loop."""
        from . import mounts

        self.mounts = mounts.read()
        if self._poll:
            return
        try:
            if sys.platform == "linux":
                from .inotify import Inotify

                self._events = Inotify(
                    self._tell, self._entries, self._reader_died, curious=self._curious
                )
            else:
                from .native import Native

                self._events = Native(self._tell, self._entries, self._reader_died)
        except Exception as error:  # whatever it is: polling remains
            self._explain("this program's directories", *_reason(error))

    def arm(self, directory: str) -> None:
        """Watch *directory*, which may have been replaced by another of that name."""
        if self._is_stopped:  # in a step of the thread that has just forked
            return
        events = self._events  # its thread may die, and end it, at any moment
        if events is None:
            self._arm_polling(directory)
        elif kind := self.mounts.silent(directory):
            self._explain(directory, f"{kind} delivers no file events", "keep it on a local disk")
            self._arm_polling(directory)
        else:
            self._arm_events(events, directory)
            if file := self._entries.get(directory) != set() and self.mounts.file_in(directory):
                self._explain(file, "it is mounted by itself", "mount its directory")
                self._arm_polling(directory)

    def disarm(self, directory: str) -> None:
        for observer in (self._events, self._polling):
            if observer is not None:
                observer.disarm(directory)

    def stop(self) -> None:
        """End all threads, for good."""
        self._is_stopped = True
        for observer in (self._events, self._polling):
            if observer is not None:
                observer.stop()
        self._events = self._polling = None

    def __str__(self) -> str:
        """Say how the directories are watched."""
        if self._events is None:
            return f"polling every {self._check_time:g} s"
        if not self._polling:
            return self._events.name
        return f"{self._events.name}; {len(self._polling)} of them polled"

    def _arm_events(self, events: Inotify | Native, directory: str) -> None:
        try:
            events.arm(directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._tell(News(directory))  # gone since it was found
                return
            if self._entries.get(directory) == set():
                return  # an ancestor that only passes through; its own fate is all we would miss
            self._explain(directory, *_reason(error))
            self._arm_polling(directory)
        else:
            if self._polling is not None:
                self._polling.disarm(directory)

    def _arm_polling(self, directory: str) -> None:
        if self._polling is None:
            from .polling import Polling

            self._polling = Polling(self._tell, self._entries, self._check_time)
        self._polling.arm(directory)

    def _explain(self, what: str, reason: str, remedy: str) -> None:
        """Warn once for each reason."""
        if reason not in self._told:
            self._told.add(reason)
            logger.warning("polling %s every %g s: %s (%s)", what, self._check_time, reason, remedy)

    def _reader_died(self) -> None:
        logger.error("no more file events: polling every %g s from now on", self._check_time)
        self._events = None
        self._tell(EVERYWHERE)


def _reason(error: Exception) -> tuple[str, str]:
    number = error.errno if isinstance(error, OSError) else None
    return REMEDIES.get(number or 0, (str(error), "nothing is lost, but it costs more"))
