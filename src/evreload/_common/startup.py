"""Reads the state in which this process began, before the program can change it; and restores it.

The state is the command line, the working directory, the umask, the niceness, the signals, the
offset of standard input, and the sockets of systemd. `terminal` does the same for the terminal.

Runs in: any process. The thread that imports evreload first reads the state; the main thread
restores it.
Owns: the values that were read. Only the client changes some, when it is released.
"""

from __future__ import annotations

import stat
import sys

from . import terminal as terminal  # so that it reads the state of the terminal now, too
from .command_line import split_command_line
from .unpatched import os, read_bytes

TYPE_CHECKING = False  # `typing` costs 2 ms, and this module is part of `import evreload`
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

INTERPRETERS = ("python", "pypy", "graalpy")  # how their names begin
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNNER = os.path.join(PACKAGE, "_program", "runner.py")

# Read on import: the program is free to change all of these before the restart.
PROCESS = os.getpid()


def _find_executable() -> str:
    """Return the path of the interpreter; an empty or wrong one if it cannot be known.

    Python derives `sys.executable` from the name that it was started by. A service manager or a
    shell (``exec -a``) may choose any name.
    """
    if sys.platform != "linux" or os.access(sys.executable or "", os.X_OK):
        return sys.executable or ""
    try:
        path = os.readlink("/proc/self/exe")
    except OSError:  # /proc is not mounted
        return sys.executable or ""
    # Not the program that Python is embedded in: it would not take Python's arguments.
    is_python = os.path.basename(path).startswith(INTERPRETERS) and os.access(path, os.X_OK)
    return path if is_python else sys.executable or ""


EXECUTABLE = _find_executable()
ARGUMENTS = list(sys.orig_argv)
FLAGS, TARGET = split_command_line(ARGUMENTS[1:])
# Not read later: a debugger's console sets `sys.ps1`, too, and does not remove it.
IS_INTERACTIVE = hasattr(sys, "ps1")


def _first_directory() -> str | None:
    """Return the working directory that the program was started in, as far as that can be known.

    The program may have changed it before this module was imported. But Python found a relative
    script there, and for ``-m`` it has made that directory the first of `sys.path`.
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
    # If the target is a directory or an archive, the main file is in it.
    for path in (main, os.path.dirname(main)):
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
    """Return up to which byte standard input was read, if it is a file; None if it is not.

    All processes that have inherited it share this offset.
    """
    try:
        return os.lseek(0, 0, os.SEEK_CUR) if stat.S_ISREG(os.fstat(0).st_mode) else None
    except OSError:  # it is closed
        return None


INPUT_OFFSET = input_offset()


def identity(descriptor: int) -> tuple[int, int]:
    """Return what distinguishes the file of *descriptor* from one that gets its number later.

    A program that becomes a daemon closes all its descriptors. Raises OSError if it is closed.
    """
    status = os.fstat(descriptor)
    return status.st_ino, status.st_dev


# In the environment: the process that systemd has started. See sd_listen_fds(3), sd_notify(3),
# systemd.exec(5). With *FDID* at the end, the name of the same as an inode.
PID_VARIABLES = ("LISTEN_PID", "WATCHDOG_PID", "MAINPID", "SYSTEMD_EXEC_PID")
FIRST_PASSED = 3  # the lowest descriptor that systemd passes


def take_identity(starter: int) -> None:
    """Put this process in the place of *starter*, as the one that systemd has started.

    A program takes the sockets that systemd passes only if LISTEN_PID is its own process ID.
    """
    for name in PID_VARIABLES:
        if os.environ.get(name) == str(starter):
            os.environ[name] = str(os.getpid())
            os.environ.pop(f"{name}FDID", None)


class PassedSockets:
    """The sockets that systemd has passed to this process, and the variables that say so.

    A program that takes them may remove the variables, and set the descriptors to be closed in an
    exec. After a restart in place it must find both.
    """

    def __init__(self) -> None:
        environment = os.environ
        self._variables: dict[str, str] = {}
        self._files: dict[int, tuple[int, int]] = {}
        count = environment.get("LISTEN_FDS", "")
        if environment.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal():
            names = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
            self._variables = {name: environment[name] for name in names if name in environment}
            for number in range(FIRST_PASSED, FIRST_PASSED + int(count)):
                with suppress(OSError):  # it is closed
                    self._files[number] = identity(number)

    def pass_on(self) -> dict[str, str]:
        """Keep the sockets open in an exec; return the variables, or nothing if one was closed."""
        try:
            if any(identity(number) != file for number, file in self._files.items()):
                return {}
        except OSError:
            return {}
        for number in self._files:
            os.set_inheritable(number, True)
        return self._variables


if sys.platform != "win32":
    import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms

    # An exec keeps blocked signals blocked, and ignored ones ignored. Unless they are restored, a
    # program that is restarted while it ignores SIGINT could not be interrupted any more.
    SIGNAL_MASK = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    IGNORED_SIGNALS = frozenset(
        number for number in _signal.valid_signals() if _signal.getsignal(number) == _signal.SIG_IGN
    )


def _started_ns() -> int:
    """Return when this process began, in nanoseconds since the epoch.

    The result is at most one clock tick too late, and always before Python has read any module.
    """
    import time

    # Each difference is of two clocks, read one right after the other. A pause in between would
    # make the process seem older; so the highest of three differences is taken below.
    latest = time.time_ns() - time.process_time_ns()  # its only thread has lived that long at least
    if sys.platform == "linux":
        try:
            # Field 22: clock ticks since the machine was started, rounded down; see
            # proc_pid_stat(5).
            ticks = int(read_bytes("/proc/self/stat").rpartition(b")")[2].split()[19])
        except OSError:  # /proc is not mounted
            return latest
        readings = [time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) for _ in range(3)]
        booted = max(readings)
        tick = 10**9 // os.sysconf("SC_CLK_TCK")
        earliest = booted + ticks * tick
        return min(max(latest, earliest), earliest + tick)
    return latest


def _umask() -> int:
    value = os.umask(0o077)  # there is no other way to read it
    os.umask(value)
    return value


UMASK = _umask()
NICENESS = os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0

STARTED_NS = _started_ns()  # read here: `latest` is the closer, the less the process has done


# Restoring the state


def missing_interpreter() -> str | None:
    """Return why Python cannot be started again; None if its interpreter exists."""
    if os.access(EXECUTABLE, os.X_OK):
        return None
    if not EXECUTABLE:
        return "Python does not know its own path: start it by the path of its interpreter"
    return f"the interpreter {EXECUTABLE} is not there any more"


def change_directory(path: str | None) -> None:
    """Make *path* the working directory, if it exists."""
    if path:
        with suppress(OSError):  # it was removed; a target with an absolute path runs even so
            os.chdir(path)


def is_working_directory(path: str | None) -> bool:
    """Whether *path* is the working directory; True, too, if either does not exist."""
    try:
        return path is None or os.path.samefile(os.curdir, path)
    except OSError:
        return True


def rewind_input() -> None:
    """Make the next run read standard input, if it is a file, from where the first run did."""
    if INPUT_OFFSET is not None:
        with suppress(OSError):  # the program has closed it, or replaced it by a pipe
            os.lseek(0, INPUT_OFFSET, os.SEEK_SET)


def restore_niceness() -> None:
    """Reset the niceness, if the system permits: only root may lower it."""
    if hasattr(os, "setpriority"):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def suppress(*errors: type[Exception]) -> AbstractContextManager[None]:
    """Do what `contextlib.suppress` does; that costs 4 ms to import, so only where it is needed."""
    import contextlib

    return contextlib.suppress(*errors)


if sys.platform != "win32":

    def restore_signals() -> None:
        """Block and ignore the signals that were blocked and ignored when the process began."""
        _signal.pthread_sigmask(_signal.SIG_SETMASK, SIGNAL_MASK)
        for number in _signal.valid_signals():
            before = _signal.SIG_IGN if number in IGNORED_SIGNALS else _signal.SIG_DFL
            # An exec itself resets all handlers, but keeps ignored signals ignored.
            if (_signal.getsignal(number) == _signal.SIG_IGN) != (before == _signal.SIG_IGN):
                with suppress(ValueError):  # only the main thread may
                    _signal.signal(number, before)


PASSED_SOCKETS = PassedSockets()
