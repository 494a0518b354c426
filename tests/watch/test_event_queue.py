"""The border between the observer threads and the thread of the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from evreload._inprocess.tornado_loop import TornadoLoop
from evreload._watch.event_queue import EventQueue
from evreload._watch.owner_loop import AsyncioLoop
from support.deadline import DEADLINE


class Drained:
    """An event queue on the running loop, and what it has delivered."""

    def __init__(self, make_loop):
        self.deliveries = []
        self.threads = set()
        self._more = asyncio.Event()
        self.queue = EventQueue(make_loop(), self._deliver)

    def _deliver(self, items):
        self.threads.add(threading.current_thread())
        self.deliveries.append(items)
        self._more.set()

    async def holds(self, expected):
        """Wait until all of *expected* was delivered."""
        while set().union(*self.deliveries) < expected:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), DEADLINE)


@pytest.fixture(params=["asyncio", "tornado"])
def make_loop(request):
    """Return a function that returns the running loop, as the event queue needs it."""
    if request.param == "asyncio":
        return AsyncioLoop
    return lambda: TornadoLoop(IOLoop.current(), lambda: True)


def test_nothing_is_delivered_before_it_is_open(make_loop):
    async def main():
        drained = Drained(make_loop)
        drained.queue.put(1)
        drained.queue.put(2, is_event=True)
        await asyncio.sleep(0)
        assert not drained.deliveries
        assert not drained.queue.is_open
        drained.queue.open()
        assert drained.queue.is_open
        await drained.holds({1, 2})
        assert drained.deliveries == [{1, 2}]

    asyncio.run(main())


def test_many_threads_put_and_the_loop_is_woken_once(make_loop):
    async def main():
        drained = Drained(make_loop)
        drained.queue.open()
        await asyncio.sleep(0)
        loop: Any = asyncio.get_running_loop()
        items = set(range(20_000))
        with ThreadPoolExecutor(4) as pool:  # while the loop stands still
            list(pool.map(drained.queue.put, items))
        assert len(loop._ready) <= 2
        await drained.holds(items)
        assert len(drained.deliveries) <= 3  # at the opening, and then
        assert drained.threads == {threading.current_thread()}

    asyncio.run(main())


def test_nothing_put_during_a_delivery_is_left_in_the_queue(make_loop):
    async def main():
        drained = Drained(make_loop)
        drained.queue.open()
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, 4000, 1000):
                for n in range(start, start + 1000):
                    pool.submit(drained.queue.put, n)
            await drained.holds(set(range(4000)))

    asyncio.run(main())


def test_a_closed_queue_keeps_what_is_put(make_loop):
    async def main():
        drained = Drained(make_loop)
        drained.queue.open()
        drained.queue.close()
        drained.queue.put(1)
        await asyncio.sleep(0)
        assert not drained.deliveries
        drained.queue.open()
        await drained.holds({1})

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals")
def test_a_signal_handler_wakes_the_loop(make_loop):
    """It runs on the loop's thread, while the loop is asleep."""

    async def main():
        drained = Drained(make_loop)
        drained.queue.open()
        await drained.holds(set())
        old = signal.signal(signal.SIGUSR1, lambda *_: drained.queue.put(1))
        try:
            asleep = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
            asleep.start()
            await drained.holds({1})
            asleep.join()
        finally:
            signal.signal(signal.SIGUSR1, old)

    asyncio.run(main())


def test_a_loop_that_is_closed_is_not_called(make_loop):
    async def open_queue():
        drained = Drained(make_loop)
        drained.queue.open()
        await drained.holds(set())
        return drained

    drained = asyncio.run(open_queue())
    drained.queue.put(1)
    drained.queue.close()
    assert set().union(*drained.deliveries) == set()
