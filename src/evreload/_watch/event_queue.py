"""The border between threads: observer threads put events in, the loop's thread takes them out.

`EventQueue.put` may be called from any thread, also inside an audit hook or a signal handler: it
takes no lock. All items are delivered on the thread of the loop, which alone changes the state of
the watcher.

Runs in: the supervisor and the program; `put` on any thread, the rest on the thread of
the loop, or on the thread that scans in the background.
Owns: the items not yet delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from .owner_loop import OwnerLoop

T = TypeVar("T")


class EventQueue(Generic[T]):
    """Takes items from any thread, and delivers them, as one set, on the loop's thread.

    However many items are put, at most one callback is pending on the loop. Until `open`, and
    after `close`, items are kept.
    """

    def __init__(self, loop: OwnerLoop, deliver: Callable[[set[T]], object]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._items: SimpleQueue[T] = SimpleQueue()
        self._has_pending_callback = True  # no callback is needed before `open`
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether items are delivered."""
        return self._is_open

    def put(self, item: T, *, is_event: bool = False) -> None:
        """Add *item*. Any thread; it does not raise, and does not block.

        *is_event*: an observer's thread reports it. If the loop does not run, another one that
        does is searched for.
        """
        if is_event:  # before the item is put: `_deliver_items` resets since when events wait
            self._loop.on_event()
        self._items.put(item)
        if not self._has_pending_callback:
            self._has_pending_callback = True
            self._loop.add_callback(self._deliver_items)
        if is_event and self._is_open:
            self._loop.ensure_running(self._deliver_items)

    def open(self) -> None:
        """Deliver from now on, also what was put before."""
        self._is_open = True
        self._loop.add_callback(self._deliver_items)
        self._loop.ensure_running(self._deliver_items)

    def deliver_now(self) -> None:
        """Deliver what was put so far. On the loop's thread."""
        self._deliver_items()

    def close(self) -> None:
        """Deliver nothing until `open`, and end the thread that searches for a loop."""
        self._is_open = False
        self._has_pending_callback = True
        self._loop.stop_searching()

    def _deliver_items(self) -> None:
        if not self._is_open:
            return
        self._loop.on_callback()
        # First reset the flag, then take the items: an item put meanwhile is either taken now, or
        # adds another callback. In the other order, an item could be left without a callback.
        self._has_pending_callback = False
        self._deliver({self._items.get() for _ in range(self._items.qsize())})
