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
    has_begun = has_bound = was_left = False

    def __init__(self, seconds=30.0):
        self.wishes = {self.pid: seconds}
        self.is_asked = asyncio.Event()

    def request_to_prepare(self, grace, changed):
        self.is_asked.set()
        return True


@pytest.fixture
def end():
    """Return what runs *meanwhile* while a run prepares, and returns whether another follows."""
    from evreload._settings import Options
    from evreload._supervisor.shutdown import Ending

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
    from evreload._settings import Options
    from evreload._supervisor.shutdown import Ending

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
    assert caplog.messages == [
        "requests in progress, or reload hooks, took over 0.01 s: the program is stopped"
    ]


class Hearing:
    """A run that does what it is told, as soon as it is told to."""

    pid = os.getpid()
    wishes = ()
    was_left = False
    has_begun = True

    def __init__(self, ending, *, has_bound):
        self.has_bound = has_bound
        self.status = None
        self.told = []
        self._ending = ending

    def tell(self, *record):
        self.told.append(record)
        self._ending.note_holds()

    def signal(self, number):
        self.status = -number
        self._ending.note_exit()


def told(*, has_begun=True, has_bound=True, has_ended=False, **options):
    """Return what a run is told before it is stopped."""
    from evreload._settings import Options
    from evreload._supervisor.shutdown import Ending

    async def ends():
        ending = Ending(Options(target=["app.py"], **options), set)
        run = Hearing(ending, has_bound=has_bound)
        run.has_begun = has_begun
        run.status = 0 if has_ended else None
        await ending.end(run, {})
        return run.told

    return asyncio.run(ends())


@pytest.mark.parametrize("has_bound", [False, True])
def test_who_is_stopped_is_told_before(has_bound):
    assert told(has_bound=has_bound) == [("hold", "held")]


@pytest.mark.parametrize("options", [{"grace": 0.0}, {"keep_sockets": False}])
def test_who_may_let_others_in_until_it_is_stopped_is_told_so(options):
    assert told(**options) == [("hold", "open")]


def test_who_has_not_begun_or_has_ended_is_told_nothing():
    assert told(has_begun=False) == told(has_ended=True) == []


def test_who_does_not_answer_is_not_waited_for_for_long(monkeypatch):
    from evreload._supervisor import shutdown as ending

    monkeypatch.setattr(Hearing, "tell", lambda self, *record: None)
    monkeypatch.setattr(ending, "A_MOMENT", 0.01)  # for whom it is no matter of connections
    monkeypatch.setattr(ending, "HEARING", 1e9)
    assert told(has_bound=False) == told(grace=0.0) == []


def test_who_waits_for_a_signal_gets_none_but_to_stop(monkeypatch):
    """Unless it listens: it would go on after `signal.pause`."""
    from evreload._common import process as _process

    monkeypatch.setattr(_process, "awaits_signal", lambda pid: True)
    assert told(has_bound=False) == []
    assert told(has_bound=True) == [("hold", "held")]
