"""The command: starts the program's interpreter, reads the options, and supervises the program.

The interpreter starts first, and then waits for its release: meanwhile the command reads the
options, which takes as long. So this module imports next to nothing before the start.

Runs in: the supervisor, on its main thread.
Owns: the first process of the program, until the supervisor takes it over.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms
import os
import sys

from .. import _backend
from .._common import spawn, startup
from .._common.command_line import split_command_line
from .._settings import OPTIONS, SWITCH

TYPE_CHECKING = False  # `typing` costs 2 ms, and the program has not been started yet
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from .._common.protocol import Message
    from .._settings import Settings

START_LIMIT = 1.0  # seconds that the program may start without being watched
FIRST_ANSWER_TIME = 0.02  # seconds in which it mostly has answered the first request
POLL_TIME = 20  # milliseconds between two looks at whether a signal has come
HANDLED_SIGNALS = {
    getattr(_signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(_signal, name)  # Windows lacks some
}
MODULE_FLAG = "-m"
# The letters of the switches. They may be joined, also with another option after them: -qm.
SWITCH_LETTERS = "".join(
    flag[1]
    for option in OPTIONS.values()
    if option.type == SWITCH
    for flag in option.flags
    if not flag.startswith("--")
)
FLAGS_WITH_VALUE = {
    flag for option in OPTIONS.values() if option.type != SWITCH for flag in option.flags
}


class FirstProcess:
    """The process of the first run, which waits for its release."""

    def __init__(self, target: list[str]) -> None:
        """Start *target*. Raises OSError."""
        self.pid, self.pipes = spawn.start_with_pipes(lambda pipes: spawn.spawn(target, pipes))

    def release(self, message: Message) -> None:
        """Let it begin, and wait until it serves, has ended, or has run for `START_LIMIT`.

        Until then the supervisor imports nothing more: it would slow down the program's start.
        A signal ends the wait.
        """
        import select
        import time

        from .._common.protocol import READ_SIZE, ServerListening, encode

        self.received = b""
        try:
            os.write(self.pipes[1], encode(message))
        except BrokenPipeError:  # it has ended, and SIGCHLD follows
            return
        poll = select.poll()
        poll.register(self.pipes[0], select.POLLIN)
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end and not _signal.sigpending() & HANDLED_SIGNALS:
            if poll.poll(POLL_TIME):
                data = os.read(self.pipes[0], READ_SIZE)
                self.received += data
                if ServerListening.__name__.encode() in self.received:
                    end = min(end, time.monotonic() + FIRST_ANSWER_TIME)
                if not data:
                    return

    def end(self) -> None:
        """End it: the command has refused its arguments, or printed its help."""
        os.kill(self.pid, 9)  # SIGKILL; `signal` costs 5 ms to import
        os.waitpid(self.pid, 0)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with *arguments*, by default those of the process; end with its status."""
    ours, target = split_arguments(sys.argv[1:] if arguments is None else list(arguments))
    first = None
    failure: object = startup.missing_interpreter()
    if not failure and spawn.CAN_SUPERVISE and target not in ([], [MODULE_FLAG]):
        try:
            first = _start(target)
        except OSError as error:
            failure = error
    try:
        settings = _read_settings(ours, target)
        if failure:
            _refuse(f"cannot start the program: {failure}")
    except BaseException:
        if first:
            first.end()
        raise
    if first:
        _supervise(settings, first)
    _run_here(settings)


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split *arguments* into the options of the command and the target.

    argparse alone would also take arguments of the target for options of the command.
    """
    index = 0
    while index < len(arguments) and arguments[index].startswith("-"):
        argument, rest = arguments[index], arguments[index + 1 :]
        if argument == "--":
            is_module = rest[:1] == [MODULE_FLAG]
            target = rest if is_module else split_command_line(arguments[index:])[1]
            return arguments[:index], target
        last = "" if argument.startswith("--") else argument[1:].lstrip(SWITCH_LETTERS)
        if last.startswith("m"):  # -m, -mNAME, -qm
            flags, name = argument.removesuffix(last), last[1:]
            ours = [flags] if flags != "-" else []
            return [*arguments[:index], *ours], [MODULE_FLAG, *([name] if name else []), *rest]
        index += 2 if {argument, f"-{last}"} & FLAGS_WITH_VALUE else 1
    return arguments[:index], arguments[index:]


def _start(target: list[str]) -> FirstProcess:
    _backend.disable_imports()
    os.environ.pop(spawn.RUN_INFO_VARIABLE, None)  # it was meant for this process
    os.environ[spawn.SUPERVISOR_VARIABLE] = str(os.getpid())
    # If SIGCHLD is ignored, the kernel discards the status of the program.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    return FirstProcess(target)


def _read_settings(arguments: list[str], target: list[str]) -> Settings:
    from . import options
    from .target import UsageError, check

    try:
        settings = options.parse(arguments, target)
        check(target)
        if settings.warm and not spawn.CAN_FORK:
            raise UsageError("--warm needs Linux: leave it out")
    except UsageError as error:
        _refuse(error)
    return settings


def _refuse(reason: object) -> NoReturn:
    sys.stderr.write(f"evreload: {reason}\n")
    sys.exit(2)


def _supervise(settings: Settings, first: FirstProcess) -> NoReturn:
    import time

    from .._common.protocol import Release
    from .parent_death import ParentDeathMonitor

    try:
        monitor = ParentDeathMonitor(first.pid)  # before there are threads
    except OSError as error:
        first.end()
        _refuse(f"cannot start the process that ends the program with the command: {error}")
    spawn.adopt_orphans()
    # These signals stay pending until the supervisor handles them.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, HANDLED_SIGNALS)
    release = Release(
        settings.grace,
        time.time_ns(),
        keep_sockets=settings.keep_sockets,
        lists_modules=settings.warm,
        full_exit=settings.full_exit,
    )
    first.release(release)
    from .._common import log
    from .program_process import ProgramProcess
    from .supervisor import Supervisor

    log.configure(quiet=settings.quiet, verbose=settings.verbose)
    process = ProgramProcess(first.pid, first.pipes, received=first.received)
    process.started_ns = release.started_ns
    sys.exit(Supervisor(settings, process, monitor).run())


def _run_here(settings: Settings) -> NoReturn:
    """Run the program in this process, then wait: Windows cannot pass pipes to a child."""
    import evreload

    from .._program.main_module import run_and_wait

    evreload.install()
    here = startup.working_directory()
    if not sys.flags.safe_path and here and here not in sys.path:
        sys.path.append(here)
    run_and_wait(settings.target, until_success=settings.until_success)
    sys.exit(0)
