"""Drains the program, when the supervisor is about to stop it.

In this order, the program finishes the requests in progress, runs the reload hooks, stops accepting
connections, flushes its output, and answers the supervisor.

Runs in: the program, under the supervisor, and each of its workers; on the thread of its loop, or
else on its main thread. The program imports it, so it imports next to nothing.
Owns: the record of the time that this process has asked for.
"""

from __future__ import annotations

import sys

from .._common.protocol import Drained, DrainTimeNeeded, HookExited
from .._common.startup import suppress
from .._common.unpatched import os
from .._program.output import flush_output

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import asyncio

    from .._common.protocol import Pipes
    from .._program.hooks import Hooks
    from .._program.kept_sockets import SocketInterceptor

TIME_FOR_HOOKS = 7.0  # seconds; more than `COROUTINE_TIMEOUT` of one coroutine hook
TIME_FOR_REQUESTS = 1.0  # seconds beyond the grace, to notice that the requests are finished
TIME_FOR_SOCKETS = 1.0  # seconds, to send the sockets that the workers have made listen
MAX_CLIENTS = 20  # unfinished clients that are named in the answer


class ProgramDrain:
    """Drains this process once; answers a second request at once."""

    def __init__(self, pipes: Pipes, hooks: Hooks, grace: float) -> None:
        self._pipes = pipes
        self._hooks = hooks
        # Seconds, by the IDs of this process and of those that it was forked from.
        self._needed: dict[int, float] = {}
        self._begun_in = 0  # the ID of the process that was drained; its forks inherit this
        self._answered_in = 0  # the same, once it has answered
        self.interceptor: SocketInterceptor | None = None
        self.grace = grace  # seconds for requests, in a worker
        self.can_ask = False  # whether the supervisor has released this process

    @property
    def has_begun(self) -> bool:
        """Whether this process drains, or has drained: it is stopped next."""
        return self._begun_in == os.getpid()

    @property
    def has_answered(self) -> bool:
        """Whether this process has drained: the supervisor expects its end."""
        return self._answered_in == os.getpid()

    def need(self, seconds: float) -> None:
        """Ask the supervisor to drain this process before it stops it, and to wait *seconds*."""
        pid = os.getpid()
        if self.can_ask and seconds > self._needed.get(pid, 0):
            self._needed[pid] = seconds
            self._pipes.send(DrainTimeNeeded(pid, seconds))

    def need_again(self) -> None:
        """Ask again for the time: the supervisor has forgotten it, since it expected a new run."""
        for pid, seconds in self._needed.items():
            self._pipes.send(DrainTimeNeeded(pid, seconds))

    def begin_in_worker(self) -> None:
        """Drain this worker, which receives SIGURG, but no messages."""
        self.begin(self.grace, stop_accepting=True)

    def begin(self, grace: float, *, stop_accepting: bool) -> None:
        """Drain, with *grace* seconds for the requests in progress, then answer."""
        pid = os.getpid()
        is_repeated = self.has_begun
        self._begun_in = pid
        if is_repeated or pid not in self._needed:
            self._answer([], answered_all=False, stop_accepting=stop_accepting)
            return
        if self.interceptor:
            self.interceptor.keep_listening()
        # The signal may have come while the program imports asyncio.
        running = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
        try:
            loop = running() if running else None
        except RuntimeError:
            loop = None
        if loop:
            # call_soon would not wake the loop: it may wait for events.
            loop.call_soon_threadsafe(self._begin_on_loop, loop, grace, stop_accepting)
        else:
            self._run_outside_loop(stop_accepting)

    def _run_outside_loop(self, stop_accepting: bool) -> None:
        try:
            if self._pipes.are_own:
                self._hooks.run_coroutines_outside_loop()
                self._hooks.run_ordinary()
        except SystemExit:
            self._pipes.send(HookExited())
            raise
        self._answer([], answered_all=False, stop_accepting=stop_accepting)

    def _begin_on_loop(
        self, loop: asyncio.AbstractEventLoop, grace: float, stop_accepting: bool
    ) -> None:
        self._task = loop.create_task(self._run_on_loop(grace, stop_accepting))

    async def _run_on_loop(self, grace: float, stop_accepting: bool) -> None:
        unfinished = []
        answered_all = False
        if "tornado.httpserver" in sys.modules and grace:
            from .._program.tornado_drain import TornadoDrain

            servers = TornadoDrain()
            unfinished = await servers.finish(grace)
            answered_all = servers.has_servers
        try:
            if self._pipes.are_own:
                await self._run_coroutine_hooks()
                self._hooks.run_ordinary()
        except SystemExit:
            self._pipes.send(HookExited())
            raise
        self._answer(unfinished, answered_all=answered_all, stop_accepting=stop_accepting)

    async def _run_coroutine_hooks(self) -> None:
        """Await the coroutine hooks. If one cancels this task, the ordinary hooks still run."""
        import asyncio

        from .._program.hooks import is_interrupted

        try:
            await self._hooks.run_coroutines()
            return
        except asyncio.CancelledError:
            pass
        if is_interrupted():
            raise asyncio.CancelledError

    def _answer(self, unfinished: list[str], *, answered_all: bool, stop_accepting: bool) -> None:
        if stop_accepting and self.interceptor and not answered_all:
            from .._program.stop_accepting import stop_accepting as stop

            with suppress(Exception):  # the supervisor waits for the answer
                stop(self.interceptor.unkept())
        if "uvicorn.server" in sys.modules:
            from .._program.uvicorn_end import end_without_sleeps

            with suppress(Exception):
                end_without_sleeps()
        if self._pipes.are_own:  # a fork would also write what it has inherited in its buffers
            flush_output()
        clients = tuple(unfinished[:MAX_CLIENTS])
        self._answered_in = os.getpid()
        self._pipes.send(Drained(os.getpid(), answered_all, clients))
