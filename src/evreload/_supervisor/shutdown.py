"""Ends a run of the program by a deadline, with all processes that it has left behind.

First the program drains: it finishes requests, runs the reload hooks, and stops accepting. Then it
gets the stop signal. If it has not ended by the deadline, it is killed.

Runs in: the supervisor, on its loop's thread.
Owns: which answers are awaited from the run that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Collection

from .._common import terminal
from .._common.protocol import Drained, Stop
from .._common.run_info import MAX_PATHS
from .._settings import OPTIONS, Settings
from .._watch.listener import Changes
from .life_cycle import Event, State
from .process_tree import (
    adopted_children,
    descendants,
    foreign_children,
    kill_all,
    main_thread_rest,
    send,
    tree,
    waits_for_signal,
)
from .program_process import ProgramProcess

ANSWER_TIME = 0.5  # seconds in which a server that receives messages has surely answered
# Seconds for the last request of servers whose requests cannot be counted: the client of a
# connection that was just accepted sends the request, and mostly has its response by then.
LAST_REQUEST_TIME = 0.01
EXIT_GRACE = 0.1  # seconds in which most programs end after a signal, or answer
REST_TIME = 0.01  # seconds; a main thread that sleeps so long without a break does not answer

logger = logging.getLogger("evreload")


class Shutdown:
    """Ends one run after another.

    *spared* returns the descendants of the supervisor that do not belong to the program.
    *keeps_sockets*: the present run listens on sockets that the next run gets.
    """

    def __init__(
        self,
        settings: Settings,
        spared: Callable[[], set[int]],
        keeps_sockets: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._spared = spared
        self._keeps_sockets = keeps_sockets
        self._stops_accepting = settings.keep_sockets and settings.grace > 0
        self._foreign = foreign_children(os.getpid()) - spared()
        self._awaited: set[int] = set()  # processes that have not answered yet
        self._uncounted: set[int] = set()  # have answered, but cannot count requests
        self._answered = asyncio.Event()  # set by each answer, and by the end of the run
        self._exited = asyncio.Event()
        self._reaped = asyncio.Event()  # set by the end of any process

    def begin_run(self) -> None:
        """Begin with a new run."""
        self._exited.clear()

    def on_exit(self) -> None:
        """Note that the run has ended."""
        self._exited.set()
        self._answered.set()

    def on_reaped(self) -> None:
        """Note that some descendant has ended."""
        self._reaped.set()

    @property
    def awaits_answer(self) -> bool:
        """Whether an answer is awaited, so that messages must be read at once."""
        return bool(self._awaited)

    def on_drained(self, process: ProgramProcess, message: Drained) -> None:
        """Note that a process of the run has drained, and may be stopped."""
        for client in message.unfinished:
            logger.debug("a request from %s was not finished in time", client)
        if message.pid not in self._awaited:
            return
        self._awaited.discard(message.pid)
        if not message.answered_all:
            self._uncounted.add(message.pid)
        self._answered.set()
        if not self._awaited:
            # A hook may have made the program end at once: from now on its end is expected.
            process.advance(Event.STOP)

    async def end(self, process: ProgramProcess, changes: Changes) -> bool:
        """End *process* because of *changes*; return False if a hook has ended it for good."""
        if process.state in (State.LOADING, State.LIVING):
            try:
                await self._drain(process, changes)
            finally:
                self._awaited.clear()
            if process.hook_exited and not process.is_running:
                return False
        with contextlib.suppress(OSError):  # it has closed the pipe, or reads nothing
            process.send(Stop())
        await self.stop(process)
        return True

    def kill(self, process: ProgramProcess) -> None:
        """Kill *process*, and all processes that it has left behind."""
        kill_all(lambda: [*(tree(process.pid) if process.is_running else ()), *self.members()])

    # Drain

    async def _drain(self, process: ProgramProcess, changes: Changes) -> None:
        """Have *process* finish its requests, run its hooks, stop accepting, and flush.

        Each process gets the time that it has asked for. A process that has asked for none answers
        at once, unless it is busy in code that handles no signals.
        """
        pid, grace = process.pid, self._settings.grace
        times = dict(process.drain_times)  # a restart in place clears the original
        awaits_signal = waits_for_signal(pid)  # SIGURG would end its wait
        workers = set(times) - {pid} if grace else set()
        workers = workers & set(descendants(pid)) if workers else workers
        if pid not in times and not workers and awaits_signal and not self._is_server():
            return
        process.advance(Event.DRAIN)
        asks_program = pid in times or not awaits_signal
        self._awaited = {*workers, *({pid} if asks_program else ())}
        self._uncounted.clear()
        timed = self._awaited & times.keys()
        asked = set(self._awaited)
        if not timed:
            asked |= self._others(process)
        if not self._ask(process, changes, asked):
            return
        if not timed:
            process.advance(Event.STOP)  # it may end at once, because of the request
        else:
            seconds = grace + max(times[one] for one in timed)
            await self._await_answers(timed, seconds)
            if process.is_running and self._awaited & timed:
                logger.warning(
                    "requests in progress, or reload hooks, took over %g s: the program is stopped",
                    seconds,
                )
                self._uncounted |= self._awaited
                self._awaited = {pid}
                # A second request means: without any further delay.
                self._ask(process, changes, {pid, *workers})
        await self._await_prompt_answer(pid)
        counts_all = bool(timed) and not self._uncounted & timed
        if self._is_server() and not counts_all:
            # Only now: until then, processes that cannot count their requests go on serving.
            send(self._others(process) - asked, signal.SIGURG)
            await _wait_for(self._exited, time.monotonic() + LAST_REQUEST_TIME)

    def _is_server(self) -> bool:
        """Whether the program must accept no more connections before it is stopped."""
        return self._stops_accepting and self._keeps_sockets()

    def _others(self, process: ProgramProcess) -> set[int]:
        """Return all processes that stop accepting: the next run takes their connections."""
        return set(tree(process.pid)) if self._stops_accepting else {process.pid}

    def _ask(self, process: ProgramProcess, changes: Changes, asked: set[int]) -> bool:
        """Send the request to drain; return False if the program does not receive it."""
        try:
            process.drain(
                self._settings.grace,
                sorted(changes)[:MAX_PATHS],
                stop_accepting=self._stops_accepting,
            )
        except OSError:  # the program has closed the pipe, or ends
            self._awaited.clear()
            if process.pid in process.drain_times:
                logger.warning(
                    "the program has closed evreload's pipe: its reload hooks do not run, and its "
                    "requests in progress are not waited for"
                )
            return False
        send(asked, signal.SIGURG)  # it does nothing to a process that does not handle it
        return True

    async def _await_answers(self, pids: Collection[int], seconds: float) -> None:
        """Wait until the awaited ones of *pids* have answered, or the run has ended."""
        deadline = time.monotonic() + seconds
        while self._awaited.intersection(pids) and not self._exited.is_set():
            self._answered.clear()
            if not await _wait_for(self._answered, deadline):
                return

    async def _await_prompt_answer(self, pid: int) -> None:
        """Wait for the answer of *pid*, which was not asked to wait for anything.

        If its main thread stays in C code, as that of a Qt program does, no answer can come.
        """
        deadline = time.monotonic() + (ANSWER_TIME if self._is_server() else EXIT_GRACE)
        rest = None
        while pid in self._awaited and not self._exited.is_set() and time.monotonic() < deadline:
            self._answered.clear()
            await _wait_for(self._answered, min(deadline, time.monotonic() + REST_TIME))
            before, rest = rest, main_thread_rest(pid)
            if rest and rest == before:
                return

    # Stop

    async def await_interrupted(self, process: ProgramProcess) -> None:
        """Wait for *process* to end by itself, by its deadline; make sure that it gets a SIGINT."""
        process.advance(Event.STOP)
        # A keyboard's Ctrl-C reaches the whole group; a signal may be for the supervisor alone.
        if not terminal.is_foreground() or os.getpgid(process.pid) != os.getpgrp():
            await _wait_for(self._exited, time.monotonic() + EXIT_GRACE)
            process.signal(signal.SIGINT)
        await _wait_for(self._exited, self._deadline())

    async def stop(self, process: ProgramProcess) -> None:
        """End *process* by its deadline, and all processes that it has left behind."""
        deadline = self._deadline()
        process.advance(Event.STOP)
        if process.is_running:
            process.signal(self._settings.stop_signal)
            process.signal(signal.SIGCONT)  # a program stopped by SIGSTOP could not handle it
            await _wait_for(self._exited, deadline)
        if process.is_running:
            logger.info(
                "the program did not end in %g s, and is killed (--stop-timeout allows more)",
                self._time_to_end,
            )
            kill_all(lambda: tree(process.pid))
            await self._exited.wait()
        await self._stop_orphans(deadline)

    async def _stop_orphans(self, deadline: float) -> None:
        """End the processes that the program has left behind, such as workers."""
        if orphans := self.members():
            send(orphans, self._settings.stop_signal)
            send(orphans, signal.SIGCONT)
            await self._orphans_end(deadline)
            kill_all(self.members)
            await self._orphans_end(time.monotonic() + EXIT_GRACE)
            terminal.restore()  # now no other process uses it

    async def _orphans_end(self, deadline: float) -> None:
        while self.members():
            self._reaped.clear()
            if not await _wait_for(self._reaped, deadline):
                return

    def members(self) -> list[int]:
        """Return the processes of the program, also those that it has left behind.

        On Linux, the supervisor becomes the parent of these.
        """
        if self._foreign:  # when these end, the supervisor becomes the parent of their children
            self._foreign |= adopted_children(os.getpid())
        spared = self._spared()
        found = descendants(os.getpid(), besides=self._foreign)
        return [pid for pid in found if pid not in spared]

    def _deadline(self) -> float:
        return time.monotonic() + self._time_to_end

    @property
    def _time_to_end(self) -> float:
        """Seconds from the stop signal on.

        Servers other than Tornado's finish their requests then, so a longer grace holds here, too.
        """
        settings = self._settings
        grace = settings.grace if settings.grace > OPTIONS["grace"].default else 0.0
        return max(settings.stop_timeout, grace) if settings.stop_timeout else float("inf")


async def _wait_for(event: asyncio.Event, deadline: float) -> bool:
    """Wait for *event*, until *deadline* at most; return whether it came in time."""
    seconds = max(0, deadline - time.monotonic())
    try:
        await asyncio.wait_for(event.wait(), seconds if seconds < float("inf") else None)
    except TimeoutError:
        return False
    return True
