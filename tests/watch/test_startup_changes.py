"""Whether and when to restart for what changes while the program starts."""

from __future__ import annotations

import asyncio
import time

import pytest

from evreload._common.filestat import stat_path
from evreload._common.run_info import EDIT_PAUSE, MAX_TRIES, PAUSE, RunInfo, Tries
from evreload._common.source import source_hash
from evreload._watch.listener import Changes
from evreload._watch.startup_changes import (
    NS,
    RECENT_NS,
    SOON_NS,
    StartupChanges,
)
from support.files import await_tick
from support.listeners import PartialListener


class Listener(PartialListener):
    """The owner of a watcher in a run of the program."""

    def __init__(self, tried: dict[str, Tries]) -> None:
        super().__init__()
        self.run_info = RunInfo(1, (), 0, tried)

    def on_changes(self, changes: Changes) -> None:
        raise NotImplementedError


class Start:
    """A run of the program that begins, and a file that changes meanwhile."""

    def __init__(self, file, *, tries: int = 0) -> None:
        self.path = str(file)
        self._file = file
        self.listener = Listener({self.path: Tries(tries, ("a", "b"))} if tries else {})
        self.changes = StartupChanges(self.listener)
        await_tick()
        self._content = 0

    def write(self) -> None:
        self._content += 1
        self._file.write_text(f"VALUE = {self._content}")

    def delay(self, *, is_code: bool = True) -> float | None:
        return self.changes.delay(self.path, stat_path(self.path), is_code=is_code)

    def be_up(self, *, seconds_ago: float = 0, listens: bool = True) -> None:
        up_ns = time.time_ns() - int(seconds_ago * NS)
        self.changes.began_ns = min(self.changes.began_ns, up_ns)
        self.changes.program_is_up(None, set(), listening_ns=up_ns if listens else None)
        self.changes._up_ns = up_ns

    def read(self) -> None:
        content = self._file.read_bytes()
        self.listener.writes.note_read(self.path, source_hash(content), time.time_ns())


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("VALUE = 0")
    return path


@pytest.mark.parametrize("is_code", [False, True])
def test_a_change_restarts_at_once(file, is_code):
    start = Start(file)
    start.write()
    assert start.delay(is_code=is_code) == 0
    start.be_up()
    await_tick()
    start.write()
    assert start.delay(is_code=is_code) == 0


@pytest.mark.parametrize("is_code", [False, True])
@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.parametrize("is_up", [False, True])
def test_a_file_that_differs_after_each_start_waits(file, is_code, is_own, is_up, caplog):
    start = Start(file, tries=MAX_TRIES)
    start.write()
    if is_own:
        start.listener.writes.note_written(start.path)
    if is_up:
        await_tick()
        start.be_up()
    delay = start.delay(is_code=is_code)
    assert delay is not None
    pause, _ = EDIT_PAUSE if is_code and not is_own else PAUSE
    assert pause / 2 < delay <= pause
    start.write()
    again = start.delay(is_code=is_code) if not is_up else delay
    assert again is not None
    assert 0 < again <= delay
    assert caplog.text.count("changes at each start") == 1


def test_code_that_changes_once_the_program_is_up_does_not_wait(file):
    start = Start(file, tries=MAX_TRIES)
    start.be_up()
    await_tick()
    start.write()
    assert start.delay() == 0


def test_a_data_file_waits_shortly_after_the_program_is_up(file):
    start = Start(file, tries=MAX_TRIES)
    start.be_up()
    start.write()
    assert start.delay(is_code=False)


def test_no_change_waits_once_the_program_has_ended(file):
    start = Start(file, tries=MAX_TRIES)
    start.changes.program_is_up(time.time_ns(), set(), listening_ns=None)
    await_tick()
    start.write()
    assert start.delay(is_code=False) == 0


def test_a_data_file_does_not_wait_later(file):
    start = Start(file, tries=MAX_TRIES)
    start.be_up(seconds_ago=SOON_NS / NS)
    await_tick()
    start.write()
    assert start.delay(is_code=False) == 0


def test_a_row_of_changes_at_starts_ends_with_a_later_one(file):
    start = Start(file, tries=MAX_TRIES)
    start.write()
    assert start.delay()
    start.be_up(seconds_ago=RECENT_NS / NS)
    await_tick()
    start.write()
    assert start.delay() == 0
    run_info, _ = start.listener.run_info.next_run([start.path], owner=1, started_ns=1)
    following = Start(file)
    following.listener.run_info = run_info
    following.write()
    assert following.delay() == 0


# What the program has read


def test_content_that_the_program_has_read_as_it_started_is_no_news(file):
    start = Start(file)
    start.write()
    start.read()
    assert start.delay() is None
    start.write()
    assert start.delay() == 0


def test_a_program_that_has_read_another_content_in_between_restarts(file):
    """Two processes of the program may have read two contents."""
    start = Start(file)
    for content in ("VALUE = 1", "VALUE = 2", "VALUE = 1"):
        file.write_text(content)
        start.read()
    assert start.delay() == 0


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("has_spawned", [False, True])
def test_a_generator_may_write_the_same_until_the_program_listens(file, listens, has_spawned):
    start = Start(file)
    start.read()
    if has_spawned:
        start.listener.writes.note_spawned()
    start.be_up(listens=listens)
    await_tick()
    file.write_text(file.read_text())
    assert start.delay() == (None if has_spawned and not listens else 0)


def test_a_touch_of_a_serving_program_restarts(file):
    start = Start(file)
    start.read()
    start.be_up()
    await_tick()
    file.touch()
    assert start.delay() == 0


def test_a_wait_ends(file, monkeypatch):
    monkeypatch.setattr("evreload._common.run_info.EDIT_PAUSE", (0.01, 2))
    start = Start(file, tries=MAX_TRIES)
    start.write()
    assert start.delay()

    async def wait():
        async with asyncio.timeout(10):
            while start.delay():  # noqa: ASYNC110  # nothing signals it
                await asyncio.sleep(0.001)

    asyncio.run(wait())
    assert start.delay() == 0
