"""Story two: a parent that watches, and the program as its child.

The loop's thread. The child may crash, hang, fork or be half-written: the parent is still there.
It ties the other rooms together; only the command imports it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from socket import socket

from .._common import log as _console
from .._common import process as _process
from .._common import protocol as channel
from .._common import startup as _origin
from .._common.filestat import changed_since, forget_bytecode
from .._common.protocol import Record
from .._common.run_info import Handover
from .._program.imports import source
from .._program.kept_sockets import Shelf
from .._settings import Options
from .._watch.syntax_check import Broken
from .._watch.watcher import Changes, Want
from .lookout import Lookout
from .message_reader import Reports
from .process_tree import Guardian
from .program_process import Run
from .shutdown import Ending
from .spare import Standby

STARTING = 2.0  # seconds after which a program that binds no socket counts as up
CLAIMING = 2.0  # seconds the program has to bind another address after each one
SERVING_ELSEWHERE = 10.0  # seconds it has for that after it has bound one that can't be kept
STANDBY_DELAY = 0.2  # seconds; the program goes first
INTERRUPTED = 128 + signal.SIGINT
EVERYBODYS = 0.05  # seconds in which a signal that ended the program, and is meant for us, comes
PRESSED_AGAIN = 0.5  # seconds; npm and others pass on at once a Ctrl-C that everybody got

logger = logging.getLogger("evreload")


class Supervisor:
    """Runs the program, and runs it again."""

    def __init__(self, options: Options, first: Run, guardian: Guardian) -> None:
        self._options = options
        self._run = first
        self._directory = _origin.working_directory()
        self._standby = Standby(
            options, first, lambda wants: self._lookout.want(wants), self._protect
        )
        self._guardian = guardian
        self._handover = Handover(0, (), first.since, {})
        self._shelf = Shelf()
        self._changes: Changes = {}
        self._task: asyncio.Task[None] | None = None
        self._ending = Ending(options, self._spared)
        self._starting: asyncio.TimerHandle | None = None
        self._claiming: asyncio.TimerHandle | None = None
        self._cause = 0.0  # when that happened which the next run is for; by time.monotonic
        self._interrupted = 0.0  # when; by time.monotonic

    def run(self) -> int:
        """Supervise until the end; return the status to exit with."""
        status = asyncio.run(self._supervise(), debug=False)
        self._run.close()
        return status

    async def _supervise(self) -> int:
        loop = asyncio.get_running_loop()
        self._end: asyncio.Future[int] = loop.create_future()
        for number, handler in self._signal_handlers().items():
            # As nohup has SIGHUP. But whoever ignores SIGCHLD is not told of the program's end.
            if number not in _origin.IGNORED or number == signal.SIGCHLD:
                loop.add_signal_handler(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, _origin.MASK)
        self._reports = Reports(
            self._run,
            self._heed,
            self._serve,
            is_urgent=lambda: self._ending.awaits_answer,
        )
        self._lookout = Lookout(
            self._options,
            self._restart_for,
            author=self._reports.author,
            excused=lambda path, may_be_own: self._handover.excused(path, may_be_own=may_be_own),
        )
        self._broken = Broken(self._lookout.is_code)
        self._lookout.begin(self._run)
        self._attend(self._run)
        self._reap()  # it may have ended already
        status = await self._end
        await self._stop_everything(status)
        self._lookout.end()
        return status

    def _signal_handlers(self) -> dict[int, Callable[[], None]]:
        return {
            signal.SIGCHLD: self._reap,
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: lambda: self._finish(128 + signal.SIGTERM),
            signal.SIGHUP: lambda: self._finish(128 + signal.SIGHUP),
            signal.SIGUSR1: lambda: self._restart_for({}),
        }

    # What the program tells

    def _attend(self, run: Run) -> None:
        self._protect()
        self._reports.attend(run)
        self._await_start(run)

    def _await_start(self, run: Run) -> None:
        """Take *run* for up after a while, whatever it does."""
        if self._starting:
            self._starting.cancel()
        self._starting = asyncio.get_running_loop().call_later(STARTING, self._is_up, run)

    def _heed(self, records: list[Record]) -> None:
        run = self._run
        wants: set[Want] = set()
        serving_since = 0.0
        for record in records:
            run.heed(record)
            if want := _wanted(record, run):
                wants.add(want)
            elif record[0] == channel.BOUND:
                serving_since = serving_since or float(record[1])
            elif record[0] == channel.MODULES:
                if not self._end.done():
                    self._standby.learn()
            elif record[0] == channel.PREPARED:
                lets_in = record[2] == channel.OPEN
                self._ending.note_prepared(int(record[1]), record[3:], lets_in=lets_in)
            elif record[0] == channel.HOLDS:
                self._ending.note_holds()
            elif record[0] == channel.RELOAD:
                self._restart_for({})
            elif record[0] == channel.RELOADING:
                serving_since = 0.0
                self._renew_in_place(run)
        if wants:
            self._lookout.want(wants)
            if run.is_up:
                self._standby.learn_later()
        if serving_since:
            self._is_serving(run, serving_since)

    def _is_serving(self, run: Run, since: float) -> None:
        if run.is_serving:
            return
        run.is_serving = True
        self._is_up(run)
        if not self._claiming:  # none of those that can be kept
            self._drop_unclaimed_in(SERVING_ELSEWHERE)
        if self._handover.generation:
            elapsed = since - run.cause
            warm = " (warm)" if run.loaded else ""
            logger.info("serving again after %.0f ms%s", elapsed * 1000, warm)

    def _is_up(self, run: Run) -> None:
        if run.is_up:
            return
        run.is_up = True
        run.is_complete = True
        asyncio.get_running_loop().call_later(STANDBY_DELAY, self._stand_by, run)
        # What it wrote as it ended is older than the end, though the clock of files be behind.
        self._lookout.program_is_up(None if run.status is None else time.time_ns())
        # Soon: what was told together with this is yet to be taken in.
        asyncio.get_running_loop().call_soon(self._lookout.announce)

    def _serve(self, service: socket) -> None:
        """Keep and hand out sockets; once no more are asked for, close those left over."""
        if self._shelf.serve(service):
            self._drop_unclaimed_in(CLAIMING)

    def _drop_unclaimed_in(self, seconds: float) -> None:
        self._stop_claiming()
        self._claiming = asyncio.get_running_loop().call_later(seconds, self._drop_unclaimed)

    def _stop_claiming(self) -> None:
        if self._claiming:
            self._claiming.cancel()
            self._claiming = None

    def _drop_unclaimed(self) -> None:
        if self._run.status is None:
            self._shelf.drop_unclaimed()

    # The end of the program

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ending.note_reaped()
            if pid == self._guardian.pid:
                self._guardian.replace()
                self._protect()
            exit_code = os.waitstatus_to_exitcode(status)
            self._standby.note_exit(pid, exit_code)
            if pid == self._run.pid and self._run.status is None:
                self._run.status = exit_code
                self._on_exit(self._run)

    def _on_exit(self, run: Run) -> None:
        self._protect()
        self._reports.read_all()
        _process.restore_terminal()
        self._ending.note_exit()
        if self._ending.is_under_way:
            return
        if run.loaded and run.ended_strangely:
            self._distrust(run)
        if run.status in (-signal.SIGINT, INTERRUPTED):
            self._finish(INTERRUPTED)
        elif run.status == 0 and self._options.until_success:
            self._finish(0)
        elif run.status == 0 and run.began_by_itself and not run.said_goodbye:
            # It restarted by itself, then left by os._exit: under tornado.autoreload, in whose
            # wrapper the program runs in one process, that ends it all.
            self._finish(0)
        else:
            self._is_up(run)
            run.is_complete = run.status == 0  # though it was up before it failed
            asyncio.get_running_loop().call_later(EVERYBODYS, self._tell_of_end, run)

    def _tell_of_end(self, run: Run) -> None:
        if run is self._run and not self._end.done():
            level = logging.INFO if run.status == 0 else logging.ERROR
            logger.log(level, "%s; %s", run.describe_end(), _console.WAITING)

    def _distrust(self, run: Run) -> None:
        self._standby.distrust()
        if not run.has_begun:
            self._restart_for({})

    def _interrupt(self) -> None:
        """Ctrl-C: the program got it, too. Once more, and nobody is waited for."""
        now = time.monotonic()
        if not self._interrupted:
            self._interrupted = now
        elif now - self._interrupted > PRESSED_AGAIN:
            self._ending.kill(self._run)
        self._finish(INTERRUPTED)

    def _finish(self, status: int) -> None:
        if not self._end.done():
            self._end.set_result(status)

    # From a change to the next run

    def _restart_for(self, changes: Changes) -> None:
        if self._end.done():
            return
        self._changes = changes
        self._cause = self._lookout.first_news if changes else time.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._replace())

    async def _replace(self) -> None:
        try:
            await self._replace_if_sound()
        except OSError as error:
            logger.error("cannot start the program: %s; waiting for a change", error)
        except Exception:
            logger.exception("cannot start the program; waiting for a change")

    async def _replace_if_sound(self) -> None:
        considered: Changes | None = self._changes
        if self._run.status is None:  # or there is nothing to protect
            considered = await self._broken.sound(
                lambda: self._changes, _console.KEPT, _console.shorten
            )
        if considered is None:
            return
        if reason := _process.interpreter_missing():
            logger.error("cannot restart: %s; %s", reason, self._stance())
            return
        if self._options.clear:
            _console.clear()
        if considered:
            names = _console.name_some(map(_console.shorten, considered))
            logger.info("%s modified; restarting server", names)
        else:
            logger.info("restarting server")
        self._reports.read()  # what it wishes before it is ended, it may have told just now
        if not await self._ending.end(self._run, considered):
            if considered is not self._changes:  # what came meanwhile has found us at work
                await self._replace_if_sound()
        elif not self._end.done():
            self._begin(considered)

    def _stance(self) -> str:
        running = self._run.status is None
        return _console.KEPT if running else _console.WAITING

    def _begin(self, changes: Changes) -> None:
        if not _process.is_at(self._directory):  # another has its name: nobody is there yet
            _process.go_to(self._directory)
            self._standby.close()
        since = time.time_ns()  # what is saved from here on, the next run may not know
        stale = self._lookout.stale()
        outdated = {**changes, **stale}
        forget_bytecode(outdated)
        run = self._standby.take(outdated)
        saved = {path: now for path, now in stale.items() if now}
        told = self._next_generation({**changes, **saved}, since, most=run.most_told)
        _process.rewind_input()
        try:
            run.go(self._options.grace, told, since=since)
        except OSError:
            run.close()
            raise
        run.cause = self._cause
        before, self._run = self._run, run
        self._attend(run)
        before.close()
        self._ending.begin_run()
        self._lookout.begin_run(run, stale, was_complete=before.is_complete)

    def _protect(self) -> None:
        program = [self._run.pid] if self._run.status is None else []
        self._guardian.protect(*program, *self._spared() - {self._guardian.pid})

    def _spared(self) -> set[int]:
        return {self._guardian.pid, *self._standby.pids}

    def _stand_by(self, run: Run) -> None:
        if run is self._run and not self._end.done():
            self._standby.make_ready()

    def _next_generation(self, changes: Changes, since: int, most: int) -> str:
        """Begin another generation; return what to tell it, in at *most* so many characters."""
        told = self._handover.pass_on(changes, owner=os.getpid(), since=since, most=most)
        self._handover = Handover.parse(told)
        self._stop_claiming()
        self._shelf.begin_run()
        return told

    def _renew_in_place(self, run: Run) -> None:
        """Begin another generation, as the program has by itself, a moment ago."""
        logger.info("restarting server")
        run.cause = time.monotonic()
        self._await_start(run)
        stale = self._lookout.stale()
        late = changed_since(run.since, stale)  # after that it may have read them, or not
        self._next_generation({}, run.since, most=run.most_told)
        known = {path: stale[path] for path in stale if path not in late}
        self._lookout.begin_run(run, known, was_complete=run.is_complete)
        run.is_complete = False
        self._lookout.look_at(late)

    async def _stop_everything(self, status: int) -> None:
        if self._task:
            self._task.cancel()
        self._standby.close()
        if status == INTERRUPTED and self._run.status is None:
            await self._ending.await_interrupted(self._run)
        await self._ending.stop(self._run)
        self._shelf.close()
        self._guardian.dismiss()


def _wanted(record: Record, run: Run) -> Want | None:
    kind, *words = record
    if kind == channel.FILE:
        return Want(source(words[1]), int(words[0]))
    if kind == channel.WATCH:
        return Want(words[1], int(words[0]), explicit=True)
    if kind == channel.FAILED:
        return Want(source(words[0]), run.since)
    return None
