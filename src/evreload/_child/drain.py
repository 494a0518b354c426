"""What the program does before it is stopped, once its parent asks for it.

The thread of the program's loop, or else the main thread. The same in each of its workers. It
imports next to nothing, since the program pays for it.
"""

from __future__ import annotations

import os
import sys

from .._common import process as _process
from .._common import protocol as channel

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import asyncio

    from .._common.protocol import Pipes
    from .._program.hooks import Hooks
    from .._program.kept_sockets import Keeper

GRACE = 1.0  # seconds for the requests of workers, if the parent has not said
FOR_HOOKS = 7.0  # seconds; coroutine hooks have less, and say so themselves
FOR_REQUESTS = 1.0  # seconds, beyond the grace, to notice that they are answered
FOR_SOCKETS = 1.0  # seconds, to see which sockets were handed to workers that listen on them


class Preparation:
    """Answers the requests in progress, lets nobody else in, and runs the reload hooks.

    What is held back of what the program has printed is written out: it may be killed next.
    """

    def __init__(self, pipes: Pipes, hooks: Hooks) -> None:
        self._pipes = pipes
        self._hooks = hooks
        self._wished: dict[int, float] = {}  # by this process, and those it was forked from
        self.keeper: Keeper | None = None
        self.grace = GRACE
        self.is_heard = False  # by now, the parent is sure to be

    def wish(self, seconds: float) -> None:
        """Ask to be asked to prepare for the end, and for the time to do it."""
        pid = os.getpid()
        if self.is_heard and seconds > self._wished.get(pid, 0):
            self._wished[pid] = seconds
            self._pipes.report(channel.WISHES, str(seconds), str(pid))

    def wish_again(self) -> None:
        """Ask anew for all that was asked for."""
        for pid, seconds in self._wished.items():
            self._pipes.report(channel.WISHES, str(seconds), str(pid))

    def begin_worker(self) -> None:
        """In a worker: prepare if it wished to, and as it is the end in any case, let nobody in."""
        if self._wished.pop(os.getpid(), 0):
            self.begin(self.grace)
        else:
            self.hold(lets_in=False)

    def hold(self, *, lets_in: bool) -> None:
        """Write out what is held back, let nobody in any more, if so wished, and say so."""
        if self.keeper and not lets_in:
            from .._program.stop_accepting import hold

            hold(self.keeper.unkept())
        if self._pipes.are_own:
            _process.flush()
            self._pipes.report(channel.HOLDS)

    def begin(self, grace: float) -> None:
        """Prepare, with *grace* seconds for the requests in progress."""
        if self.keeper:
            self.keeper.keep_what_listens()
        # The program may be importing it just now.
        running = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
        try:
            loop = running() if running else None
        except RuntimeError:
            loop = None
        if loop:
            # The loop sleeps, and the signal alone does not wake it.
            loop.call_soon_threadsafe(self._begin_on_the_loop, loop, grace)
        else:
            try:
                if self._pipes.are_own:
                    self._hooks.wait_outside_a_loop()
                self._call_hooks([], is_held=False)
            except SystemExit:
                self._pipes.report(channel.LEFT)
                raise

    def _begin_on_the_loop(self, loop: asyncio.AbstractEventLoop, grace: float) -> None:
        self._task = loop.create_task(self._prepare_on_the_loop(grace))

    async def _prepare_on_the_loop(self, grace: float) -> None:
        unfinished = []
        is_held = False
        if "tornado.httpserver" in sys.modules and grace:
            from .._program.tornado_drain import Grace

            servers = Grace()
            unfinished = await servers.finish(grace)
            is_held = servers.are_paused
        try:
            if self._pipes.are_own:
                await self._await_hooks()
            self._call_hooks(unfinished, is_held=is_held)
        except SystemExit:
            self._pipes.report(channel.LEFT)
            raise

    async def _await_hooks(self) -> None:
        """Await the coroutine hooks; should one of them end the loop, the others are called yet."""
        import asyncio

        from .._program.hooks import is_interrupted

        try:
            await self._hooks.wait()
            return
        except asyncio.CancelledError:
            pass
        if is_interrupted():
            raise asyncio.CancelledError

    def _call_hooks(self, unfinished: list[str], *, is_held: bool) -> None:
        if self._pipes.are_own:  # a fork holds back what its parent does, which is to be said once
            self._hooks.call()
            _process.flush()
        door = channel.HELD if is_held else channel.OPEN
        self._pipes.report(channel.PREPARED, str(os.getpid()), door, *unfinished)
