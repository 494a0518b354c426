"""How this process began: what it was, before the program could change it.

Read on import.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False  # `typing` costs 2 ms, and this module is part of `import evreload`
if TYPE_CHECKING:
    from typing import Any

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNNER = os.path.join(OURS, "_program", "runner.py")

# CPython's options that take a value, attached or in the next argument; see `python --help`.
WITH_VALUE = "WX"
TARGETS = "cm"
LONG_WITH_VALUE = "--check-hash-based-pycs"


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
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
        if argument == "--":  # what follows is a path, even if it looks like a flag
            path = [os.path.join(os.curdir, name) for name in rest[1:2] if name.startswith("-")]
            return flags, [*(path or rest[1:2]), *rest[2:]]
        if argument.startswith("--"):
            count = 2 if argument == LONG_WITH_VALUE else 1
            flags += rest[:count]
            rest = rest[count:]
            continue
        place = next((i for i, c in enumerate(argument) if c in WITH_VALUE + TARGETS), None)
        if place is not None and argument[place] in TARGETS:
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
FLAGS, TARGET = split(ARGUMENTS[1:])
IS_SESSION = hasattr(sys, "ps1")  # later it tells nothing: a debugger's console leaves it behind


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


def input_at() -> int | None:
    """Return how far standard input has been read, if it is a file: whoever has it shares that."""
    try:
        return os.lseek(0, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(0).st_mode) else None
    except OSError:  # it is closed
        return None


INPUT_AT = input_at()


if sys.platform != "win32":
    import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms

    # An exec keeps what is blocked and what is ignored. Left alone, a program that ignores
    # SIGINT for a moment could not be interrupted after a reload.
    MASK = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    IGNORED = frozenset(
        number for number in _signal.valid_signals() if _signal.getsignal(number) == _signal.SIG_IGN
    )

    def _terminal() -> list[Any] | None:
        """Return the modes of the terminal that is standard input, if it is one."""
        if not os.isatty(0):
            return None
        import termios

        try:
            return termios.tcgetattr(0)
        except termios.error:  # it was hung up
            return None

    TERMINAL = _terminal()


def _started() -> int:
    """Return when this process began; nanoseconds since the epoch.

    That is at most a moment too late, and always before Python could read the first module.
    """
    import time

    # Two clocks are compared in one expression: whatever came between would count as age. So
    # would a pause there, of a busy machine: hence three looks further down.
    latest = time.time_ns() - time.process_time_ns()  # one thread can't work longer than it lives
    if sys.platform == "linux":
        try:
            with open("/proc/self/stat", "rb") as file:
                # Field 22: clock ticks since the machine was started, rounded down; see
                # proc_pid_stat(5).
                ticks = int(file.read().rpartition(b")")[2].split()[19])
        except OSError:  # /proc is not mounted
            return latest
        looks = [time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) for _ in range(3)]
        booted = max(looks)
        tick = 10**9 // os.sysconf("SC_CLK_TCK")
        earliest = booted + ticks * tick
        return min(max(latest, earliest), earliest + tick)
    return latest


STARTED = _started()  # the sooner it is asked, the more exactly it can be told
