"""The thread border."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest
from tornado.ioloop import IOLoop

from evreload._watch import event_queue as _mailbox
from evreload._watch.event_queue import Mailbox

DEADLINE = 60  # seconds


class Box:
    """A mailbox on the running loop, and what it has delivered."""

    def __init__(self):
        self.delivered = []
        self.threads = set()
        self._more = asyncio.Event()
        self.mailbox = Mailbox(IOLoop.current(), self._deliver)

    def _deliver(self, items):
        self.threads.add(threading.current_thread())
        self.delivered.append(items)
        self._more.set()

    async def holds(self, wanted):
        """Wait until all of *wanted* was delivered."""
        while set().union(*self.delivered) < wanted:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), DEADLINE)


def test_nothing_is_delivered_before_it_is_open():
    async def main():
        box = Box()
        box.mailbox.put(1)
        box.mailbox.tell(2)
        await asyncio.sleep(0)
        assert not box.delivered
        box.mailbox.open()
        await box.holds({1, 2})
        assert box.delivered == [{1, 2}]

    asyncio.run(main())


def test_many_threads_put_and_the_loop_is_woken_once():
    async def main():
        box = Box()
        box.mailbox.open()
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        wanted = set(range(20_000))
        with ThreadPoolExecutor(4) as pool:  # while the loop stands still
            list(pool.map(box.mailbox.put, wanted))
        assert len(loop._ready) <= 2
        await box.holds(wanted)
        assert len(box.delivered) <= 3  # at the opening, and then
        assert box.threads == {threading.current_thread()}

    asyncio.run(main())


def test_nothing_put_meanwhile_is_left_lying():
    async def main():
        box = Box()
        box.mailbox.open()
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, 4000, 1000):
                for n in range(start, start + 1000):
                    pool.submit(box.mailbox.put, n)
            await box.holds(set(range(4000)))

    asyncio.run(main())


def test_a_closed_box_keeps_what_is_put():
    async def main():
        box = Box()
        box.mailbox.open()
        box.mailbox.close()
        box.mailbox.put(1)
        await asyncio.sleep(0)
        assert not box.delivered
        box.mailbox.open()
        await box.holds({1})

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals")
def test_a_signal_handler_wakes_the_loop():
    """It runs on the loop's thread, while the loop is asleep."""

    async def main():
        box = Box()
        box.mailbox.open()
        await box.holds(set())
        old = signal.signal(signal.SIGUSR1, lambda *_: box.mailbox.put(1))
        try:
            asleep = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
            asleep.start()
            await box.holds({1})
            asleep.join()
        finally:
            signal.signal(signal.SIGUSR1, old)

    asyncio.run(main())


def test_that_no_loop_runs_is_said_once_there_is_news(monkeypatch):
    monkeypatch.setattr(_mailbox, "PATIENCE", 0)
    idle = asyncio.new_event_loop()
    asked = SimpleQueue()
    matters = iter([False, True, True])

    def unheard():
        asked.put(answer := next(matters))
        return answer

    async def make():
        return IOLoop.current()

    mailbox = Mailbox(idle.run_until_complete(make()), print, unheard)
    mailbox.put("a want")
    mailbox.open()
    for answer in (False, True):
        mailbox.tell("news")
        assert asked.get(timeout=DEADLINE) is answer
    mailbox.tell("more news")
    mailbox.close()  # waits for the thread that would say so
    mailbox.open()
    mailbox.close()
    assert asked.empty()
    idle.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_another_loop_is_found_if_ours_never_runs(is_closed):
    idle = asyncio.new_event_loop()
    delivered = asyncio.Queue()

    async def main():
        mailbox.tell(1)
        assert await delivered.get() == ({1}, asyncio.get_running_loop())
        assert mailbox.serves(IOLoop.current())
        assert mailbox.is_served()

    def deliver(items):
        if items:
            delivered.put_nowait((items, asyncio.get_running_loop()))

    async def make():
        return IOLoop.current()

    mailbox = Mailbox(idle.run_until_complete(make()), deliver)
    if is_closed:
        idle.close()
    assert not mailbox.is_served()
    mailbox.open()
    asyncio.run(asyncio.wait_for(main(), DEADLINE))
    mailbox.close()
    idle.close()
