"""Which loop of the program the event queue is drained on."""

from __future__ import annotations

import asyncio
import os
import threading
from queue import SimpleQueue

import pytest
from tornado.ioloop import IOLoop

from evreload._inprocess import tornado_loop
from evreload._inprocess.tornado_loop import TornadoLoop
from evreload._watch.event_queue import EventQueue
from support.deadline import DEADLINE


@pytest.fixture
def idle():
    """Return an asyncio loop that does not run."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def io_loop_on(loop):
    """Return the IOLoop of an asyncio loop."""

    async def current():
        return IOLoop.current()

    return loop.run_until_complete(current())


def search_threads():
    return [thread for thread in threading.enumerate() if thread.name == "evreload-loop-search"]


def test_that_no_loop_runs_is_reported_once_an_event_waits(idle, monkeypatch):
    monkeypatch.setattr(tornado_loop, "NO_LOOP_TIME", 0)
    asked: SimpleQueue[bool] = SimpleQueue()
    answers = iter([False, True, True])

    def on_no_loop():
        asked.put(answer := next(answers))
        return answer

    queue: EventQueue[str] = EventQueue(TornadoLoop(io_loop_on(idle), on_no_loop), print)
    queue.put("a request")
    queue.open()
    for answer in (False, True):
        queue.put("event", is_event=True)
        assert asked.get(timeout=DEADLINE) is answer
    queue.put("another event", is_event=True)
    queue.close()  # waits for the thread that would report it
    queue.open()
    queue.close()
    assert asked.empty()


def test_a_request_alone_is_no_reason_to_report_that_no_loop_runs(idle, monkeypatch):
    """The program may be about to run its loop; nothing has happened yet."""
    monkeypatch.setattr(tornado_loop, "NO_LOOP_TIME", 0)
    monkeypatch.setattr(tornado_loop, "FIRST_PAUSE", 0.001)
    asked = []

    def on_no_loop():
        asked.append(1)
        return False

    searched = threading.Semaphore(0)
    monkeypatch.setattr(tornado_loop, "_find_running_loop", searched.release)
    queue: EventQueue[str] = EventQueue(TornadoLoop(io_loop_on(idle), on_no_loop), print)
    queue.put("a request")
    queue.open()
    for _ in range(3):
        assert searched.acquire(timeout=DEADLINE)
    queue.close()
    assert not asked


def test_an_event_before_the_queue_is_open_counts(idle, monkeypatch):
    monkeypatch.setattr(tornado_loop, "NO_LOOP_TIME", 0)
    asked: SimpleQueue[int] = SimpleQueue()

    def on_no_loop():
        asked.put(1)
        return True

    queue: EventQueue[str] = EventQueue(TornadoLoop(io_loop_on(idle), on_no_loop), print)
    queue.put("event", is_event=True)
    queue.open()
    assert asked.get(timeout=DEADLINE)
    queue.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_another_loop_is_found_if_the_known_one_never_runs(idle, is_closed):
    delivered: asyncio.Queue[tuple[set[int], asyncio.AbstractEventLoop]] = asyncio.Queue()

    async def main():
        queue.put(1, is_event=True)
        assert await delivered.get() == ({1}, asyncio.get_running_loop())
        assert not loop.move_to(known)
        assert loop.move_to(IOLoop.current())
        assert loop.is_running()

    def deliver(items):
        if items:
            delivered.put_nowait((items, asyncio.get_running_loop()))

    known = io_loop_on(idle)
    loop = TornadoLoop(known, lambda: True)
    queue = EventQueue(loop, deliver)
    if is_closed:
        idle.close()
    assert not loop.is_running()
    queue.open()
    asyncio.run(asyncio.wait_for(main(), DEADLINE))
    queue.close()


def test_a_closed_queue_leaves_no_thread(idle):
    queue: EventQueue[str] = EventQueue(TornadoLoop(io_loop_on(idle), lambda: True), print)
    queue.open()
    assert len(search_threads()) == 1
    queue.put("event", is_event=True)
    assert len(search_threads()) == 1
    queue.close()
    assert not search_threads()


def test_a_loop_that_does_not_run_can_be_replaced(idle):
    loop = TornadoLoop(io_loop_on(idle), lambda: True)

    async def main():
        called = asyncio.Event()
        assert loop.move_to(IOLoop.current())
        loop.add_callback(called.set)
        await asyncio.wait_for(called.wait(), DEADLINE)

    asyncio.run(main())


# In a forked child


def test_the_process_that_runs_the_known_loop_takes_over(idle):
    loop = TornadoLoop(io_loop_on(idle), lambda: True)

    async def main():
        await asyncio.wait_for(taken_over.wait(), DEADLINE)

    taken_over = asyncio.Event()
    loop.await_takeover(os.getppid(), taken_over.set)
    assert not taken_over.is_set()
    idle.run_until_complete(main())
    loop.stop_searching()


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_process_whose_parent_ends_takes_over(idle, is_closed):
    loop = TornadoLoop(io_loop_on(idle), lambda: True)
    if is_closed:
        idle.close()
    taken_over: SimpleQueue[threading.Thread] = SimpleQueue()
    loop.await_takeover(os.getpid(), lambda: taken_over.put(threading.current_thread()))
    thread = taken_over.get(timeout=DEADLINE)  # this process is no child of itself
    assert thread.name == "evreload-loop-search"
    thread.join(DEADLINE)
    loop.stop_searching()


def test_a_process_whose_parent_lives_on_does_not_take_over(idle, monkeypatch):
    monkeypatch.setattr(tornado_loop, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(tornado_loop, "LAST_PAUSE", 0.005)
    loop = TornadoLoop(io_loop_on(idle), lambda: True)
    taken_over = []
    loop.await_takeover(os.getppid(), lambda: taken_over.append(1))
    (thread,) = search_threads()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not taken_over
