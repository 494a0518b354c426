"""The event loop of the thread that owns the file watcher, as the event queue sees it.

Runs in: the supervisor and the program; any thread may call `add_callback` and `ensure_running`.
Owns: nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol


class OwnerLoop(Protocol):
    """What the event queue needs of a loop."""

    def add_callback(self, callback: Callable[[], object], /) -> None:
        """Call *callback* on the loop's thread. Any thread; never raises, never blocks."""

    def ensure_running(self, callback: Callable[[], object], /) -> None:
        """If this loop does not run, search for one that does, and call *callback* on that.

        Any thread.
        """

    def on_event(self) -> None:
        """Note that an event is in the queue, and waits for a loop. Any thread."""

    def on_callback(self) -> None:
        """Note that the queue is being drained, on the loop that runs."""

    def stop_searching(self) -> None:
        """End the threads that `ensure_running` has started."""


class AsyncioLoop:
    """A loop that runs from the beginning to the end, as the supervisor's does."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call *callback* on the loop's thread. Any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback)

    def ensure_running(self, callback: Callable[[], object]) -> None:
        """Do nothing: this loop runs."""

    def on_event(self) -> None:
        """Do nothing: this loop runs, and drains the queue soon."""

    def on_callback(self) -> None:
        """Do nothing: there is no other loop."""

    def stop_searching(self) -> None:
        """Do nothing: there is no such thread."""
