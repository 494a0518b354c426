"""The terminal that the command was started from.

Runs in: the supervisor, on its loop's thread.
Owns: nothing; `startup` restores the modes of the terminal.
"""

from __future__ import annotations

import os
import sys

from .._common.log import is_terminal

CLEAR = "\033[H\033[2J\033[3J"


def clear() -> None:
    """Clear the terminal, if standard error is one."""
    if is_terminal():
        sys.stderr.write(CLEAR)
        sys.stderr.flush()


def is_foreground() -> bool:
    """Whether this process group is in the foreground: a Ctrl-C reaches all processes of it."""
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
