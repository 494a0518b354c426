"""The terminal of this process: its modes at the start, and how to restore them.

Runs in: any process. The thread that imports evreload first reads the modes; the main thread
restores them.
Owns: the modes that were read.
"""

from __future__ import annotations

import sys

from .unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms, and this module is part of `import evreload`
if TYPE_CHECKING:
    from typing import Any

CLEAR = "\033[H\033[2J\033[3J"


def is_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


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


if sys.platform != "win32":
    import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms

    def _modes() -> list[Any] | None:
        """Return the modes of the terminal that is standard input, if it is one."""
        if not os.isatty(0):
            return None
        import termios

        try:
            return termios.tcgetattr(0)
        except termios.error:  # it was hung up
            return None

    MODES = _modes()

    def restore_modes() -> None:
        """Reset the modes of the terminal, which getpass, pdb or curses may have changed."""
        if MODES is None:
            return
        import contextlib
        import termios

        with contextlib.suppress(OSError, termios.error):  # it was hung up
            if not _group_exists(os.tcgetpgrp(0)):
                _take_foreground()
            # From the background, tcsetattr would stop this process instead.
            if os.getpgrp() == os.tcgetpgrp(0):
                termios.tcsetattr(0, termios.TCSADRAIN, MODES)

    def _group_exists(group: int) -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
        return True

    def _take_foreground() -> None:
        """Take the foreground of the terminal back: the job that took it, a shell, has ended."""
        # From the background, tcsetpgrp would stop this process by SIGTTOU.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGTTOU])
        os.tcsetpgrp(0, os.getpgrp())
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
