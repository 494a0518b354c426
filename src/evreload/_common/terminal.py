"""The terminal of this process: its state at the start, and how to restore it.

Runs in: any process. The thread that imports evreload first reads the state; the main thread
restores it.
Owns: the state that was read.
"""

from __future__ import annotations

import sys

from .unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms, and this module is part of `import evreload`
if TYPE_CHECKING:
    from typing import Any

CLEAR = "\033[H\033[2J\033[3J"
# What a program for the whole screen has switched on, such as one made with curses or Textual.
LEAVE_FULL_SCREEN = b"".join(
    (
        b"\0337\033[?1049l",  # the alternate screen; this restores the cursor that 7 has saved
        b"\033[?1000l\033[?1002l\033[?1003l\033[?1006l\033[?1015l",  # reports of the mouse
        b"\033[?1004l\033[?2004l\033[<u",  # of the focus, of pasted text, of all keys
        b"\033[?1l\033>",  # the keypad
        b"\033[0m\033[?25h",  # colours, a hidden cursor
    )
)
ASYNC_LIBRARIES = {"asyncio", "trio"}  # they make the streams that they read not block
LOCAL_MODES = 3  # the index of these flags in what termios returns


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

    class State:
        """The modes of the terminal, and whether the standard streams block.

        Both belong to the terminal or pipe, so they outlive the process that has changed them.
        """

        def __init__(self) -> None:
            self._modes = _modes_of(0)
            # With the identity of the file: the program may put another one in its place.
            self._blocking = {number: _blocking(number) for number in range(3)}
            if not ASYNC_LIBRARIES.isdisjoint(sys.modules):
                # Streams that do not block are most likely the work of the program: it has imported
                # evreload later.
                self._blocking = {n: one and (True, *one[1:]) for n, one in self._blocking.items()}

        def restore(self) -> None:
            """Restore what getpass, pdb, curses or asyncio may have changed."""
            for number, before in self._blocking.items():
                now = _blocking(number)
                if before and now and now != before and now[1:] == before[1:]:
                    os.set_blocking(number, before[0])
            if self._modes is None:
                return
            import contextlib
            import termios

            with contextlib.suppress(OSError, termios.error):  # it was hung up
                if not _group_exists(os.tcgetpgrp(0)):
                    _take_foreground()
                # From the background, tcsetattr would stop this process instead.
                if os.getpgrp() == os.tcgetpgrp(0):
                    was_raw = _are_raw(_modes_of(0)) and not _are_raw(self._modes)
                    termios.tcsetattr(0, termios.TCSADRAIN, self._modes)
                    if was_raw:
                        _leave_full_screen()

    def is_raw() -> bool:
        """Whether a program reads each key from the terminal that is standard error.

        Such a program draws the line or the screen itself.
        """
        return _are_raw(_modes_of(2))

    def _modes_of(descriptor: int) -> list[Any] | None:
        """Return the modes of the terminal *descriptor*, if it is one."""
        if not os.isatty(descriptor):
            return None
        import termios

        try:
            return termios.tcgetattr(descriptor)
        except termios.error:  # it was hung up
            return None

    def _are_raw(modes: list[Any] | None) -> bool:
        if modes is None:
            return False
        import termios

        return not modes[LOCAL_MODES] & termios.ICANON

    def _blocking(descriptor: int) -> tuple[bool, int, int] | None:
        """Return whether *descriptor* blocks, and the identity of its file; None if closed."""
        try:
            status = os.fstat(descriptor)
            return os.get_blocking(descriptor), status.st_ino, status.st_dev
        except OSError:
            return None

    def _leave_full_screen() -> None:
        """Undo what a program that was stopped has done to the display of the terminal."""
        device = os.fstat(0).st_rdev
        for descriptor in (2, 1):
            if os.isatty(descriptor) and os.fstat(descriptor).st_rdev == device:
                os.write(descriptor, LEAVE_FULL_SCREEN)
                return

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
        try:
            os.tcsetpgrp(0, os.getpgrp())
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    STATE = State()

    def read_state() -> None:
        """Read the state again: until now, this process was not the one that uses the terminal."""
        global STATE
        STATE = State()

    def restore() -> None:
        """Restore the state that was read."""
        STATE.restore()

else:

    def is_raw() -> bool:
        """Return False: this is not known on Windows."""
        return False
