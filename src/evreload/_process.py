"""How this process began, and how it begins again.

The loop's thread, last of all: what happens here cannot be undone. Only this module and the
choice of observers ask for the platform.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` costs 2 ms, and this module is part of `import evreload`
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from typing import Any, NoReturn

# What the runner is told in place of the pipes to a parent.
ALONE = "-"  # there is none
PLAINLY = "="  # nor is anything to be done about a failure
OF = ",of "  # after the pipes: the program that this is a worker of
FORKS = "forks,"  # before the pipes: this is no program yet, but is to fork it
WARM = ",warm"  # after the pipes: what this imports is wanted for the next run
RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_program.py")

# CPython's options that take a value, attached or in the next argument; see `python --help`.
WITH_VALUE = "WX"
TARGETS = "cm"
LONG_WITH_VALUE = "--check-hash-based-pycs"

POOLS_PATIENCE = 2.0  # seconds until the workers of a pool are killed


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


def _first_directory() -> str | None:
    """Return the working directory the program was started in, as far as can be told.

    It may have changed before this module was imported. A relative script was found in the old
    one, and ``-m`` put it at the head of the path.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    here = directory()
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


def directory() -> str | None:
    """Return the working directory, if there is one."""
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


DIRECTORY = _first_directory()


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


def obstacle() -> str | None:
    """Return why this process cannot begin again, or None if it can."""
    if getattr(sys, "frozen", False):
        return "a frozen program has no source files to watch"
    if "ipykernel" in sys.modules:
        return "restarting a Jupyter kernel would lose its session"
    if not EXECUTABLE or not ARGUMENTS:
        return "Python is embedded in another program, which only that program can restart"
    if hasattr(sys, "ps1"):
        return "an interactive session cannot be started again"
    if not TARGET or TARGET[0] in ("-", "/dev/stdin") or _is_stream(TARGET[0]):
        return "the program was read from a stream, which cannot be read again"
    return None


def _is_stream(path: str) -> bool:
    return path.startswith("/dev/fd/")  # bash's `python <(...)`


def command_line(mode: str = ALONE, arguments: list[str] = ARGUMENTS) -> list[str]:
    """Return what runs Python with *arguments*, by default the same again, through our runner.

    Under a parent *mode* names the pipes to it.
    """
    return [EXECUTABLE, *FLAGS, RUNNER, mode, *arguments]


def _started() -> int:
    """Return when this process began; nanoseconds since the epoch.

    That is at most a moment too late, and always before Python could read the first module.
    """
    import time

    # Two clocks are compared in one expression: whatever came between would count as age.
    latest = time.time_ns() - time.process_time_ns()  # one thread can't work longer than it lives
    if sys.platform == "linux":
        with open("/proc/self/stat", "rb") as file:
            # Field 22: clock ticks since the machine was started, rounded down; see
            # proc_pid_stat(5).
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        booted = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        tick = 10**9 // os.sysconf("SC_CLK_TCK")
        earliest = booted + ticks * tick
        return min(max(latest, earliest), earliest + tick)
    return latest


STARTED = _started()  # the sooner it is asked, the more exactly it can be told


def worker_command(command: list[str], pipes: Iterable[int], program: int) -> list[str]:
    """Return what runs *command*, Python's, as a worker of the process *program*."""
    flags, _ = split(command[1:])
    return [command[0], *flags, RUNNER, f"{mode_for(pipes)}{OF}{program}", *command]


def mode_for(pipes: Iterable[int], *, warm: bool = False, forks: bool = False) -> str:
    """Return what the runner of a program is told that has *pipes* to its parent."""
    return (FORKS if forks else "") + ",".join(map(str, pipes)) + (WARM if warm else "")


def pipes_of(mode: str) -> list[int]:
    """Return the pipes that *mode* names."""
    return [int(number) for number in mode.split(",") if number.isdigit()]


def program_of(mode: str) -> int | None:
    """Return the program's process id, if *mode* says that this is a worker of it."""
    return int(mode.partition(OF)[2] or 0) or None


def interpreter_missing() -> str | None:
    """Return what keeps Python from being started again, or None if it is still there."""
    if os.access(EXECUTABLE, os.X_OK):
        return None
    return f"the interpreter {EXECUTABLE} is not there any more"


def restart(
    environment: dict[str, str], mode: str = ALONE, arguments: list[str] = ARGUMENTS
) -> NoReturn:
    """Begin again, with *environment* added to our own.

    *mode* is for the runner, *arguments* are for Python. Raises OSError if that fails, and the
    process runs on. On Windows, where nothing can take a process's place, the program begins in
    another and this one ends.
    """
    if reason := interpreter_missing():
        raise FileNotFoundError(reason)
    _end_workers()
    flush()
    here = directory()
    go_to(DIRECTORY)
    try:
        _exec(command_line(mode, arguments), {**os.environ, **environment})
    except OSError:
        go_to(here)
        raise


def _ignoring(*errors: type[Exception]) -> AbstractContextManager[None]:
    import contextlib  # 4 ms of a program's start, and needed only at its end

    return contextlib.suppress(*errors)


def go_to(place: str | None) -> None:
    """Make *place* the working directory, if it is there."""
    if place:
        with _ignoring(OSError):  # it is gone; an absolute target runs from anywhere
            os.chdir(place)


def is_at(place: str | None) -> bool:
    """Whether the working directory is what bears the name *place* now, if anything does."""
    try:
        return place is None or os.path.samefile(os.curdir, place)
    except OSError:
        return True


def restart_under_command(options: list[str]) -> NoReturn:
    """Begin again as ``python -m evreload``, with *options*, and the program as its child."""
    restart({}, PLAINLY, [ARGUMENTS[0], *FLAGS, "-m", __package__, *options, *TARGET])


CAN_SUPERVISE = sys.platform != "win32"  # there, a child can't be handed descriptors


CAN_FORK = sys.platform == "linux"  # what a fork leaves behind comes to us there, and only there


def spawn(
    target: list[str], pipes: Iterable[int], *, warm: bool = False, forks: bool = False
) -> int:
    """Start *target* through our runner, with *pipes* to us; return its process id."""
    for descriptor in pipes:
        os.set_inheritable(descriptor, True)
    arguments = [ARGUMENTS[0], *FLAGS, *target]
    command = command_line(mode_for(pipes, warm=warm, forks=forks), arguments)
    return os.posix_spawn(EXECUTABLE, command, os.environ)


def awaits_signal(pid: int) -> bool:
    """Whether the main thread of *pid* is in `signal.pause`, which ours would end; on Linux."""
    with _ignoring(OSError), open(f"/proc/{pid}/wchan") as file:
        return file.read().endswith(("sys_pause", "sigsuspend"))
    return False


def widen(pipe: int, size: int) -> None:
    """Let *pipe* hold *size* bytes, where that can be set."""
    if sys.platform == "linux":
        import fcntl

        with _ignoring(OSError):  # beyond the user's share: the default will do
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)


def adopt_orphans() -> None:
    """Become the parent of all descendants that lose theirs: Linux only."""
    if sys.platform == "linux":
        import ctypes

        PR_SET_CHILD_SUBREAPER = 36
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if sys.platform == "win32":

    def _exec(command: list[str], environment: dict[str, str]) -> NoReturn:
        # os.execve is broken there: it starts a new process and mangles its arguments.
        import subprocess

        subprocess.Popen(command, env=environment)
        os._exit(0)

else:

    def _exec(command: list[str], environment: dict[str, str]) -> NoReturn:
        _clear_timers()
        _restore_signals()
        restore_terminal()
        os.execve(command[0], command, environment)

    def _clear_timers() -> None:
        """Stop the timers: they outlive the exec, but the handlers of their signals do not."""
        for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
            _signal.setitimer(timer, 0)

    def _restore_signals() -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, MASK)
        for number in _signal.valid_signals() - IGNORED:
            if _signal.getsignal(number) == _signal.SIG_IGN:
                with _ignoring(ValueError):  # only the main thread may
                    _signal.signal(number, _signal.SIG_DFL)

    def restore_terminal() -> None:
        """Give the terminal back its modes, which getpass, pdb or curses may have changed."""
        if TERMINAL is None:
            return
        import termios

        with _ignoring(OSError, termios.error):  # it was hung up
            if not _exists(os.tcgetpgrp(0)):
                _take_foreground()
            # From the background it would stop us instead.
            if os.getpgrp() == os.tcgetpgrp(0):
                termios.tcsetattr(0, termios.TCSADRAIN, TERMINAL)

    def _exists(group: int) -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            return True
        return True

    def _take_foreground() -> None:
        """Take the terminal's foreground back: who took it, a shell that we ran, has ended."""
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGTTOU])  # it would stop us
        os.tcsetpgrp(0, os.getpgrp())
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def _end_workers() -> None:
    """End the processes of multiprocessing's pools: nobody would be left to reap them."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return
    _end_pools()
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        with _ignoring(AssertionError):  # a child of the process we were forked from
            worker.join(1)
            if worker.is_alive():
                worker.kill()
                worker.join(1)


def _end_pools() -> None:
    """End the pools as at the end of a program: they replace workers that are merely killed."""
    import threading

    finalize = getattr(sys.modules.get("multiprocessing.util"), "_run_finalizers", None)
    if finalize:
        # On a thread, since it may wait for a worker that never answers.
        ending = threading.Thread(target=finalize, args=(0,), daemon=True)
        ending.start()
        ending.join(POOLS_PATIENCE)


def flush() -> None:
    """Write out what stdio and logging hold back."""
    for stream in (sys.stdout, sys.stderr):
        # None, closed, or its reader has gone: there is nobody to tell.
        with _ignoring(AttributeError, OSError, ValueError):
            stream.flush()
    logging = sys.modules.get("logging")
    if logging is None:
        return
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            with _ignoring(Exception):  # a user's handler may do anything
                handler.flush()
