"""The log of evreload: one line for each event, through the logger ``evreload``.

The command prints the records of that logger on standard error. The library configures no logging.

Runs in: the supervisor and the program, in both modes; on any thread.
Owns: in the supervisor, the handler and the level of the logger ``evreload``.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterable
from typing import TextIO

from .terminal import is_raw, is_terminal
from .unpatched import os

COLOURS = {logging.ERROR: "31", logging.WARNING: "33", logging.INFO: "36", logging.DEBUG: "2"}
MAX_NAMED = 3  # changed files in one line
# Ends a message about a change for which the program is not restarted.
STILL_RUNNING = "still running the previous version"
WAITING = "waiting for a change"
HALF_SAVED = "the program has ended, but %s may be only half saved; waiting for the rest"

logger = logging.getLogger("evreload")


def configure(*, quiet: bool, verbose: bool) -> None:
    """Print the log on standard error: only problems if *quiet*, also reasons if *verbose*."""
    handler = ScreenHandler()
    handler.setFormatter(_Formatter(coloured=is_terminal() and not os.environ.get("NO_COLOR")))
    logger.addHandler(handler)
    logger.propagate = False
    if quiet:
        logger.setLevel(logging.WARNING)
    else:
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def screen() -> ScreenHandler | None:
    """Return what prints the log, once `configure` has made it."""
    handlers = (one for one in logger.handlers if isinstance(one, ScreenHandler))
    return next(handlers, None)


class ScreenHandler(logging.StreamHandler[TextIO]):
    """Prints records on standard error; not while a program draws the screen of that terminal.

    `print_held` prints them later, in order. `on_hold` is called when the first one is held back.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._held: list[Callable[[], object]] = []
        self.on_hold: Callable[[], object] = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        """Print *record*, now or later."""
        record.msg, record.args = record.getMessage(), None  # as it is now
        self.when_free(functools.partial(super().emit, record))

    def when_free(self, print_it: Callable[[], object]) -> None:
        """Call *print_it* as soon as no program draws the screen. Any thread."""
        self.acquire()  # the lock of the handler, as `emit` has it
        try:
            if not (self._held or is_raw()):
                print_it()
                return
            self._held.append(print_it)
            if len(self._held) == 1:
                self.on_hold()
        finally:
            self.release()

    def print_held(self, *, anyway: bool = False) -> bool:
        """Print what was held back, if no program draws the screen, or *anyway*.

        Return whether nothing is held back any more.
        """
        self.acquire()
        try:
            if not anyway and self._held and is_raw():
                return False
            while self._held:
                self._held.pop(0)()
            return True
        finally:
            self.release()


def shorten(path: str) -> str:
    """Return *path* relative to the working directory, if it lies below."""
    try:
        here = os.getcwd() + os.sep
    except OSError:  # it was removed
        return path
    return path.removeprefix(here)


def name_some(paths: Iterable[str]) -> str:
    """Return the names of a few of *paths*, and the number of the others."""
    names = sorted(paths)
    if len(names) <= MAX_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:MAX_NAMED])} and {len(names) - MAX_NAMED} more"


class _Formatter(logging.Formatter):
    def __init__(self, *, coloured: bool) -> None:
        super().__init__("evreload: %(message)s")
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if self._coloured:
            return f"\033[{COLOURS.get(record.levelno, '0')}m{line}\033[0m"
        return line
