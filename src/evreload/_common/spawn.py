"""Starts processes that run the program through the runner, and prepares their pipes.

Runs in: any process; the main thread, or the thread of its loop.
Owns: nothing.
"""

from __future__ import annotations

import os as patched_os
import sys

from . import startup
from .command_line import split_command_line
from .role import ALONE, PROGRAM, WORKER, Role
from .unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CAN_SUPERVISE = sys.platform != "win32"  # Windows can't pass descriptors to a child
# Only Linux gives the orphans of a fork to the supervisor; see `adopt_orphans`.
CAN_FORK = sys.platform == "linux"
# In the environment: what one run passes to the next, as JSON; see `run_info`.
RUN_INFO_VARIABLE = "EVRELOAD_RUN"
# In the environment of the program, and of all that it starts: the supervisor's process ID.
SUPERVISOR_VARIABLE = "EVRELOAD_PID"
# Bytes: a program may send thousands of messages before the supervisor reads the first one.
PIPE_SIZE = 1 << 20
PR_SET_CHILD_SUBREAPER = 36  # see prctl(2)


def runner_command(
    role: Role = Role(ALONE),  # noqa: B008  # immutable
    arguments: list[str] = startup.ARGUMENTS,
) -> list[str]:
    """Return the command that runs Python with *arguments* in *role*, through the runner.

    *arguments* begin with the interpreter; by default they are those of this process.
    """
    return [startup.EXECUTABLE, *startup.FLAGS, startup.RUNNER, str(role), *arguments]


def worker_command(
    command: list[str],
    pipes: Iterable[int],
    program: int,
    grace: float,
    *,
    full_exit: bool = False,
) -> list[str]:
    """Return the command that runs *command*, of Python, as a worker of the process *program*.

    *grace* and *full_exit* as in `Role`.
    """
    flags, _ = split_command_line(command[1:])
    role = Role(WORKER, tuple(pipes), program, grace=grace, full_exit=full_exit)
    return [command[0], *flags, startup.RUNNER, str(role), *command]


def spawn(target: list[str], pipes: Iterable[int], kind: str = PROGRAM) -> int:
    """Start *target* through the runner, with its ends of the *pipes*; return its process ID.

    Raises OSError if it cannot be started.
    """
    set_inheritable(pipes, True)
    arguments = [startup.ARGUMENTS[0], *startup.FLAGS, *target]
    command = runner_command(Role(kind, tuple(pipes)), arguments)
    # A debugger that runs the command replaces this function, to debug the program, too.
    return patched_os.posix_spawn(startup.EXECUTABLE, command, os.environ)


def start_with_pipes(
    start: Callable[[tuple[int, ...]], int],
) -> tuple[int, tuple[int, int, int]]:
    """Make pipes, and start a process by *start*.

    *start* takes the child's ends, and returns its process ID. Return that, and the parent's ends:
    to receive messages, to send messages, and the socket that passes sockets. Raises OSError if the
    process cannot be started.
    """
    import _socket  # not `socket`, which costs 5 ms before the program starts

    receive, child_send = os.pipe()
    child_receive, send = os.pipe()
    service, child_service = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    parent_ends = receive, send, service.detach()
    child_ends = child_send, child_receive, child_service.detach()
    set_capacity(receive, PIPE_SIZE)
    for number in parent_ends:
        os.set_blocking(number, False)
    try:
        return start(child_ends), parent_ends
    except OSError:
        for number in parent_ends:
            os.close(number)
        raise
    finally:
        for number in child_ends:
            os.close(number)


def adopt_orphans() -> None:
    """Make this process the parent of all descendants whose parent has ended: Linux only."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


# Pipes


def set_inheritable(descriptors: Iterable[int], value: bool) -> None:
    """Make *descriptors* stay open in an exec, or be closed."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, value)


def capacity(pipe: int) -> int:
    """Return how many bytes *pipe* holds at least."""
    if sys.platform == "linux":
        import fcntl

        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
    return 1 << 14  # of macOS, where a pipe grows when more is written


def set_capacity(pipe: int, size: int) -> None:
    """Make *pipe* hold *size* bytes, on Linux and within the limits of the user."""
    if sys.platform == "linux":
        import fcntl

        with startup.suppress(OSError):  # the user's limit is reached: the default size remains
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
