"""The log of evreload: one line for each event, through the logger ``evreload``.

The command prints the records of that logger on standard error. The library configures no logging.

Runs in: the supervisor and the program, in both modes; on any thread.
Owns: in the supervisor, the handler and the level of the logger ``evreload``.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from .terminal import is_terminal
from .unpatched import os

COLOURS = {logging.ERROR: "31", logging.WARNING: "33", logging.INFO: "36", logging.DEBUG: "2"}
MAX_NAMED = 3  # changed files in one line
# Ends a message about a change for which the program is not restarted.
STILL_RUNNING = "still running the previous version"
WAITING = "waiting for a change"

logger = logging.getLogger("evreload")


def configure(*, quiet: bool, verbose: bool) -> None:
    """Print the log on standard error: only problems if *quiet*, also reasons if *verbose*."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(coloured=is_terminal() and not os.environ.get("NO_COLOR")))
    logger.addHandler(handler)
    logger.propagate = False
    if quiet:
        logger.setLevel(logging.WARNING)
    else:
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


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
