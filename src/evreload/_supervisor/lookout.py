"""What the parent looks out for: what the options name, and what the program tells of.

The supervisor's loop. One lookout serves one run of the program after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from tornado.ioloop import IOLoop

from .._common.own_writes import Author
from .._program.imports import is_source, other_form
from .._settings import Options
from .._watch import gitignore
from .._watch import ignore as patterns
from .._watch.event_queue import Mailbox
from .._watch.observers import News, Observers
from .._watch.watcher import Changes, Want, Watcher
from . import target
from .program_process import Run

logger = logging.getLogger("evreload")


class Lookout:
    """Has *changed* called with what changes; *author* and *excused* are as for `Watcher`."""

    def __init__(
        self,
        options: Options,
        changed: Callable[[Changes], object],
        *,
        author: Callable[[], Author],
        excused: Callable[[str, bool], bool],
    ) -> None:
        self._options = options
        self._script = target.script(options.target)
        self._announced = False
        self._gitignore = gitignore.Gitignore()
        self._watcher = Watcher(
            self._connect,
            changed,
            debounce=options.debounce,
            author=author,
            excused=excused,
            other_form=other_form,
            ignored=patterns.by_globs(options.ignore),
            left_out=self._gitignore.rule if options.gitignore else lambda path: None,
        )
        self._mailbox = Mailbox(IOLoop.current(), self._watcher.receive)

    def begin(self, run: Run) -> None:
        """Look out for the first *run* from now on."""
        self._want_by_options(run.since)
        self._watcher.survey()
        self._mailbox.open()

    def begin_run(self, run: Run, stale: Changes, *, was_complete: bool) -> None:
        """Look out for another *run*, or one begun again, which knows what was found `stale`.

        *was_complete* tells whether the one before has told of all that it wants.
        """
        self._watcher.renew(stale, was_complete=was_complete)
        self._gitignore.forget()
        self._want_by_options(run.since)
        self._watcher.keep(run.loaded)

    def end(self) -> None:
        """Look out no more."""
        self._watcher.disarm()

    def want(self, wants: set[Want]) -> None:
        """Look out for more."""
        for want in sorted(wants):  # directories before what is in them
            if want.explicit:
                self._gitignore.ask_for(want.path)
        self._watcher.receive({*wants})

    def look_at(self, paths: Iterable[str]) -> None:
        """Look at *paths* as if there was news of them."""
        self._watcher.receive({News(path) for path in paths})

    def stale(self) -> Changes:
        """Look at every file, now; return those that differ from what the program runs."""
        return self._watcher.stale()

    def program_is_up(self, at: int | None) -> None:
        """Take what changes from now on, or *at* some time, for a change, whoever made it."""
        self._watcher.program_is_up(at)

    def announce(self) -> None:
        """Say once what is being watched, when all of it is."""
        if self._announced:
            return
        if self._watcher.is_surveying:
            asyncio.get_running_loop().call_later(0.01, self.announce)
            return
        self._announced = True
        logger.info("watching %s", self._watcher)

    def is_code(self, path: str) -> bool:
        """Whether the program runs *path* as Python source."""
        return self._watcher.is_wanted(path) and (is_source(path) or path == self._script)

    @property
    def first_news(self) -> float:
        """When the latest changes began; by time.monotonic."""
        return self._watcher.first_news

    def _want_by_options(self, since: int) -> None:
        for path in self._options.watch:
            self._gitignore.ask_for(path)
            self._watcher.want(Want(path, since, explicit=True))

    def _connect(self) -> Observers:
        observers = Observers(
            self._mailbox.put,
            self._watcher.entries,
            check_time=self._options.check_time,
            poll=self._options.poll,
            curious=self._options.verbose,
        )
        observers.start()
        return observers
