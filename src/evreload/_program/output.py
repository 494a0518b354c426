"""Flushes what the program has printed and logged.

Runs in: the program and the fork server, on their main thread.
Owns: nothing. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

import sys

from .._common.startup import suppress


def flush_output() -> None:
    """Flush the standard streams, and the handlers of logging."""
    for stream in (sys.stdout, sys.stderr):
        # A stream may be None, closed, a pipe without a reader, or any object. Nor can a signal
        # handler flush a stream that the program was writing to when the signal came.
        with suppress(Exception):
            stream.flush()
    root = getattr(sys.modules.get("logging"), "root", None)
    manager = getattr(root, "manager", None)
    if manager is None:  # or it is just being imported
        return
    for logger in [root, *manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", ()):
            with suppress(Exception):  # a handler of the program may do anything
                handler.flush()
