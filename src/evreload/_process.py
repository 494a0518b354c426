"""How this process began, and how it begins again.

The loop's thread, last of all: what happens here cannot be undone. Only this module and the
choice of observers ask for the platform.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

TYPE_CHECKING = False  # `typing` costs 2 ms, and this module is part of `import evreload`
if TYPE_CHECKING:
    from typing import Any, NoReturn

RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_program.py")

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
EXECUTABLE = sys.executable
ARGUMENTS = list(sys.orig_argv)
FLAGS, TARGET = split(ARGUMENTS[1:])


def _directory() -> str | None:
    """Return the working directory the program was started in, as far as can be told.

    It may have changed before this module was imported. A relative script was found in the old
    one, and ``-m`` put it at the head of the path.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = TARGET[0] if TARGET and not TARGET[0].startswith("-") else None
    if script and isinstance(main, str) and main.endswith(os.path.normpath(script)):
        start = main[: -len(os.path.normpath(script))]
        if os.path.isabs(start):
            return start
    if TARGET[:1] == ["-m"] and sys.path and os.path.isabs(sys.path[0]):
        if not sys.flags.safe_path and os.path.isdir(sys.path[0]):
            return sys.path[0]
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


DIRECTORY = _directory()


if sys.platform != "win32":
    import signal
    import termios

    # An exec keeps what is blocked and what is ignored. Left alone, a program that ignores
    # SIGINT for a moment could not be interrupted after a reload.
    MASK = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    IGNORED = frozenset(
        number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN
    )

    TERMINAL: list[Any] | None = None  # standard input is no terminal
    with contextlib.suppress(termios.error):
        TERMINAL = termios.tcgetattr(0)


def obstacle() -> str | None:
    """Return why this process cannot begin again, or None if it can."""
    if getattr(sys, "frozen", False):
        return "a frozen program has no source files to watch"
    if "ipykernel" in sys.modules:
        return "restarting a Jupyter kernel would lose its session"
    if not EXECUTABLE or not ARGUMENTS:
        return "Python is embedded in another program, which only that program can restart"
    if not TARGET or hasattr(sys, "ps1"):
        return "an interactive session cannot be started again"
    if TARGET[0] in ("-", "/dev/stdin"):
        return "the program was read from standard input, which cannot be read again"
    return None


def command_line() -> list[str]:
    """Return the arguments that run the same program again, by way of our runner."""
    return [EXECUTABLE, *FLAGS, RUNNER, ARGUMENTS[0], *TARGET]


def started() -> int:
    """Return when this process began; nanoseconds since the epoch.

    That is at most a moment too late, and always before Python could read the first module.
    """
    import time

    now = time.time_ns()
    latest = now - time.process_time_ns()  # it cannot have worked for longer than it lives
    if sys.platform == "linux":
        with open("/proc/self/stat", "rb") as file:
            # Field 22: clock ticks since the machine was started, rounded down; see
            # proc_pid_stat(5).
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - (ticks + 1) / os.sysconf("SC_CLK_TCK")
        return min(latest, now - int(age * 1e9))
    return latest


def restart(environment: dict[str, str]) -> NoReturn:
    """Begin again, with *environment* added to our own.

    Raises OSError if that fails, and the process runs on. On Windows, where nothing can take a
    process's place, the program begins in another one and this one ends.
    """
    os.environ.update(environment)
    if not os.access(EXECUTABLE, os.X_OK):
        raise FileNotFoundError(f"the interpreter {EXECUTABLE} is not there any more")
    _end_workers()
    _flush()
    if DIRECTORY:
        with contextlib.suppress(OSError):  # it is gone; an absolute target runs from anywhere
            os.chdir(DIRECTORY)
    _exec(command_line())


if sys.platform == "win32":

    def _exec(command: list[str]) -> NoReturn:
        # os.execv is broken there: it starts a new process and mangles its arguments.
        import subprocess

        subprocess.Popen(command)
        os._exit(0)

else:

    def _exec(command: list[str]) -> NoReturn:
        _clear_timers()
        _restore_signals()
        _restore_terminal()
        os.execv(command[0], command)

    def _clear_timers() -> None:
        """Stop the timers: they outlive the exec, but the handlers of their signals do not."""
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)

    def _restore_signals() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, MASK)
        if threading.current_thread() is threading.main_thread():  # no other may
            for number in signal.valid_signals() - IGNORED:
                if signal.getsignal(number) is signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)

    def _restore_terminal() -> None:
        """Give the terminal back its modes, which getpass, pdb or curses may have changed."""
        with contextlib.suppress(OSError, termios.error):  # it was hung up
            # From the background it would stop us instead.
            if TERMINAL is not None and os.getpgrp() == os.tcgetpgrp(0):
                termios.tcsetattr(0, termios.TCSADRAIN, TERMINAL)


def _end_workers() -> None:
    """End the processes of multiprocessing's pools: nobody would be left to reap them."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(1)
        if worker.is_alive():
            worker.kill()
            worker.join(1)


def _flush() -> None:
    """Write out what stdio and logging hold back."""
    for stream in (sys.stdout, sys.stderr):
        # None, closed, or its reader has gone: there is nobody to tell.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    logging = sys.modules.get("logging")
    if logging is None:
        return
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            with contextlib.suppress(Exception):  # a user's handler may do anything
                handler.flush()
