"""What a person sees: one line an event, on standard error.

The supervisor's thread. All of it goes through the logger `evreload`; the command configures
that logger here, the library never does.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable

COLOURS = {logging.ERROR: "31", logging.WARNING: "33", logging.INFO: "36", logging.DEBUG: "2"}
MOST_NAMED = 3  # changed files in one line
KEPT = "still running the previous version"  # what comes of a change that can't be run
WAITING = "waiting for a change"
CLEAR = "\033[H\033[2J\033[3J"


def configure(*, quiet: bool, verbose: bool) -> None:
    """Print what the logger `evreload` says: problems only if *quiet*, reasons if *verbose*."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(coloured=_is_terminal() and not os.environ.get("NO_COLOR")))
    logger = logging.getLogger("evreload")
    logger.addHandler(handler)
    logger.propagate = False
    if quiet:
        logger.setLevel(logging.WARNING)
    else:
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def clear() -> None:
    """Clear the terminal, if it is one."""
    if _is_terminal():
        sys.stderr.write(CLEAR)
        sys.stderr.flush()


def has_keyboard() -> bool:
    """Whether we are in the foreground of a terminal, whose Ctrl-C reaches all of our group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it was hung up
        return False
    finally:
        os.close(terminal)


def shorten(path: str) -> str:
    """Return *path* relative to the working directory, if it lies beneath."""
    try:
        here = os.getcwd() + os.sep
    except OSError:  # it was removed
        return path
    return path.removeprefix(here)


def name_some(paths: Iterable[str]) -> str:
    """Name a few of *paths*, and count the others."""
    names = sorted(paths)
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"


class _Line(logging.Formatter):
    def __init__(self, *, coloured: bool) -> None:
        super().__init__("evreload: %(message)s")
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if self._coloured:
            return f"\033[{COLOURS.get(record.levelno, '0')}m{line}\033[0m"
        return line


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
