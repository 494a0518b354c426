"""Restarts the program in place: the exec, and the steps before it.

Runs in: the program, in both modes, on the thread of its loop or the main thread.
Owns: nothing. After a successful exec there is nothing left of the run before.
"""

from __future__ import annotations

import sys

from .._common import startup, terminal
from .._common.role import ALONE, PLAIN, Role
from .._common.spawn import runner_command
from .._common.startup import suppress
from .._common.unpatched import os
from .output import flush_output

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from typing import NoReturn

POOL_TIMEOUT = 2.0  # seconds until the workers of a multiprocessing pool are killed


def obstacle() -> str | None:
    """Return why this process cannot be restarted, or None if it can."""
    if getattr(sys, "frozen", False):
        return "a frozen program has no source files to watch"
    if _is_kernel():
        return "restarting a Jupyter kernel would lose its session"
    if not startup.EXECUTABLE or not startup.ARGUMENTS:
        return "Python is embedded in another program, which only that program can restart"
    if startup.IS_INTERACTIVE:
        return "an interactive session cannot be started again"
    target = next(iter(startup.TARGET), "-")
    if target in ("-", "/dev/stdin") or target.startswith("/dev/fd/"):  # bash's `python <(...)`
        return "the program was read from a stream, which cannot be read again"
    return None


def _is_kernel() -> bool:
    """Whether a Jupyter kernel runs in this process; a program may merely have imported one."""
    application = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return bool(application and application.initialized())


def restart(
    environment: dict[str, str],
    role: Role = Role(ALONE),  # noqa: B008  # immutable
    arguments: list[str] = startup.ARGUMENTS,
) -> NoReturn:
    """Restart in place, with *environment* added to the present one.

    *role* is for the runner, *arguments* are for Python. Raises OSError if that fails: the process
    goes on, but its workers have ended. On Windows, where an exec does not replace the process, the
    program starts in another process, and this one ends.
    """
    if reason := startup.missing_interpreter():
        raise FileNotFoundError(reason)
    _end_workers()
    flush_output()
    here = startup.working_directory()
    umask = os.umask(startup.UMASK)
    startup.change_directory(startup.DIRECTORY)
    try:
        startup.rewind_input()
        command = runner_command(role, arguments)
        environment = {**os.environ, **startup.PASSED_SOCKETS.pass_on(), **environment}
        if sys.platform == "win32":
            _replace_process(command, environment)
        _stop_timers()
        startup.restore_signals()
        startup.restore_niceness()
        terminal.restore()
        os.execve(command[0], command, environment)
    except OSError:
        startup.change_directory(here)
        os.umask(umask)
        raise


def restart_under_command(options: list[str]) -> NoReturn:
    """Restart in place as ``python -m evreload`` with *options*; the program becomes its child."""
    python = [startup.ARGUMENTS[0], *startup.FLAGS]
    restart({}, Role(PLAIN), [*python, "-m", "evreload", *options, *startup.TARGET])


def _replace_process(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Start *command* and end this process: on Windows, in place of an exec."""
    # os.execve starts another process there, and splits arguments that hold spaces:
    # https://github.com/python/cpython/issues/101191
    # https://github.com/python/cpython/issues/143328
    import subprocess

    subprocess.Popen(command, env=environment)
    os._exit(0)


if sys.platform != "win32":
    import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms

    def _stop_timers() -> None:
        """Stop the interval timers: an exec keeps them, but not the handlers of their signals."""
        for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
            _signal.setitimer(timer, 0)


def _end_workers() -> None:
    """End the processes of multiprocessing: after the exec, no code would reap them."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return
    _end_pools()
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        with suppress(AssertionError):  # not a child of this process, but of the one it forked from
            worker.join(1)
            if worker.is_alive():
                worker.kill()
                worker.join(1)


def _end_pools() -> None:
    """End multiprocessing's pools as Python does at exit: a pool replaces a killed worker."""
    import threading

    finalize = getattr(sys.modules.get("multiprocessing.util"), "_run_finalizers", None)
    if finalize:
        # On another thread: it may wait for a worker that never answers.
        ending = threading.Thread(target=finalize, args=(0,), daemon=True)
        ending.start()
        ending.join(POOL_TIMEOUT)
