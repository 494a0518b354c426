"""How a run is brought to its end; `test_family.py` and `test_hooks.py` try it with real ones."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no supervisor there")


class Preparing:
    """A run that was asked to prepare."""

    pid = os.getpid()
    status = None
    has_bound = was_left = False

    def __init__(self, seconds=30.0):
        self.wishes = {self.pid: seconds}
        self.is_asked = asyncio.Event()

    def request_to_prepare(self, grace, changed):
        self.is_asked.set()
        return True


@pytest.fixture
def end():
    """Return what runs *meanwhile* while a run prepares, and returns whether another follows."""
    from evreload._command.ending import Ending
    from evreload._settings import Options

    async def ends(meanwhile):
        ending = Ending(Options(target=["app.py"]), set)
        run = Preparing()
        task = asyncio.create_task(ending.end(run, {}))
        await run.is_asked.wait()
        meanwhile(ending, run)
        run.status = 0
        ending.note_exit()
        return await task

    return lambda meanwhile: asyncio.run(ends(meanwhile))


def test_who_ends_as_soon_as_it_is_prepared_is_followed_by_the_next_run(end):
    def prepared(ending, run):
        ending.note_prepared(run.pid, (), lets_in=True)
        assert ending.is_under_way  # so that nobody says that it ended by itself

    assert end(prepared)


def test_who_ends_by_chance_while_it_prepares_is_followed_by_the_next_run(end):
    assert end(lambda ending, run: None)


def test_who_is_ended_by_a_hook_is_not_followed(end):
    assert not end(lambda ending, run: setattr(run, "was_left", True))


@pytest.mark.parametrize("left", [False, True], ids=["in vain", "an exit that was caught"])
def test_who_is_not_prepared_in_time_is_ended_all_the_same(caplog, left):
    from evreload._command.ending import Ending
    from evreload._settings import Options

    async def ends():
        ending = Ending(Options(target=["app.py"], grace=0.0), set)
        run = Preparing(0.01)
        run.was_left = left

        def end(number):
            run.status = -number
            ending.note_exit()

        run.signal = end
        return await ending.end(run, {})

    assert asyncio.run(ends())
    assert caplog.messages == ["the program was not ready to be stopped in 0.01 s"]
