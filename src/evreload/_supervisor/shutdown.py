"""How a run is brought to its end, by a deadline, with all that it has left behind.

The supervisor's loop. It is asked to prepare, if it wishes to be, and to hold what comes, and not
what it has printed; then it gets the stop signal; then it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable

from .._common import log as _console
from .._common import process as _process
from .._common import protocol as channel
from .._common.protocol import Record
from .._common.run_info import MOST_PATHS
from .._settings import Options
from .._watch.watcher import Changes
from .process_tree import descendants, family, kill_all, latecomers, send, strangers
from .program_process import Run

HEARING = 0.5  # seconds in which a program that can hear has surely heard, if that is dear to us
HOLDING = 0.01  # seconds in which whoever was let in has asked, and mostly was answered
A_MOMENT = 0.1  # seconds in which a program ends that is interrupted, or has heard, mostly

logger = logging.getLogger("evreload")


class Ending:
    """Ends one run after another; *spared* are our descendants that are not the program's."""

    def __init__(self, options: Options, spared: Callable[[], set[int]]) -> None:
        self._options = options
        self._spared = spared
        self._is_holding = options.keep_sockets and options.grace > 0
        self._strangers = strangers(os.getpid()) - spared()
        self._prepared: asyncio.Event | None = None  # there while it is awaited
        self._awaited: set[int] = set()  # which are yet to be prepared
        self._lets_in = False  # those who come, though it is prepared
        self._holds: asyncio.Event | None = None  # there while it is awaited
        self._exited = asyncio.Event()
        self._reaped = asyncio.Event()  # anything
        self.is_under_way = False  # what ends now, ends because of us

    def begin_run(self) -> None:
        """Forget that the run before has ended."""
        self._exited.clear()

    def note_exit(self) -> None:
        """Take note that the run has ended."""
        self._exited.set()

    def note_reaped(self) -> None:
        """Take note that some process of ours has ended."""
        self._reaped.set()

    @property
    def awaits_answer(self) -> bool:
        """Whether what the program tells is urgent."""
        return self._prepared is not None or self._holds is not None

    def note_holds(self) -> None:
        """Take note that it has done as it was told by HOLD."""
        if self._holds:
            self._holds.set()

    def note_prepared(self, pid: int, unfinished: Record, *, lets_in: bool) -> None:
        """Take note that *pid* may be stopped; say to whom it was still answering."""
        for client in unfinished:
            logger.debug("a request from %s was not finished in time", client)
        self._awaited.discard(pid)
        self._lets_in |= lets_in
        if self._prepared and not self._awaited:
            self._prepared.set()
            self.is_under_way = True  # what a hook has asked for may end it at once

    async def end(self, run: Run, changes: Changes) -> bool:
        """End *run* because of *changes*; return False if a hook has ended it for good."""
        self._lets_in = True
        if run.status is None and run.wishes:
            await self._prepare(run, changes)
            if run.was_left and run.status is not None:
                return False
        if run.status is None and run.has_begun and self._lets_in:
            await self._hold(run)
        await self.stop(run)
        return True

    def kill(self, run: Run) -> None:
        """Kill *run*, and what it has left behind."""
        kill_all(lambda: [*(family(run.pid) if run.status is None else ()), *self._orphans()])

    async def _hold(self, run: Run) -> None:
        """Have what is printed written out, and nobody let in any more who would be let down.

        Servers just end, or part first.
        """
        is_server = run.has_bound and self._is_holding
        is_deaf = _process.awaits_signal(run.pid)
        if is_deaf and not is_server:
            return  # which this must not be
        self.is_under_way = True
        try:
            run.tell(channel.HOLD, channel.HELD if self._is_holding else channel.OPEN)
        except OSError:  # it ends by itself, or can't hear
            return
        self._holds = asyncio.Event()
        asked = family(run.pid) if self._is_holding else [run.pid]
        send(asked, signal.SIGURG)  # which does nothing to those that don't heed it
        # On a busy machine the next signal might overtake this one.
        if not is_deaf:
            await self._answered(self._holds, HEARING if is_server else A_MOMENT)
        self._holds = None
        if is_server:
            await _happens(self._exited, time.monotonic() + HOLDING)

    async def await_interrupted(self, run: Run) -> None:
        """Let *run* end by itself, by its deadline: it got what we got, or gets it now."""
        self.is_under_way = True
        # A keyboard's Ctrl-C all of its group gets; another may be for us alone.
        if not _console.has_keyboard() or os.getpgid(run.pid) != os.getpgrp():
            await _happens(self._exited, time.monotonic() + A_MOMENT)
            run.signal(signal.SIGINT)
        await _happens(self._exited, self._deadline())

    async def _prepare(self, run: Run, changes: Changes) -> None:
        """Have requests in progress answered and the hooks run, if that can be had in time."""
        if not self._request(run, changes):
            logger.warning(
                "the program has closed evreload's pipe: its reload hooks do not run, and its "
                "requests in progress are not waited for"
            )
            return
        if not self._awaited:
            return
        self._lets_in = False
        self._prepared = asyncio.Event()
        timeout = self._options.grace + max(run.wishes.values())
        in_time = await self._answered(self._prepared, timeout)
        self._prepared = None
        if not in_time:
            self._lets_in = True  # for all that is known
            logger.warning(
                "requests in progress, or reload hooks, took over %g s: the program is stopped",
                timeout,
            )

    async def _answered(self, answer: asyncio.Event, seconds: float) -> bool:
        """Wait for *answer*, or the end of the run; return whether one came in time."""
        waits = [asyncio.ensure_future(one.wait()) for one in (answer, self._exited)]
        done, pending = await asyncio.wait(
            waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for wait in pending:
            wait.cancel()
        return bool(done)

    def _request(self, run: Run, changes: Changes) -> bool:
        """Have all those prepare that wish to; return False if the program cannot hear."""
        grace = self._options.grace
        workers = run.wishes.keys() - {run.pid} if grace else set()
        self._awaited = workers & set(descendants(run.pid)) if workers else set()
        send(self._awaited, signal.SIGURG)
        if run.pid not in run.wishes:
            return True
        self._awaited.add(run.pid)
        return run.request_to_prepare(grace, sorted(changes)[:MOST_PATHS])

    async def stop(self, run: Run) -> None:
        """End *run* by its deadline, and whatever it has left behind."""
        self.is_under_way = True
        deadline = self._deadline()
        if run.status is None:
            run.signal(self._options.stop_signal)
            run.signal(signal.SIGCONT)  # a stopped program could not heed it
            await _happens(self._exited, deadline)
        if run.status is None:
            timeout = self._options.stop_timeout
            logger.info(
                "the program did not end in %g s, and is killed (--stop-timeout allows more)",
                timeout,
            )
            kill_all(lambda: family(run.pid))
            await self._exited.wait()
        await self._stop_orphans(deadline)
        self.is_under_way = False

    async def _stop_orphans(self, deadline: float) -> None:
        """End what the program has left behind: workers whose parent would not wait, say."""
        if orphans := self._orphans():
            send(orphans, self._options.stop_signal)
            send(orphans, signal.SIGCONT)
            await self._orphans_end(deadline)
            kill_all(self._orphans)
            await self._orphans_end(time.monotonic() + A_MOMENT)
            _process.restore_terminal()  # now that nobody else has it

    async def _orphans_end(self, deadline: float) -> None:
        while self._orphans():
            self._reaped.clear()
            if not await _happens(self._reaped, deadline):
                return

    def _orphans(self) -> list[int]:
        """Return what descends from the program; on Linux it comes to us, wherever it went."""
        if self._strangers:  # what they start comes to us, too, once they have ended
            self._strangers |= latecomers(os.getpid())
        spared = self._spared()
        found = descendants(os.getpid(), besides=self._strangers)
        return [pid for pid in found if pid not in spared]

    def _deadline(self) -> float:
        return time.monotonic() + (self._options.stop_timeout or float("inf"))


async def _happens(event: asyncio.Event, deadline: float) -> bool:
    """Wait for *event*, until *deadline* at most; return whether it came in time."""
    seconds = max(0, deadline - time.monotonic())
    try:
        await asyncio.wait_for(event.wait(), seconds if seconds < float("inf") else None)
    except TimeoutError:
        return False
    return True
