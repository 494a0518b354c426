"""Finds the program's event loop, and runs callbacks on it.

``Application(debug=True)`` at the top of a module starts evreload with the loop of that moment. But
``asyncio.run`` makes another loop later, and the first never runs. Nothing reports that. So while
the known loop does not run, a thread searches for one that does.

Runs in: the program, in in-process mode; any thread.
Owns: which loop the event queue is drained on, and the thread that searches for it.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable

from tornado.ioloop import IOLoop

from .._common.unpatched import os

FIRST_PAUSE = 0.05  # seconds before the next search for a loop; doubled each time
MAX_PAUSE = 2.0  # seconds
NO_LOOP_TIME = 5.0  # seconds that an event may wait before *on_no_loop* is called
# Seconds; before a pause of this length, a forked child is taken for a helper, which runs no loop.
LAST_PAUSE = 10.0


class TornadoLoop:
    """The `OwnerLoop` of the program: Tornado's `IOLoop`, or whichever loop runs.

    *on_no_loop* is called on the thread that searches for a loop, when an event has waited for
    `NO_LOOP_TIME`. It returns whether it has warned; if so, it is not called again.
    """

    def __init__(self, io_loop: IOLoop, on_no_loop: Callable[[], bool]) -> None:
        self._io_loop = io_loop
        self._on_no_loop = on_no_loop
        self._has_warned = False
        self._waiting_since: float | None = None  # when the first of the waiting events came
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call *callback* on the loop's thread. Any thread, also in a signal handler."""
        loop = _asyncio_loop(self._io_loop)
        try:
            is_own_thread = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_own_thread = False
        if is_own_thread:
            # In a signal handler, IOLoop.add_callback would not wake the loop; see
            # https://www.tornadoweb.org/en/stable/ioloop.html#tornado.ioloop.IOLoop.add_callback_from_signal
            loop.call_soon_threadsafe(callback)
        else:
            self._io_loop.add_callback(callback)

    def ensure_running(self, callback: Callable[[], object]) -> None:
        """If the known loop does not run, search for one that does, and call *callback* on that."""
        if not self.is_running() and not (self._thread and self._thread.is_alive()):
            self._start(self._search, callback)

    def on_event(self) -> None:
        """Note since when events wait. Any thread."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def on_callback(self) -> None:
        """Use the running loop from now on."""
        self._io_loop = IOLoop.current()
        self._waiting_since = None

    def stop_searching(self) -> None:
        """End the thread that searches for a loop."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
            self._thread = None

    def is_running(self) -> bool:
        """Whether the known loop runs."""
        return _asyncio_loop(self._io_loop).is_running()

    def move_to(self, io_loop: IOLoop) -> bool:
        """Use *io_loop* from now on. If the known loop is another and runs, return False."""
        if self.is_running() and self._io_loop is not io_loop:
            return False
        self._io_loop = io_loop
        return True

    def await_takeover(self, parent: int, take_over: Callable[[], object]) -> None:
        """In a forked child of *parent*, call *take_over* once it turns out to run the loop.

        It does if the known loop begins to run here. It also does if the parent ends: then this
        process is a daemon, which since Python 3.12 has to make a new loop.
        """
        loop = _asyncio_loop(self._io_loop)
        if not loop.is_closed() and not loop.is_running():
            loop.call_soon(take_over)
        self._start(self._await_end_of, parent, take_over)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(
            target=work, args=arguments, name="evreload-loop-search", daemon=True
        )
        self._thread.start()

    def _search(self, callback: Callable[[], object]) -> None:
        pause = FIRST_PAUSE
        while not self.is_running():
            if loop := _find_running_loop():
                loop.call_soon_threadsafe(callback)
                return
            self._warn_of_no_loop()
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, MAX_PAUSE)

    def _warn_of_no_loop(self) -> None:
        since = self._waiting_since
        if not self._has_warned and since and time.monotonic() - since >= NO_LOOP_TIME:
            self._waiting_since = None
            self._has_warned = self._on_no_loop()

    def _await_end_of(self, parent: int, take_over: Callable[[], object]) -> None:
        pause = FIRST_PAUSE
        while pause < LAST_PAUSE and not self._stopping.wait(pause):
            pause *= 2
            if os.getppid() != parent:
                self._thread = None  # this thread ends; `take_over` may start another
                take_over()
                return


def _asyncio_loop(io_loop: IOLoop) -> asyncio.AbstractEventLoop:
    # Since Tornado 5 every IOLoop has an asyncio loop, but its base class does not declare it.
    loop: asyncio.AbstractEventLoop = io_loop.asyncio_loop  # type: ignore[attr-defined]
    return loop


def _find_running_loop() -> asyncio.AbstractEventLoop | None:
    """Return any event loop that runs, on whatever thread.

    It takes some milliseconds in a large program, so it is used only if there is no other way.
    """
    everything = gc.get_objects()
    # Types first, by identity: neither isinstance nor a hash may run code of the objects.
    kinds = {id(kind): kind for kind in map(type, everything)}
    loops = {key for key, kind in kinds.items() if issubclass(kind, asyncio.AbstractEventLoop)}
    if not loops:
        return None
    found = (thing for thing in everything if id(type(thing)) in loops)
    return next((loop for loop in found if loop.is_running()), None)
