"""The quiet before acting.

The loop's thread. A save may be many events, and a checkout many saves: whoever is at work is let
finish, up to a point, since neither a stale lock nor a writer who never stops may hold up the
restart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tornado.ioloop import IOLoop

from .._common.filestat import look
from . import git_lock as git

PATIENCE = 3.0  # seconds after which changes are acted upon, settled or not
GIT_PATIENCE = 30.0  # the same, for as long as git goes on: half of its work may not even run
MANY_FILES = 8  # times the debounce
NEXT_LOOK = 0.02  # seconds between two looks at whether git, or a writer, has finished

logger = logging.getLogger("evreload")


class Settling:
    """Calls *act* when *changing*, a set of paths, has settled.

    That is after *debounce* seconds of quiet. *is_new* tells whether the program has known
    nothing by the name of a path.
    """

    def __init__(
        self,
        debounce: float,
        changing: set[str],
        is_new: Callable[[str], bool],
        act: Callable[[], object],
    ) -> None:
        self._debounce = debounce
        self._changing = changing
        self._is_new = is_new
        self._act = act
        self._unfinished: set[str] = set()
        self._was_at_work = False
        self._loop: IOLoop | None = None  # on which it is under way
        self.began = self._last_news = 0.0  # by time.monotonic

    def begin(self) -> None:
        """Begin to wait, unless that is under way; on a loop that has ended it no longer is."""
        if self._loop is not IOLoop.current():
            self._loop = IOLoop.current()
            self._was_at_work = False
            self.began = self._last_news = time.monotonic()
            self._wait()

    def note(self, path: str, *, matters: bool, unfinished: bool, gone: bool) -> None:
        """Take note of news of *path*, whose writer has yet to close it if it is *unfinished*.

        That it was *gone* tells nothing of whoever makes it anew.
        """
        if matters:
            self._last_news = time.monotonic()
        if matters and unfinished:
            self._unfinished.add(path)
        elif not gone:
            self._unfinished.discard(path)

    def _wait(self) -> None:
        loop = IOLoop.current()
        if loop is not self._loop:  # begun anew on another while this one stood still
            return
        now = time.monotonic()
        quiet = self._last_news + self._debounce * self._caution() - now
        impatient = now - self.began >= PATIENCE and not self._git_goes_on(now)
        if not impatient and quiet > 0:
            loop.call_later(quiet, self._wait)
        elif not impatient and self._somebody_is_at_work():
            loop.call_later(NEXT_LOOK, self._wait)
        else:
            self._loop = None
            self._unfinished.clear()  # whom we did not wait for we do not wait for again
            self._act()

    def _caution(self) -> int:
        """Be quick for a lone save.

        Where several files change, a tool is at work; and what is new may be about to be renamed.
        """
        several = len(self._changing) > 1 or any(map(self._is_new, self._changing))
        return MANY_FILES if several else 1

    def _git_goes_on(self, now: float) -> bool:
        return (
            now - self.began < GIT_PATIENCE
            and now - self._last_news < PATIENCE
            and git.at_work(self._changing)
        )

    def _somebody_is_at_work(self) -> bool:
        self._unfinished = {path for path in self._unfinished if _may_be_open(path)}
        at_work = bool(self._unfinished) or git.at_work(self._changing)
        if at_work and not self._was_at_work:
            logger.debug("waiting for %s to finish", "a writer" if self._unfinished else "git")
        self._was_at_work = at_work
        return at_work


def _may_be_open(path: str) -> bool:
    """Whether *path*, which was created, may still be waiting to be closed by its writer.

    A link is created at one stroke, and nobody will close it.
    """
    here = look(path, follow=False)
    return bool(here and here.links == 1 and not here.is_link and not here.is_directory)
