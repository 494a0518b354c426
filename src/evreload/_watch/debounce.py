"""Waits until the files that change have settled.

A save may be many events, and a checkout many saves. Writers may finish first, but only for a
limited time: a stale lock, or a program that never stops writing, must not prevent the restart.

Runs in: the supervisor and the program, on the thread of their loop.
Owns: when the latest changes began, and which files their writers have not closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from .._common.filestat import stat_path
from . import git_lock

MAX_WAIT = 3.0  # seconds after which changes are delivered, settled or not
MAX_GIT_WAIT = 30.0  # the same while git is at work: half of a checkout may not even run
MANY_FILES_FACTOR = 8  # times the debounce
POLL_INTERVAL = 0.02  # seconds between two checks whether git, or a writer, has finished

logger = logging.getLogger("evreload")


class Debouncer:
    """Calls *deliver* once the paths in *changing*, a set that its owner updates, have settled.

    That is after *debounce* seconds without an event. *is_new* returns whether a path is new to the
    program. *find_unclosed* adds to *changing* what a writer changes without an event so far, and
    returns it.
    """

    def __init__(
        self,
        debounce: float,
        changing: set[str],
        is_new: Callable[[str], bool],
        deliver: Callable[[], object],
        find_unclosed: Callable[[], set[str]] = set,
    ) -> None:
        self._debounce = debounce
        self._changing = changing
        self._is_new = is_new
        self._deliver = deliver
        self._find_unclosed = find_unclosed
        self._unclosed: set[str] = set()
        self._was_busy = False
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the wait in progress
        self.triggered_at = self._last_event = 0.0  # by time.monotonic

    def begin(self) -> None:
        """Begin to wait, unless a wait is in progress on the running loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._was_busy = False
            self.triggered_at = self._last_event = time.monotonic()
            self._wait()

    def on_event(self, path: str, *, matters: bool, is_unfinished: bool, is_gone: bool) -> None:
        """Note an event of *path*. *is_unfinished*: its writer has not closed it yet.

        *is_gone*: it was removed. A writer may have created it again, and not closed it yet.
        """
        if matters:
            self._last_event = time.monotonic()
        if matters and is_unfinished:
            self._unclosed.add(path)
        elif not is_gone:
            self._unclosed.discard(path)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # while this loop stood still, `begin` was called on another
            return
        now = time.monotonic()
        quiet = self._last_event + self._debounce * self._factor() - now
        is_late = now - self.triggered_at >= MAX_WAIT and not self._git_goes_on(now)
        if not is_late and quiet > 0:
            loop.call_later(quiet, self._wait)
        elif not is_late and (self._is_writer_busy() or self._has_more_writers()):
            loop.call_later(POLL_INTERVAL, self._wait)
        else:
            self._loop = None
            self._unclosed.clear()  # the next wait does not wait for these writers
            self._deliver()

    def _factor(self) -> int:
        """Return by how much to multiply the debounce: 1 for one saved file.

        If several files change, a tool is at work. A new file may be renamed next.
        """
        several = len(self._changing) > 1 or any(map(self._is_new, self._changing))
        return MANY_FILES_FACTOR if several else 1

    def _git_goes_on(self, now: float) -> bool:
        return (
            now - self.triggered_at < MAX_GIT_WAIT
            and now - self._last_event < MAX_WAIT
            and git_lock.is_held(self._changing)
        )

    def _is_writer_busy(self) -> bool:
        self._unclosed = {path for path in self._unclosed if _may_be_open(path)}
        is_busy = bool(self._unclosed) or git_lock.is_held(self._changing)
        if is_busy and not self._was_busy:
            logger.debug("waiting for %s to finish", "a writer" if self._unclosed else "git")
        self._was_busy = is_busy
        return is_busy

    def _has_more_writers(self) -> bool:
        """Whether other files are half saved: of files saved together, one may take longer."""
        found = self._find_unclosed()
        self._unclosed |= found
        return bool(found)


def _may_be_open(path: str) -> bool:
    """Whether the writer of *path*, which was created, may still have it open.

    A link is created in one step, and never closed.
    """
    here = stat_path(path, follow=False)
    return bool(here and here.links == 1 and not here.is_link and not here.is_directory)
