"""Ends a run of the program by a deadline, with all that it has left behind.

First the program is drained: it finishes requests, runs the reload hooks, stops accepting. Then it
gets the stop signal. Then it is killed.

Runs in: the supervisor, on its loop's thread.
Owns: what is awaited from the run that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Collection

from .._common import startup
from .._common.protocol import Drained
from .._common.run_info import MAX_PATHS
from .._settings import Settings
from .._watch.listener import Changes
from . import terminal
from .life_cycle import Event, State
from .process_tree import (
    adopted_children,
    descendants,
    foreign_children,
    kill_all,
    send,
    tree,
    waits_for_signal,
)
from .program_process import ProgramProcess

ANSWER_TIME = 0.5  # seconds in which a program that receives messages has surely answered
# Seconds in which the client of a connection just accepted has sent its request, and mostly has
# been answered: for servers whose requests cannot be counted.
LAST_REQUEST_TIME = 0.01
EXIT_GRACE = 0.1  # seconds in which a program mostly ends, or answers

logger = logging.getLogger("evreload")


class Shutdown:
    """Ends one run after another.

    *spared* returns the descendants of the supervisor that are not of the program.
    """

    def __init__(self, settings: Settings, spared: Callable[[], set[int]]) -> None:
        self._settings = settings
        self._spared = spared
        self._stops_accepting = settings.keep_sockets and settings.grace > 0
        self._foreign = foreign_children(os.getpid()) - spared()
        self._awaited: set[int] = set()  # processes that have yet to answer
        self._uncounted: set[int] = set()  # of the others, those that cannot count their requests
        self._answered = asyncio.Event()  # set by each answer
        self._exited = asyncio.Event()
        self._reaped = asyncio.Event()  # set by the end of any process

    def begin_run(self) -> None:
        """Begin with a new run."""
        self._exited.clear()

    def on_exit(self) -> None:
        """Note that the run has ended."""
        self._exited.set()

    def on_reaped(self) -> None:
        """Note that some descendant has ended."""
        self._reaped.set()

    @property
    def awaits_answer(self) -> bool:
        """Whether the messages of the program are urgent."""
        return bool(self._awaited)

    def on_drained(self, process: ProgramProcess, message: Drained) -> None:
        """Note that a process of the run may be stopped."""
        for client in message.unfinished:
            logger.debug("a request from %s was not finished in time", client)
        if message.pid not in self._awaited:
            return
        self._awaited.discard(message.pid)
        if not message.answered_all:
            self._uncounted.add(message.pid)
        self._answered.set()
        if not self._awaited:
            process.advance(Event.STOP)  # a hook may have asked for its end, which may come at once

    async def end(self, process: ProgramProcess, changes: Changes) -> bool:
        """End *process* because of *changes*; return False if a hook has ended it for good."""
        if process.state in (State.LOADING, State.LIVING):
            await self._drain(process, changes)
            if process.hook_exited and not process.is_running:
                return False
        await self.stop(process)
        return True

    def kill(self, process: ProgramProcess) -> None:
        """Kill *process*, and all that it has left behind."""
        kill_all(lambda: [*(tree(process.pid) if process.is_running else ()), *self._orphans()])

    # Drain

    async def _drain(self, process: ProgramProcess, changes: Changes) -> None:
        """Have *process* finish its requests, run its hooks, stop accepting, and flush.

        It has the time it has asked for. A process that has asked for none answers at once, or is
        busy in code that handles no signals.
        """
        pid, times, grace = process.pid, process.drain_times, self._settings.grace
        is_server = process.bound_at is not None and self._stops_accepting
        is_deaf = waits_for_signal(pid)
        workers = set(times) - {pid} if grace else set()
        workers = workers & set(descendants(pid)) if workers else workers
        if pid not in times and not workers and is_deaf and not is_server:
            return
        process.advance(Event.DRAIN)
        asks_program = pid in times or not is_deaf
        self._awaited = {*workers, *({pid} if asks_program else ())}
        self._uncounted.clear()
        if not self._ask(process, changes, workers):
            self._awaited.clear()
            return
        if times:
            await self._await_answers(times, grace + max(times.values()))
            if process.is_running and self._awaited:
                logger.warning(
                    "requests in progress, or reload hooks, took over %g s: the program is stopped",
                    grace + max(times.values()),
                )
                self._awaited = {pid}
                self._uncounted.add(pid)
                self._ask(process, changes, set())  # once more: without any further delay
        await self._await_answers({pid: 0}, ANSWER_TIME if is_server else EXIT_GRACE)
        counts_all = bool(times) and not self._uncounted & times.keys()
        if is_server and not counts_all:
            await _wait_for(self._exited, time.monotonic() + LAST_REQUEST_TIME)
        self._awaited.clear()

    def _ask(self, process: ProgramProcess, changes: Changes, workers: set[int]) -> bool:
        """Send the request to drain; return False if the program does not receive it."""
        try:
            process.drain(
                self._settings.grace,
                sorted(changes)[:MAX_PATHS],
                stop_accepting=self._stops_accepting,
            )
        except OSError:  # it has closed the pipe, or is ending
            if process.pid in process.drain_times:
                logger.warning(
                    "the program has closed evreload's pipe: its reload hooks do not run, and its "
                    "requests in progress are not waited for"
                )
            return False
        # SIGURG does nothing to a process that does not handle it.
        asked = tree(process.pid) if self._stops_accepting else [process.pid, *workers]
        send(asked, signal.SIGURG)
        return True

    async def _await_answers(self, pids: Collection[int], seconds: float) -> None:
        """Wait until those of *pids* that are awaited have answered, or the run has ended."""
        deadline = time.monotonic() + seconds
        while self._awaited.intersection(pids) and not self._exited.is_set():
            self._answered.clear()
            answered, exited = (asyncio.ensure_future(one.wait()) for one in self._events())
            done, pending = await asyncio.wait(
                (answered, exited),
                timeout=max(0, deadline - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for wait in pending:
                wait.cancel()
            if not done:
                return

    def _events(self) -> tuple[asyncio.Event, asyncio.Event]:
        return self._answered, self._exited

    # Stop

    async def await_interrupted(self, process: ProgramProcess) -> None:
        """Let *process* end by itself, by its deadline: it gets the SIGINT, too."""
        process.advance(Event.STOP)
        # A keyboard's Ctrl-C reaches the whole group; a signal may be for the supervisor alone.
        if not terminal.is_foreground() or os.getpgid(process.pid) != os.getpgrp():
            await _wait_for(self._exited, time.monotonic() + EXIT_GRACE)
            process.signal(signal.SIGINT)
        await _wait_for(self._exited, self._deadline())

    async def stop(self, process: ProgramProcess) -> None:
        """End *process* by its deadline, and all that it has left behind."""
        deadline = self._deadline()
        process.advance(Event.STOP)
        if process.is_running:
            process.signal(self._settings.stop_signal)
            process.signal(signal.SIGCONT)  # a stopped program could not handle it
            await _wait_for(self._exited, deadline)
        if process.is_running:
            timeout = self._settings.stop_timeout
            logger.info(
                "the program did not end in %g s, and is killed (--stop-timeout allows more)",
                timeout,
            )
            kill_all(lambda: tree(process.pid))
            await self._exited.wait()
        await self._stop_orphans(deadline)

    async def _stop_orphans(self, deadline: float) -> None:
        """End what the program has left behind, such as workers that it did not wait for."""
        if orphans := self._orphans():
            send(orphans, self._settings.stop_signal)
            send(orphans, signal.SIGCONT)
            await self._orphans_end(deadline)
            kill_all(self._orphans)
            await self._orphans_end(time.monotonic() + EXIT_GRACE)
            startup.restore_terminal()  # now that no other process has it

    async def _orphans_end(self, deadline: float) -> None:
        while self._orphans():
            self._reaped.clear()
            if not await _wait_for(self._reaped, deadline):
                return

    def _orphans(self) -> list[int]:
        """Return what descends from the program; on Linux, orphans become our children."""
        if self._foreign:  # what these start becomes our child, too, once they have ended
            self._foreign |= adopted_children(os.getpid())
        spared = self._spared()
        found = descendants(os.getpid(), besides=self._foreign)
        return [pid for pid in found if pid not in spared]

    def _deadline(self) -> float:
        return time.monotonic() + (self._settings.stop_timeout or float("inf"))


async def _wait_for(event: asyncio.Event, deadline: float) -> bool:
    """Wait for *event*, until *deadline* at most; return whether it came in time."""
    seconds = max(0, deadline - time.monotonic())
    try:
        await asyncio.wait_for(event.wait(), seconds if seconds < float("inf") else None)
    except TimeoutError:
        return False
    return True
