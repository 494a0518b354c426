"""The thread border.

`Mailbox.put` may be called from any thread, and from inside an audit hook: it takes no lock.
What was put is delivered, in one set, on the thread of the event loop: all that has a state is
entered by that thread alone, but for what the audit hook notes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from tornado.ioloop import IOLoop

T = TypeVar("T")

FIRST_LOOK = 0.05  # seconds before another loop is looked for again; doubled each time
LONGEST_PAUSE = 2.0  # seconds between two looks
PATIENCE = 5.0  # seconds that news may lie here before it is said that no loop runs
LAST_LOOK = 10.0  # seconds between looks after which a forked child is taken for a mere helper


class Mailbox(Generic[T]):
    """Take items from any thread; deliver them, in one set, on the loop's.

    However many are put, at most one callback is pending. Until `open` all is kept. If news was
    told, and no loop runs anywhere, *unheard* is called, until it returns that this was said.
    """

    def __init__(
        self,
        io_loop: IOLoop,
        deliver: Callable[[set[T]], object],
        unheard: Callable[[], bool] = lambda: True,
    ) -> None:
        self._io_loop = io_loop
        self._deliver = deliver
        self._unheard = unheard
        self._was_said = False
        self._told: float | None = None  # when the news came that still lies here
        self._items: SimpleQueue[T] = SimpleQueue()
        self._flag_up = True  # nobody needs to be told before the box is open
        self._is_open = False
        self._seeker: threading.Thread | None = None
        self._halt = threading.Event()

    def put(self, item: T) -> None:
        """Keep *item* for delivery. Any thread; never blocks, never raises."""
        self._items.put(item)
        if not self._flag_up:
            self._flag_up = True
            self._wake()

    def tell(self, item: T) -> None:
        """Keep *item*, and see to it that somebody takes it. Any thread but a loop's."""
        self.put(item)
        if self._told is None:
            self._told = time.monotonic()
        if self._is_open:
            self._seek()

    def open(self) -> None:
        """Begin, or go on, to deliver: on our loop, or where it stands still, on whichever runs.

        ``Application(debug=True)`` at the top of a module means the loop of that moment, but
        ``asyncio.run`` makes another, and the first never runs. Nobody tells us.
        """
        self._is_open = True
        self._wake()
        self._seek()

    def close(self) -> None:
        """Deliver nothing, and have no thread, until it is opened again. Keeps what is put."""
        self._is_open = False
        self._flag_up = True
        self._halt.set()
        if self._seeker:
            self._seeker.join()
            self._seeker = None

    def move(self, io_loop: IOLoop) -> None:
        """Deliver on *io_loop* from the next opening on."""
        self._io_loop = io_loop

    def inherit(self, parent: int) -> None:
        """In a child of *parent*: open only if this process goes on to run the loop.

        That is so if the loop we know turns here, or if the parent ends: it was a daemon that
        detached itself, and since Python 3.12 it has to make a new loop.
        """
        loop = _asyncio_loop(self._io_loop)
        if not loop.is_closed() and not loop.is_running():
            loop.call_soon(self.open)
        self._start(self._outlive, parent)

    def serves(self, io_loop: IOLoop) -> bool:
        """Whether this is where the box is emptied."""
        return self._io_loop is io_loop

    def is_served(self) -> bool:
        """Whether the loop runs on which the box is emptied."""
        return _asyncio_loop(self._io_loop).is_running()

    def _wake(self) -> None:
        # Not IOLoop.add_callback: called by a signal handler on the loop's thread it would
        # believe the loop to be awake, and leave it asleep.
        with contextlib.suppress(RuntimeError):  # it is closed
            _asyncio_loop(self._io_loop).call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        if not self._is_open:
            return
        self._io_loop = IOLoop.current()
        self._told = None
        # Lower the flag before looking inside. What is put meanwhile is either found now or
        # raises the flag again; the other order could leave it lying here with nobody told.
        self._flag_up = False
        self._deliver({self._items.get() for _ in range(self._items.qsize())})

    def _seek(self) -> None:
        """Look for a loop that runs, as long as ours does not."""
        if not self.is_served() and not (self._seeker and self._seeker.is_alive()):
            self._start(self._search)

    def _start(self, work: Callable[..., None], *arguments: int) -> None:
        self._halt.clear()
        self._seeker = threading.Thread(
            target=work, args=arguments, name="evreload-seek", daemon=True
        )
        self._seeker.start()

    def _search(self) -> None:
        pause = FIRST_LOOK
        while not self.is_served():
            if loop := _running_loop():
                loop.call_soon_threadsafe(self._empty)
                return
            self._tell_of_silence()
            if self._halt.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _tell_of_silence(self) -> None:
        if self._was_said or self._told is None or time.monotonic() - self._told < PATIENCE:
            return
        self._told = None
        self._was_said = self._unheard()

    def _outlive(self, parent: int) -> None:
        pause = FIRST_LOOK
        while pause < LAST_LOOK and not self._halt.wait(pause):
            pause *= 2
            if os.getppid() != parent and not self._is_open:
                self.open()
                self._search()
                return


def _asyncio_loop(io_loop: IOLoop) -> asyncio.AbstractEventLoop:
    # Every IOLoop has stood on an asyncio loop since Tornado 5, but its base class does not say so.
    loop: asyncio.AbstractEventLoop = io_loop.asyncio_loop  # type: ignore[attr-defined]
    return loop


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return any event loop that runs, on whatever thread.

    Costs some milliseconds in a large program: for when there is no other way.
    """
    everything = gc.get_objects()
    # Types first, by identity: neither isinstance nor a hash may run code of the objects.
    kinds = {id(kind): kind for kind in map(type, everything)}
    loops = {key for key, kind in kinds.items() if issubclass(kind, asyncio.AbstractEventLoop)}
    if not loops:
        return None
    found = (thing for thing in everything if id(type(thing)) in loops)
    return next((loop for loop in found if loop.is_running()), None)
