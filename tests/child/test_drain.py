"""What the program does when the supervisor is about to stop it, and in which order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from evreload._child.drain import ProgramDrain
from evreload._common.protocol import Decoder, Drained, DrainTimeNeeded, HookExited, Message, Pipes
from evreload._program.hooks import Hooks


class Drain(ProgramDrain):
    """The drain of this process, and what it sends to the supervisor."""

    def __init__(self) -> None:
        self.output, write_end = os.pipe()
        self.input, self._unused = os.pipe()
        os.set_blocking(self.output, False)
        self.hooks = Hooks()
        self._write_end = write_end
        super().__init__(Pipes([write_end, self.input]), self.hooks, grace=1.0)
        self.can_ask = True

    def sent(self) -> list[Message]:
        try:
            return Decoder().feed(os.read(self.output, 1 << 16))
        except BlockingIOError:
            return []

    def close(self) -> None:
        for descriptor in (self.output, self._write_end, self.input, self._unused):
            os.close(descriptor)


@pytest.fixture
def drain() -> Iterator[Drain]:
    made = Drain()
    yield made
    made.close()


PID = os.getpid()
ANSWER = Drained(PID, answered_all=False)


def test_a_process_that_has_asked_for_no_time_answers_at_once(drain):
    called = []
    drain.hooks.add(lambda: called.append("hook"))
    drain.begin(1.0, stop_accepting=False)
    assert drain.sent() == [ANSWER]
    assert called == []


def test_time_is_asked_for_once_and_only_if_it_is_more(drain):
    for seconds in (1.0, 7.0, 7.0, 2.0):
        drain.need(seconds)
    assert drain.sent() == [DrainTimeNeeded(PID, 1.0), DrainTimeNeeded(PID, 7.0)]
    drain.need_again()
    assert drain.sent() == [DrainTimeNeeded(PID, 7.0)]


def test_a_process_that_was_not_released_asks_for_nothing(drain):
    drain.can_ask = False
    drain.need(1.0)
    assert drain.sent() == []


def test_hooks_run_before_the_answer_where_no_loop_runs(drain):
    order = []

    async def first():
        order.append("coroutine")

    drain.hooks.add(lambda: order.append(drain.sent()))
    drain.hooks.add(first)
    drain.need(7.0)
    drain.sent()
    drain.begin(1.0, stop_accepting=False)
    assert order == ["coroutine", []]
    assert drain.sent() == [ANSWER]


def test_hooks_run_before_the_answer_on_the_loop(drain):
    order: list[object] = []

    async def first():
        await asyncio.sleep(0)
        order.append("coroutine")

    async def main():
        drain.hooks.add(lambda: order.append(drain.sent()))
        drain.hooks.add(first)
        drain.need(7.0)
        drain.sent()
        drain.begin(1.0, stop_accepting=False)
        assert order == []  # the loop goes on first
        for _ in range(100):  # turns of the loop, far more than it takes
            await asyncio.sleep(0)
        assert drain.sent() == [ANSWER]

    asyncio.run(main())
    assert order == ["coroutine", []]


def test_a_second_request_is_answered_though_the_hooks_still_run(drain):
    async def main():
        async def endless():
            await asyncio.Event().wait()

        drain.hooks.add(endless)
        drain.need(7.0)
        drain.sent()
        drain.begin(1.0, stop_accepting=False)
        for _ in range(10):
            await asyncio.sleep(0)
        assert drain.sent() == []
        drain.begin(1.0, stop_accepting=False)
        assert drain.sent() == [ANSWER]

    asyncio.run(main())


def test_a_hook_that_exits_is_reported_and_ends_the_program(drain):
    def leave():
        raise SystemExit(3)

    drain.hooks.add(leave)
    drain.need(7.0)
    drain.sent()
    with pytest.raises(SystemExit, match="3"):
        drain.begin(1.0, stop_accepting=False)
    assert drain.sent() == [HookExited()]
