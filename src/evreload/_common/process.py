"""How this process begins again, and how others begin that run the program.

The loop's thread, last of all: what happens here cannot be undone.
"""

from __future__ import annotations

import os
import sys

from . import startup as _origin

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from typing import NoReturn

# What the runner is told in place of the pipes to a parent.
ALONE = "-"  # there is none
PLAINLY = "="  # nor is anything to be done about a failure
OF = ",of "  # after the pipes: the program that this is a worker of
FORKS = "forks,"  # before the pipes: this is no program yet, but is to fork it
WARM = ",warm"  # after the pipes: what this imports is wanted for the next run

POOLS_PATIENCE = 2.0  # seconds until the workers of a pool are killed


def command_line(mode: str = ALONE, arguments: list[str] = _origin.ARGUMENTS) -> list[str]:
    """Return what runs Python with *arguments*, by default the same again, through our runner.

    Under a parent *mode* names the pipes to it.
    """
    return [_origin.EXECUTABLE, *_origin.FLAGS, _origin.RUNNER, mode, *arguments]


def worker_command(command: list[str], pipes: Iterable[int], program: int) -> list[str]:
    """Return what runs *command*, Python's, as a worker of the process *program*."""
    flags, _ = _origin.split(command[1:])
    return [command[0], *flags, _origin.RUNNER, f"{mode_for(pipes)}{OF}{program}", *command]


def mode_for(pipes: Iterable[int], *, warm: bool = False, forks: bool = False) -> str:
    """Return what the runner of a program is told that has *pipes* to its parent."""
    return (FORKS if forks else "") + ",".join(map(str, pipes)) + (WARM if warm else "")


def pipes_of(mode: str) -> list[int]:
    """Return the pipes that *mode* names."""
    return [int(number) for number in mode.split(",") if number.isdigit()]


def program_of(mode: str) -> int | None:
    """Return the program's process id, if *mode* says that this is a worker of it."""
    return int(mode.partition(OF)[2] or 0) or None


def obstacle() -> str | None:
    """Return why this process cannot begin again, or None if it can."""
    if getattr(sys, "frozen", False):
        return "a frozen program has no source files to watch"
    if _is_kernel():
        return "restarting a Jupyter kernel would lose its session"
    if not _origin.EXECUTABLE or not _origin.ARGUMENTS:
        return "Python is embedded in another program, which only that program can restart"
    if _origin.IS_SESSION:
        return "an interactive session cannot be started again"
    target = next(iter(_origin.TARGET), "-")
    if target in ("-", "/dev/stdin") or target.startswith("/dev/fd/"):  # bash's `python <(...)`
        return "the program was read from a stream, which cannot be read again"
    return None


def _is_kernel() -> bool:
    """Whether a Jupyter kernel runs in this process; a program may import one for its own ends."""
    application = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return bool(application and application.initialized())


def interpreter_missing() -> str | None:
    """Return what keeps Python from being started again, or None if it is still there."""
    if os.access(_origin.EXECUTABLE, os.X_OK):
        return None
    return f"the interpreter {_origin.EXECUTABLE} is not there any more"


def restart(
    environment: dict[str, str], mode: str = ALONE, arguments: list[str] = _origin.ARGUMENTS
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
    here = _origin.working_directory()
    go_to(_origin.DIRECTORY)
    try:
        rewind_input()
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


def rewind_input() -> None:
    """Have the next run read standard input, if it is a file, from where the first one did."""
    if _origin.INPUT_AT is not None:
        with _ignoring(OSError):  # the program has closed it, or put something else in its place
            os.lseek(0, _origin.INPUT_AT, os.SEEK_SET)


def is_at(place: str | None) -> bool:
    """Whether the working directory is what bears the name *place* now, if anything does."""
    try:
        return place is None or os.path.samefile(os.curdir, place)
    except OSError:
        return True


def restart_under_command(options: list[str]) -> NoReturn:
    """Begin again as ``python -m evreload``, with *options*, and the program as its child."""
    python = [_origin.ARGUMENTS[0], *_origin.FLAGS]
    restart({}, PLAINLY, [*python, "-m", "evreload", *options, *_origin.TARGET])


CAN_SUPERVISE = sys.platform != "win32"  # there, a child can't be handed descriptors
CAN_FORK = sys.platform == "linux"  # what a fork leaves behind comes to us there, and only there


def spawn(
    target: list[str], pipes: Iterable[int], *, warm: bool = False, forks: bool = False
) -> int:
    """Start *target* through our runner, with *pipes* to us; return its process id."""
    set_inheritable(pipes, True)
    arguments = [_origin.ARGUMENTS[0], *_origin.FLAGS, *target]
    command = command_line(mode_for(pipes, warm=warm, forks=forks), arguments)
    return os.posix_spawn(_origin.EXECUTABLE, command, os.environ)


def capacity(pipe: int) -> int:
    """Return how many bytes *pipe* holds at least."""
    if sys.platform == "linux":
        import fcntl

        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    return 1 << 14  # of macOS, which gives more when it is asked


def identity(descriptor: int) -> tuple[int, int]:
    """Return what tells this file from another that may come to have the number.

    A daemon closes whatever it has inherited.
    """
    status = os.fstat(descriptor)
    return status.st_ino, status.st_dev


def set_inheritable(descriptors: Iterable[int], value: bool) -> None:
    """Let *descriptors* pass, or not, through an exec."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, value)


def awaits_signal(pid: int) -> bool:
    """Whether the main thread of *pid* is in `signal.pause`, which ours would end; on Linux.

    Or in `signal.sigwait`, where it hears of no other signal.
    """
    with _ignoring(OSError), open(f"/proc/{pid}/wchan") as file:
        where = file.read()  # a function of the kernel, with what its compiler has appended
        return any(name in where for name in ("sys_pause", "sigsuspend", "sigtimedwait"))
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
    import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms

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
        _signal.pthread_sigmask(_signal.SIG_SETMASK, _origin.MASK)
        for number in _signal.valid_signals():
            before = _signal.SIG_IGN if number in _origin.IGNORED else _signal.SIG_DFL
            # An exec lets what is ignored be so, and ends all handlers.
            if (_signal.getsignal(number) == _signal.SIG_IGN) != (before == _signal.SIG_IGN):
                with _ignoring(ValueError):  # only the main thread may
                    _signal.signal(number, before)

    def restore_terminal() -> None:
        """Give the terminal back its modes, which getpass, pdb or curses may have changed."""
        if _origin.TERMINAL is None:
            return
        import termios

        with _ignoring(OSError, termios.error):  # it was hung up
            if not _exists(os.tcgetpgrp(0)):
                _take_foreground()
            # From the background it would stop us instead.
            if os.getpgrp() == os.tcgetpgrp(0):
                termios.tcsetattr(0, termios.TCSADRAIN, _origin.TERMINAL)

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
        # None, closed, or its reader has gone: there is nobody to tell. A signal's handler, as we
        # may be in, can't where it came amid a write. And it may be anything of the user's.
        with _ignoring(Exception):
            stream.flush()
    root = getattr(sys.modules.get("logging"), "root", None)
    manager = getattr(root, "manager", None)
    if manager is None:  # or it is just being imported
        return
    for logger in [root, *manager.loggerDict.values()]:
        for handler in getattr(logger, "handlers", ()):
            with _ignoring(Exception):  # a user's handler may do anything
                handler.flush()
