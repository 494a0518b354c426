"""Supervised mode: this process watches, and the program is its child.

The program may crash, hang, fork or be half-written: the supervisor still runs.

Runs in: the supervisor, on its loop's thread.
Owns: the present run, the watcher, the kept sockets, and what is passed to the next run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from socket import socket

from .._common import half_saved as half_saving
from .._common import log, protocol, startup, terminal
from .._common.filestat import changed_since, file_time
from .._common.half_saved import half_saved
from .._common.log import HALF_SAVED, STILL_RUNNING, WAITING, name_some, shorten
from .._common.own_writes import OwnWrites
from .._common.run_info import RunInfo
from .._common.source import delete_bytecode, is_source
from .._settings import Settings
from .._watch.listener import Changes, WatchRequest
from .._watch.owner_loop import AsyncioLoop
from .._watch.syntax_check import SyntaxCheck
from .._watch.watcher import FileWatcher
from . import target
from .life_cycle import Event, State
from .message_reader import MessageReader
from .parent_death import ParentDeathMonitor
from .program_process import ProgramProcess
from .shutdown import Shutdown
from .socket_store import SocketStore
from .spare import Spare

HELD_INTERVAL = 0.2  # seconds between two looks whether lines that were held can be printed
START_TIME = 2.0  # seconds after which a program that does not listen counts as up
CLAIM_TIME = 2.0  # seconds that the program has, after each socket, to claim another kept one
CLAIM_TIME_OTHER = 10.0  # seconds that it has if it listens only where no socket can be kept
MAX_CLAIM_TIME = 60.0  # a socket that listens after so many seconds is that of a later worker
SPARE_DELAY = 0.2  # seconds until the spare is started: the program needs the processor first
INTERRUPTED = 128 + signal.SIGINT
# Seconds. If a signal for the whole process group has ended the program, the supervisor gets it
# within this time.
GROUP_SIGNAL_WINDOW = 0.05
# Seconds. npm and others pass on a Ctrl-C that the group has got: this is no second Ctrl-C.
SECOND_INTERRUPT_DELAY = 0.5

logger = logging.getLogger("evreload")


class Supervisor:
    """Runs the program, and runs it again."""

    def __init__(
        self, settings: Settings, first: ProgramProcess, monitor: ParentDeathMonitor
    ) -> None:
        self._settings = settings
        self._process = first
        self._monitor = monitor
        self._directory = startup.working_directory()
        self._script = target.script(settings.target)
        self._spare = Spare(settings, first, self._request, self._protect)
        self.run_info = RunInfo(0, (), first.started_ns, {})
        self._shutdown = Shutdown(settings, self._spared, lambda: self._sockets.has_claimed)
        self._sockets = SocketStore(self._shutdown.members)
        self._syntax_check = SyntaxCheck(
            self._is_code, lambda path: self._watcher.transformed_source(path), shorten
        )
        self._bytecode_prefixes: set[str] = set()  # of all runs
        self._changes: Changes = {}
        self._restart_task: asyncio.Task[None] | None = None
        self._start_timer: asyncio.TimerHandle | None = None
        self._claim_timer: asyncio.TimerHandle | None = None
        self._longest_claim = 0.0  # seconds from the start of a run until it claimed a socket
        self._triggered_at = 0.0  # when the change came that leads to the next run; time.monotonic
        self._interrupted_at = 0.0  # by time.monotonic
        self._has_warned_of_reloader = self._has_warned_of_exec = False

    def run(self) -> int:
        """Supervise until the end; return the status to exit with."""
        status = asyncio.run(self._supervise(), debug=False)
        self._process.close()
        return status

    async def _supervise(self) -> int:
        if remedy := target.reloader_remedy(self._settings.target):
            self._warn_of_reloader(remedy)
        self._loop = loop = asyncio.get_running_loop()
        self._end: asyncio.Future[int] = loop.create_future()
        if screen := log.screen():
            screen.on_hold = self._on_lines_held
        for number, handler in self._signal_handlers().items():
            # Ignored signals stay ignored, such as SIGHUP under nohup; SIGCHLD is needed.
            if number not in startup.IGNORED_SIGNALS or number == signal.SIGCHLD:
                loop.add_signal_handler(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, startup.SIGNAL_MASK)
        self._messages = MessageReader(
            self._process,
            self._handle,
            self._serve_sockets,
            is_urgent=lambda: self._shutdown.awaits_answer,
        )
        self._watcher = FileWatcher(self._settings, self, AsyncioLoop())
        self._watcher.start(self._user_requests(self._process))
        self._attach(self._process)
        self._messages.read()  # what the command has received before
        self._reap()  # it may have ended already
        status = await self._end
        await self._stop_everything(status)
        self._watcher.stop()
        return status

    def _signal_handlers(self) -> dict[int, Callable[[], None]]:
        return {
            signal.SIGCHLD: self._reap,
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: lambda: self._finish(128 + signal.SIGTERM),
            signal.SIGHUP: lambda: self._finish(128 + signal.SIGHUP),
            signal.SIGUSR1: lambda: self.on_changes({}),
        }

    # The listener of the watcher

    def on_changes(self, changes: Changes) -> None:
        """Restart the program for *changes*, or without any, as for SIGUSR1."""
        if self._end.done():
            return
        self._changes = changes
        self._triggered_at = self._watcher.triggered_at if changes else time.monotonic()
        if self._restart_task is None or self._restart_task.done():
            self._restart_task = asyncio.create_task(self._restart())

    def on_watching(self) -> None:
        """Do nothing: the supervisor calls `program_is_up` itself, when the program is up."""

    def may_continue(self) -> bool:
        """Return True: the supervisor always watches."""
        return True

    def new_requests(self) -> Iterable[WatchRequest]:
        """Return nothing: the program sends all its requests."""
        return ()

    def own_writes(self) -> OwnWrites:
        """Return what the program has written itself, according to all messages so far."""
        return self._messages.own_writes()

    def _is_code(self, path: str) -> bool:
        is_code = is_source(path) or path == self._script
        return is_code and self._watcher.is_requested(path)

    def _request(self, requests: set[WatchRequest]) -> None:
        self._watcher.request_now(requests)

    def _user_requests(self, process: ProgramProcess) -> list[WatchRequest]:
        """Return the paths of --watch."""
        return [
            WatchRequest(path, process.started_ns, is_explicit=True)
            for path in self._settings.watch
        ]

    # Messages from the program

    def _attach(self, process: ProgramProcess) -> None:
        self._protect()
        self._messages.attach(process)
        self._await_start(process)

    def _await_start(self, process: ProgramProcess) -> None:
        """Take *process* for up after START_TIME, whatever it does."""
        if self._start_timer:
            self._start_timer.cancel()
        loop = asyncio.get_running_loop()
        self._start_timer = loop.call_later(START_TIME, self._on_start_timer, process)

    def _on_start_timer(self, process: ProgramProcess) -> None:
        if process.state is State.SPARE:  # the machine is slow: the first line has not run yet
            self._await_start(process)
        else:
            self._on_up(process)

    def _handle(self, messages: list[protocol.Message]) -> None:
        process = self._process
        listened_before = process.listening_at
        requests: set[WatchRequest] = set()
        for message in messages:
            process.note(message)
            match message:
                case protocol.FileRead(path, read_ns, is_plain=is_plain):
                    requests.add(WatchRequest(path, read_ns, is_plain=is_plain))
                case protocol.WatchRequested(path, read_ns):
                    requests.add(WatchRequest(path, read_ns, is_explicit=True))
                case protocol.BytecodeCached(prefix):
                    self._bytecode_prefixes.add(prefix)
                case protocol.FailedIn(path):
                    requests.add(WatchRequest(path, process.started_ns))
                case protocol.OwnReloaderStarted(remedy):
                    self._warn_of_reloader(remedy)
                case protocol.ModulesListed():
                    if not self._end.done():
                        self._spare.learn()
                case protocol.Drained():
                    self._shutdown.on_drained(process, message)
                case protocol.Executed():
                    self._on_exec(process)
                case protocol.RestartRequested():
                    self.on_changes({})
                case protocol.RestartedInPlace():
                    self._on_restart_in_place(process)
        if requests:
            self._watcher.request_now(requests)
            if process.state is State.LIVING:
                self._spare.learn_later()
        if process.listening_at not in (None, listened_before):
            self._on_serving(process, process.listening_at)

    def _on_serving(self, process: ProgramProcess, since: float) -> None:
        since_ns = file_time() - int((time.monotonic() - since) * 1e9)
        self._watcher.program_is_up(listening_ns=since_ns)
        self._on_up(process)
        if not self._claim_timer:  # it listens at an address that cannot be kept
            self._await_claims(process, CLAIM_TIME_OTHER)
        if self.run_info.generation:
            elapsed = since - process.triggered_at
            warm = " (warm)" if process.loaded else ""
            logger.info("serving again after %.0f ms%s", elapsed * 1000, warm)

    def _on_up(self, process: ProgramProcess) -> None:
        if process.advance(Event.UP):
            self._after_start(process)

    def _after_start(self, process: ProgramProcess) -> None:
        """Prepare the next run, and log what is watched: *process* is up, or has ended early."""
        loop = asyncio.get_running_loop()
        loop.call_later(SPARE_DELAY, self._make_spare, process)
        if process.status is None:
            self._watcher.program_is_up()
        # In the next turn of the loop: the requests that came with this message are handled first.
        loop.call_soon(self._watcher.announce)

    def _warn_of_reloader(self, remedy: str) -> None:
        if not self._has_warned_of_reloader:
            self._has_warned_of_reloader = True
            logger.warning("the program has a reloader of its own, and it is on: %s", remedy)

    def _serve_sockets(self, service: socket) -> None:
        """Keep and pass sockets; later, close those that the program has not claimed in time."""
        if self._sockets.serve(service):
            elapsed = time.monotonic() - self._process.released_at
            if elapsed < MAX_CLAIM_TIME:
                self._longest_claim = max(self._longest_claim, elapsed)
            self._await_claims(self._process, CLAIM_TIME)

    def _await_claims(self, process: ProgramProcess, seconds: float) -> None:
        """Wait *seconds* or more before the unclaimed sockets are closed.

        The program has twice the time in which it has claimed its last socket, in this run or an
        earlier one: it may listen on one port as it starts, and on another once it has loaded all.
        """
        elapsed = time.monotonic() - process.released_at
        seconds = max(seconds, 2 * self._longest_claim - elapsed)
        self._stop_claim_timer()
        loop = asyncio.get_running_loop()
        self._claim_timer = loop.call_later(seconds, self._close_unclaimed)

    def _stop_claim_timer(self) -> None:
        if self._claim_timer:
            self._claim_timer.cancel()
            self._claim_timer = None

    def _close_unclaimed(self) -> None:
        if self._process.is_running:
            self._sockets.close_unclaimed()

    # The end of the program

    def _reap(self) -> None:
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._shutdown.on_reaped()
            if pid == self._monitor.pid:
                self._monitor.replace()
                self._protect()
            status = os.waitstatus_to_exitcode(wait_status)
            self._spare.on_exit(pid, status)
            if pid == self._process.pid and self._process.is_running:
                self._on_exit(self._process, status)

    def _on_exit(self, process: ProgramProcess, status: int) -> None:
        process.status = status
        self._messages.read_all()  # these messages may still change its state
        process.advance(Event.EXIT)
        self._protect()
        self._restore_terminal()
        self._shutdown.on_exit()
        if process.exited_from is State.STOPPING:
            return
        # All that it wrote is older than now by this clock. The clock that stamps files may be
        # behind, and would say that it is not.
        self._watcher.program_is_up(time.time_ns())
        if process.loaded and process.ended_strangely:
            self._distrust(process)
        if process.status in (-signal.SIGINT, INTERRUPTED):
            self._finish(INTERRUPTED)
        elif process.status == 0 and self._settings.until_success:
            self._finish_unless_half_saved(process)
        elif process.status == 0 and process.has_restarted_in_place and not process.announced_exit:
            # It restarted in place, then ended by os._exit. The wrapper of tornado.autoreload runs
            # the program in its own process, where that would end the wrapper, too.
            self._finish(0)
        else:
            self._check_exec(process)
            if not process.was_up:
                self._after_start(process)
            loop = asyncio.get_running_loop()
            loop.call_later(GROUP_SIGNAL_WINDOW, self._log_end, process)

    def _restore_terminal(self) -> None:
        """Restore the state of the terminal, and print what was held back: no program uses it."""
        terminal.restore()
        if screen := log.screen():
            screen.print_held(anyway=True)

    def _on_lines_held(self) -> None:
        """Print lines as soon as the program does not draw the screen any more. Any thread."""
        if not self._end.done():
            self._loop.call_soon_threadsafe(self._print_held)

    def _print_held(self) -> None:
        screen = log.screen()
        if screen and not screen.print_held():
            self._loop.call_later(HELD_INTERVAL, self._print_held)

    def _finish_unless_half_saved(self, process: ProgramProcess) -> None:
        """End with success; but first wait for the rest of a file that is being saved."""
        changed = self.run_info.changed
        found = half_saved(process.files, changed, process.started_ns, process.own_writes)
        if found:
            logger.info(HALF_SAVED, name_some(map(shorten, found)))
            self._after_start(process)
            loop = asyncio.get_running_loop()
            loop.call_later(half_saving.WAIT, self._finish_unless_replaced, process)
        else:
            self._finish(0)

    def _finish_unless_replaced(self, process: ProgramProcess) -> None:
        """End with success, unless a change leads to another run than *process*."""
        is_restarting = self._restart_task is not None and not self._restart_task.done()
        if is_restarting or self._watcher.changes():
            loop = asyncio.get_running_loop()
            loop.call_later(half_saving.WAIT, self._finish_unless_replaced, process)
        elif process is self._process:
            self._finish(0)

    def _log_end(self, process: ProgramProcess) -> None:
        if process is self._process and not self._end.done():
            level = logging.INFO if process.status == 0 else logging.ERROR
            logger.log(level, "%s; %s", process.describe_end(), WAITING)

    def _distrust(self, process: ProgramProcess) -> None:
        """Make the next start cold; begin it now if the first line of *process* has not run."""
        self._spare.distrust()
        if process.exited_from is State.SPARE:
            self.on_changes({})

    def _interrupt(self) -> None:
        """Handle Ctrl-C, which the program gets, too. A second one kills the program."""
        now = time.monotonic()
        if not self._interrupted_at:
            self._interrupted_at = now
        elif now - self._interrupted_at > SECOND_INTERRUPT_DELAY:
            self._shutdown.kill(self._process)
        self._finish(INTERRUPTED)

    def _finish(self, status: int) -> None:
        if not self._end.done():
            self._end.set_result(status)

    # From changes to the next run

    async def _restart(self) -> None:
        """Replace the present run by the next one, unless the changes do not compile."""
        try:
            changes: Changes | None = self._changes
            while changes is not None:
                if self._process.is_running:  # or there is nothing to protect
                    changes = await self._syntax_check.wait_until_checked(
                        lambda: self._changes, STILL_RUNNING
                    )
                if changes is None or not self._announce_restart(changes):
                    return
                # The program may just have asked for time to drain, or have bound a socket.
                self._messages.read()
                self._serve_sockets(self._process.service)
                if await self._shutdown.end(self._process, changes):
                    if not self._end.done():
                        self._start_next(changes)
                    return
                # A hook has ended the program for good. But this task was running when the changes
                # since then came, so no other task handles them.
                changes = None if changes is self._changes else self._changes
        except OSError as error:
            logger.error("cannot start the program: %s; waiting for a change", error)
        except Exception:
            logger.exception("cannot start the program; waiting for a change")

    def _announce_restart(self, changes: Changes) -> bool:
        """Log what the restart is for; return False if it is impossible."""
        if reason := startup.missing_interpreter():
            stance = STILL_RUNNING if self._process.is_running else WAITING
            logger.error("cannot restart: %s; %s", reason, stance)
            return False
        if self._settings.clear and (screen := log.screen()):
            screen.when_free(terminal.clear)
        if changes:
            logger.info("%s modified; restarting server", name_some(map(shorten, changes)))
        else:
            logger.info("restarting server")
        return True

    def _start_next(self, changes: Changes) -> None:
        if not startup.is_working_directory(self._directory):  # another directory has its name now
            startup.change_directory(self._directory)
            self._spare.close()
        started_ns = time.time_ns()  # the next run may not know a later change
        stale = self._watcher.stale()
        outdated = {**changes, **stale}
        delete_bytecode(outdated, self._bytecode_prefixes)
        process = self._spare.take(outdated)
        saved = {path: now for path, now in stale.items() if now}
        run_info = self._next_run_info({**changes, **saved}, started_ns, process.max_message)
        startup.rewind_input()
        try:
            process.release(
                protocol.Release(
                    self._settings.grace,
                    started_ns,
                    run_info,
                    keep_sockets=self._settings.keep_sockets,
                    lists_modules=self._settings.warm,
                    full_exit=self._settings.full_exit,
                )
            )
        except OSError:
            process.close()
            raise
        process.triggered_at = self._triggered_at
        before, self._process = self._process, process
        self._attach(process)
        before.close()
        self._shutdown.begin_run()
        self._begin_watching_run(process, stale, was_complete=before.has_requested_all)

    def _next_run_info(self, changes: Iterable[str], started_ns: int, limit: int) -> str:
        """Go on to the next generation; return what to pass to it, of up to *limit* characters."""
        self.run_info, text = self.run_info.next_run(
            changes, owner=os.getpid(), started_ns=started_ns, limit=limit
        )
        self._stop_claim_timer()
        self._sockets.begin_run()
        return text

    def _on_restart_in_place(self, process: ProgramProcess) -> None:
        """Go on to the next generation: the program has just restarted itself."""
        logger.info("restarting server")
        was_complete = process.has_requested_all
        process.advance(Event.RESTARTED_IN_PLACE)
        process.triggered_at = time.monotonic()
        self._await_start(process)
        stale = self._watcher.stale()
        late = changed_since(process.started_ns, stale)  # the new run may have read them, or not
        self._next_run_info((), process.started_ns, process.max_message)
        known = {path: stale[path] for path in stale if path not in late}
        self._begin_watching_run(process, known, was_complete=was_complete)
        self._watcher.look_at(late)

    def _on_exec(self, process: ProgramProcess) -> None:
        """Note that *process* executes another program, which may be Python, and report again."""
        self._sockets.begin_run()
        self._await_claims(process, CLAIM_TIME_OTHER)
        loop = asyncio.get_running_loop()
        loop.call_later(START_TIME, self._check_exec, process)

    def _check_exec(self, process: ProgramProcess) -> None:
        """Warn once if *process* has executed a program that sends no messages."""
        if not process.executed or process is not self._process or self._end.done():
            return
        if not self._settings.watch and not self._has_warned_of_exec:
            self._has_warned_of_exec = True
            logger.warning(
                "the program has executed %s, which evreload cannot follow: "
                "name the files to watch with --watch",
                process.executed,
            )

    def _begin_watching_run(
        self, process: ProgramProcess, stale: Changes, *, was_complete: bool
    ) -> None:
        self._watcher.begin_run(
            stale, process.loaded, self._user_requests(process), was_complete=was_complete
        )

    def _protect(self) -> None:
        program = [self._process.pid] if self._process.is_running else []
        self._monitor.protect(*program, *self._spared() - {self._monitor.pid})

    def _spared(self) -> set[int]:
        """Return the descendants of the supervisor that do not belong to the program."""
        return {self._monitor.pid, *self._spare.pids}

    def _make_spare(self, process: ProgramProcess) -> None:
        if process is self._process and not self._end.done():
            self._spare.make_ready()

    async def _stop_everything(self, status: int) -> None:
        if self._restart_task:
            self._restart_task.cancel()
        self._spare.close()
        if status == INTERRUPTED and self._process.is_running:
            await self._shutdown.await_interrupted(self._process)
        await self._shutdown.stop(self._process)
        self._restore_terminal()
        self._sockets.close()
        self._monitor.end()
