"""The command: starts the program's interpreter, reads the options, and supervises the program.

The interpreter starts first, and then waits for its release: meanwhile the command reads the
options, which takes as long. So this module imports next to nothing before the start.

Runs in: the supervisor, on its main thread.
Owns: the first process of the program, until the supervisor takes it over.
"""

from __future__ import annotations

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

    from .._settings import Settings

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

    def end(self) -> None:
        """End it: the command has refused its arguments, or printed its help."""
        os.kill(self.pid, 9)  # SIGKILL; `signal` costs 5 ms to import
        os.waitpid(self.pid, 0)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with *arguments*, by default those of the process; end with its status."""
    ours, target = split_arguments(sys.argv[1:] if arguments is None else list(arguments))
    first = failure = None
    if spawn.CAN_SUPERVISE and target not in ([], [MODULE_FLAG]):
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
    import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms

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
    import contextlib
    import signal
    import time

    from .._common.protocol import Release, encode
    from .parent_death import ParentDeathMonitor

    try:
        monitor = ParentDeathMonitor()  # before there are threads
    except OSError as error:
        first.end()
        _refuse(f"cannot start the process that ends the program with the command: {error}")
    monitor.protect(first.pid)
    release = Release(
        settings.grace,
        time.time_ns(),
        keep_sockets=settings.keep_sockets,
        lists_modules=settings.warm,
    )
    with contextlib.suppress(BrokenPipeError):  # it has ended, and SIGCHLD follows
        os.write(first.pipes[1], encode(release))
    # These signals stay pending until the supervisor handles them.
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    spawn.adopt_orphans()
    # The program is starting: meanwhile the supervisor imports what it needs to watch files.
    from .._common import log
    from .program_process import ProgramProcess
    from .supervisor import Supervisor
    from .target import reloader_remedy

    log.configure(quiet=settings.quiet, verbose=settings.verbose)
    if remedy := reloader_remedy(settings.target):
        log.logger.warning("the program has a reloader of its own, and it is on: %s", remedy)
    process = ProgramProcess(first.pid, first.pipes)
    process.started_ns = release.started_ns
    sys.exit(Supervisor(settings, process, monitor).run())


def _run_here(settings: Settings) -> NoReturn:
    """Run the program in this process, then wait: Windows cannot pass pipes to a child."""
    import evreload

    from .._program.runner import run_and_wait

    evreload.install()
    here = startup.working_directory()
    if not sys.flags.safe_path and here and here not in sys.path:
        sys.path.append(here)
    run_and_wait(settings.target, until_success=settings.until_success)
    sys.exit(0)
