"""How this process began, read before the program could change it; and how to restore it.

Runs in: any process; read on the thread that imports evreload first, restored on the main thread.
Owns: nothing that changes. The working directory, the terminal and the signals belong to the
process as a whole.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False  # `typing` costs 2 ms, and this module is part of `import evreload`
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNNER = os.path.join(PACKAGE, "_program", "runner.py")

# CPython's options that take a value, attached or in the next argument; see `python --help`.
FLAGS_WITH_VALUE = "WX"
TARGET_FLAGS = "cm"
LONG_FLAG_WITH_VALUE = "--check-hash-based-pycs"


def split_command_line(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split a Python command line, less the interpreter, into its flags and its target.

    The target begins with ``-m``, ``-c``, or a path, and includes the program's own arguments;
    it is empty for an interactive interpreter. ``-mname`` becomes ``-m name``.
    """
    rest = list(arguments)
    flags: list[str] = []
    while rest:
        argument = rest[0]
        if argument == "-" or not argument.startswith("-"):
            return flags, rest
        if argument == "--":  # what follows is a path, even if it looks like a flag, or "-"
            target = rest[1:]
            if target and target[0].startswith("-") and target[0] != "-":
                target[0] = os.path.join(os.curdir, target[0])
            return flags, target
        if argument.startswith("--"):
            count = 2 if argument == LONG_FLAG_WITH_VALUE else 1
            flags += rest[:count]
            rest = rest[count:]
            continue
        place = next(
            (i for i, c in enumerate(argument) if c in FLAGS_WITH_VALUE + TARGET_FLAGS), None
        )
        if place is not None and argument[place] in TARGET_FLAGS:
            flags += [argument[:place]] if place > 1 else []
            value = argument[place + 1 :]
            return flags, ["-" + argument[place], *([value] if value else []), *rest[1:]]
        count = 2 if place is not None and place == len(argument) - 1 else 1
        flags += rest[:count]
        rest = rest[count:]
    return flags, []


# Read on import: the program is free to change all of these before the restart.
PROCESS = os.getpid()
EXECUTABLE = sys.executable
ARGUMENTS = list(sys.orig_argv)
FLAGS, TARGET = split_command_line(ARGUMENTS[1:])
# Read now, since the console of a debugger sets it too, and leaves it behind.
IS_INTERACTIVE = hasattr(sys, "ps1")


def _first_directory() -> str | None:
    """Return the working directory the program was started in, as far as can be told.

    It may have changed before this module was imported. A relative script was found in the old
    one, and ``-m`` put it at the head of the path.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    here = working_directory()
    if main == RUNNER or not TARGET or TARGET[0] == "-c":
        return here
    if TARGET[0] == "-m":
        first = sys.path[0] if sys.path and isinstance(sys.path[0], str) else ""
        moved = here not in sys.path and os.path.isabs(first) and not sys.flags.safe_path
        return first if moved else here
    relative = os.sep + TARGET[0].rstrip(os.sep)
    main = main if isinstance(main, str) and os.path.isabs(main) else ""
    for path in (main, os.path.dirname(main)):  # of a directory, or an archive, main is in it
        if path.endswith(relative):
            return path.removesuffix(relative) or os.sep
    return here


def working_directory() -> str | None:
    """Return the working directory, if there is one."""
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


DIRECTORY = _first_directory()


def input_offset() -> int | None:
    """Return how far standard input was read if it is a file, in bytes; None if it is not.

    All processes that have inherited it share this offset.
    """
    try:
        return os.lseek(0, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(0).st_mode) else None
    except OSError:  # it is closed
        return None


INPUT_OFFSET = input_offset()


if sys.platform != "win32":
    import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms

    # An exec keeps what is blocked and what is ignored. Left alone, a program that ignores
    # SIGINT for a moment could not be interrupted after a reload.
    SIGNAL_MASK = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    IGNORED_SIGNALS = frozenset(
        number for number in _signal.valid_signals() if _signal.getsignal(number) == _signal.SIG_IGN
    )

    def _terminal_modes() -> list[Any] | None:
        """Return the modes of the terminal that is standard input, if it is one."""
        if not os.isatty(0):
            return None
        import termios

        try:
            return termios.tcgetattr(0)
        except termios.error:  # it was hung up
            return None

    TERMINAL_MODES = _terminal_modes()


def _started_ns() -> int:
    """Return when this process began, in nanoseconds since the epoch.

    It is at most one clock tick too late, and always before Python could read the first module.
    """
    import time

    # Each expression reads two clocks at once: a pause between the two readings would count as
    # age of the process. Below, the highest of three readings is taken for the same reason.
    latest = time.time_ns() - time.process_time_ns()  # one thread can't work longer than it lives
    if sys.platform == "linux":
        try:
            with open("/proc/self/stat", "rb") as file:
                # Field 22: clock ticks since the machine was started, rounded down; see
                # proc_pid_stat(5).
                ticks = int(file.read().rpartition(b")")[2].split()[19])
        except OSError:  # /proc is not mounted
            return latest
        readings = [time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) for _ in range(3)]
        booted = max(readings)
        tick = 10**9 // os.sysconf("SC_CLK_TCK")
        earliest = booted + ticks * tick
        return min(max(latest, earliest), earliest + tick)
    return latest


STARTED_NS = _started_ns()  # the earlier it is read, the more exact it is


# Restoring it


def missing_interpreter() -> str | None:
    """Return what keeps Python from being started again; None if the interpreter is there."""
    if os.access(EXECUTABLE, os.X_OK):
        return None
    return f"the interpreter {EXECUTABLE} is not there any more"


def change_directory(path: str | None) -> None:
    """Make *path* the working directory, if it exists."""
    if path:
        with suppress(OSError):  # it was removed; an absolute target runs from anywhere
            os.chdir(path)


def is_working_directory(path: str | None) -> bool:
    """Whether *path* names the working directory, or nothing at all."""
    try:
        return path is None or os.path.samefile(os.curdir, path)
    except OSError:
        return True


def rewind_input() -> None:
    """Make the next run read standard input, if it is a file, from where the first run did."""
    if INPUT_OFFSET is not None:
        with suppress(OSError):  # the program has closed it, or put something else in its place
            os.lseek(0, INPUT_OFFSET, os.SEEK_SET)


def suppress(*errors: type[Exception]) -> AbstractContextManager[None]:
    """Do what `contextlib.suppress` does; importing it costs 4 ms, and is put off until then."""
    import contextlib

    return contextlib.suppress(*errors)


if sys.platform != "win32":

    def restore_signals() -> None:
        """Block and ignore the signals that were blocked and ignored when the process began."""
        _signal.pthread_sigmask(_signal.SIG_SETMASK, SIGNAL_MASK)
        for number in _signal.valid_signals():
            before = _signal.SIG_IGN if number in IGNORED_SIGNALS else _signal.SIG_DFL
            # An exec keeps ignored signals ignored, and resets all handlers.
            if (_signal.getsignal(number) == _signal.SIG_IGN) != (before == _signal.SIG_IGN):
                with suppress(ValueError):  # only the main thread may
                    _signal.signal(number, before)

    def restore_terminal() -> None:
        """Reset the modes of the terminal, which getpass, pdb or curses may have changed."""
        if TERMINAL_MODES is None:
            return
        import termios

        with suppress(OSError, termios.error):  # it was hung up
            if not _group_exists(os.tcgetpgrp(0)):
                _take_foreground()
            # From the background, tcsetattr would stop this process instead.
            if os.getpgrp() == os.tcgetpgrp(0):
                termios.tcsetattr(0, termios.TCSADRAIN, TERMINAL_MODES)

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
        mask = _signal.pthread_sigmask(
            _signal.SIG_BLOCK, [_signal.SIGTTOU]
        )  # it would stop this process
        os.tcsetpgrp(0, os.getpgrp())
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
