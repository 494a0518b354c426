"""The file watcher: requests and file events come in, settled changes go out."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import zipfile
from collections.abc import Iterable
from typing import Any

import pytest

from evreload._common.own_writes import OwnWrites
from evreload._common.run_info import RunInfo
from evreload._settings import Settings
from evreload._watch import watched_files, watcher
from evreload._watch.listener import Changes, WatchRequest
from evreload._watch.owner_loop import AsyncioLoop
from evreload._watch.watcher import FileWatcher
from support.deadline import DEADLINE
from support.files import await_tick


class Listener:
    """Owns a file watcher, and keeps what it delivers."""

    def __init__(self, **settings: Any) -> None:
        self.delivered: asyncio.Queue[Changes] = asyncio.Queue()
        self.is_watching = asyncio.Event()
        self.continues = True
        self.calls: list[str] = []
        self.requests_to_come: list[WatchRequest] = []
        self.watcher = FileWatcher(
            Settings(**{"debounce": 0.0, **settings}), self, AsyncioLoop(), threading.RLock()
        )

    def on_changes(self, changes: Changes) -> None:
        self.delivered.put_nowait(changes)

    def on_watching(self) -> None:
        self.calls.append("on_watching")
        self.is_watching.set()

    def may_continue(self) -> bool:
        return self.continues

    def new_requests(self) -> Iterable[WatchRequest]:
        self.calls.append("new_requests")
        requests, self.requests_to_come = self.requests_to_come, []
        return requests

    def own_writes(self) -> OwnWrites:
        return OwnWrites()

    @property
    def run_info(self) -> RunInfo:
        return RunInfo(0, (), 0, {})

    async def watching(self) -> None:
        await asyncio.wait_for(self.is_watching.wait(), DEADLINE)

    async def changes(self) -> set[str]:
        """Wait for the next delivery; return the paths in it."""
        return set(await asyncio.wait_for(self.delivered.get(), DEADLINE))


async def until(fact):
    async with asyncio.timeout(DEADLINE):
        while not fact():  # noqa: ASYNC110  # nothing signals it
            await asyncio.sleep(0.001)


@pytest.fixture
def top(tmp_path):
    for name in ("file", "other"):
        (tmp_path / name).write_text("1")
    await_tick()
    return tmp_path.resolve()


def requests(top, *names, is_explicit=False):
    return [WatchRequest(str(top / name), time.time_ns(), is_explicit) for name in names]


def scan_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("evreload")]


def run(test):
    """Run a coroutine function; no thread of the watcher may be left."""
    asyncio.run(test())
    assert not scan_threads()


def test_a_change_is_delivered(top):
    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "file"))
        await listener.watching()
        (top / "file").write_text("22")
        assert await listener.changes() == {str(top / "file")}
        assert listener.watcher.is_requested(str(top / "file"))
        assert not listener.watcher.is_requested(str(top / "other"))
        assert time.monotonic() - listener.watcher.triggered_at < DEADLINE
        listener.watcher.stop()

    run(main)


def test_the_listener_is_called_once_when_the_watcher_watches(top):
    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "file"))
        await listener.watching()
        listener.watcher.request(*requests(top, "other"))
        await until(lambda: listener.watcher.is_requested(str(top / "other")))
        assert listener.calls.count("on_watching") == 1
        listener.watcher.stop()

    run(main)


@pytest.mark.parametrize("settings", [{"poll": True, "check_time": 0.01}, {}])
def test_it_watches_as_the_settings_say(top, caplog, settings):
    caplog.set_level("INFO", "evreload")

    async def main():
        listener = Listener(ignore=("*.log",), **settings)
        listener.watcher.start(requests(top, "app.log", "file"))
        await listener.watching()
        assert not listener.watcher.is_requested(str(top / "app.log"))
        listener.watcher.announce()
        (top / "file").write_text("22")
        assert await listener.changes() == {str(top / "file")}
        listener.watcher.stop()

    run(main)
    assert caplog.text.count("watching 1 files") == 1
    assert ("(polling every 0.01 s)" in caplog.text) == bool(settings)


def test_it_scans_in_the_background(top):
    async def main():
        listener = Listener()
        loop_thread = threading.get_ident()
        threads = []

        def first_requests():
            threads.append(threading.get_ident())
            yield from requests(top, "file")

        listener.watcher.start_in_background(first_requests)
        listener.watcher.reopen()  # for nothing: it opens once the scan has ended
        await listener.watching()
        assert threads
        assert threads != [loop_thread]
        (top / "file").write_text("22")
        assert await listener.changes() == {str(top / "file")}
        listener.watcher.stop()

    run(main)


def test_a_scan_that_fails_is_logged(caplog):
    async def main():
        listener = Listener()

        def first_requests():
            raise RuntimeError("out of order")

        listener.watcher.start_in_background(first_requests)
        listener.watcher.await_first_scan()
        listener.watcher.stop()

    run(main)
    assert "nothing will be reloaded" in caplog.text
    assert "RuntimeError: out of order" in caplog.text


# Requests


def test_requests_beyond_a_limit_wait_for_the_next_turn(top, monkeypatch):
    monkeypatch.setattr(watcher, "MAX_REQUESTS", 10)
    names = [f"file{number}" for number in range(25)]

    async def main():
        listener = Listener()
        handled = []
        listener.watcher.start()
        await listener.watching()
        files = listener.watcher._files
        assert files
        handle = files.handle

        def note(items):
            handled.append(len([item for item in items if isinstance(item, WatchRequest)]))
            handle(items)

        monkeypatch.setattr(files, "handle", note)
        listener.calls.clear()
        listener.requests_to_come = requests(top, "new")
        for request in requests(top, *names):
            listener.watcher.request(request)
        await until(lambda: listener.watcher.is_requested(str(top / "new")))
        assert handled == [10, 10, 6]  # the last of them with what the listener requests
        assert listener.calls == ["new_requests"]
        assert all(listener.watcher.is_requested(str(top / name)) for name in names)
        listener.watcher.stop()

    run(main)


def test_the_listener_is_not_asked_for_requests_if_there_were_none(top):
    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "file"))
        await listener.watching()
        (top / "file").write_text("22")
        await listener.changes()
        assert "new_requests" not in listener.calls
        listener.watcher.stop()

    run(main)


def test_a_module_in_an_archive_is_watched_by_the_archive(top):
    archive = top / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("module.py", "")

    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "archive.zip/module.py"))
        listener.watcher.request_now(requests(top, "archive.zip/other.py"))
        assert listener.watcher.is_requested(str(archive))
        for name in ("module.py", "other.py"):
            assert not listener.watcher.is_requested(str(archive / name))
        listener.watcher.stop()

    run(main)


def test_requests_of_the_user_hold_for_each_run(top):
    async def main():
        listener = Listener()
        named = requests(top, "file", is_explicit=True)
        listener.watcher.start(named)
        listener.watcher.request_now(requests(top, "other"))
        for _ in range(2):
            listener.watcher.begin_run({}, [], named, was_complete=True)
        assert listener.watcher.is_requested(str(top / "file"))
        assert not listener.watcher.is_requested(str(top / "other"))
        listener.watcher.stop()

    run(main)


@pytest.mark.parametrize("gitignore", [False, True])
def test_git_may_say_what_is_left_out_of_a_directory(top, gitignore):
    (top / ".gitignore").write_text("*.log\nbuild/\n")
    for name in ("app", "build"):
        (top / name).mkdir()
        (top / name / "page").write_text("1")
    await_tick()

    async def main():
        listener = Listener(gitignore=gitignore)
        named = requests(top, "app", "build", is_explicit=True)
        listener.watcher.start(named)
        listener.watcher.program_is_up()
        await listener.watching()
        expected = set()
        for name in ("app/app.log", "build/page", "app/page"):
            (top / name).write_text("22")
            if name != "app/app.log" or not gitignore:
                expected.add(str(top / name))
        changes: set[str] = set()
        while not expected <= changes:
            changes |= await listener.changes()
        assert changes == expected
        # The rules are read again with the next run.
        (top / ".gitignore").write_text("")
        listener.watcher.begin_run(listener.watcher.stale(), [], named, was_complete=True)
        (top / "app" / "new.log").write_text("22")
        assert str(top / "app" / "new.log") in await listener.changes()
        listener.watcher.stop()

    run(main)


# Questions


def test_files_are_looked_at_on_request(top, monkeypatch):
    """As after a restart in place, of which no event reports what changed just before."""

    async def main():
        listener = Listener(poll=True, check_time=DEADLINE)
        path = str(top / "file")
        listener.watcher.start(requests(top, "file"))
        await listener.watching()
        assert listener.watcher.stale() == listener.watcher.changes() == {}
        (top / "file").write_text("22")
        assert list(listener.watcher.stale()) == list(listener.watcher.changes()) == [path]
        listener.watcher.look_at([path])
        assert await listener.changes() == {path}
        (top / "file").unlink()
        assert listener.watcher.stale() == {path: None}
        assert listener.watcher.changes() == {}  # a deletion is none
        listener.watcher.stop()

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all files are looked at")
def test_only_files_with_events_are_looked_at_before_the_next_run(top, monkeypatch):
    looked_at = []

    def find_differing(known):
        looked_at.append(set(known))
        return known

    monkeypatch.setattr(watched_files, "find_differing", find_differing)
    for number in range(100):
        (top / f"file{number}").touch()
    await_tick()

    async def main():
        listener = Listener(debounce=DEADLINE)
        names = [f"file{number}" for number in range(100)]
        listener.watcher.start(requests(top, *names))
        await listener.watching()
        listener.watcher.stale()
        for name in names[:50:7]:  # no turn of the loop follows
            (top / name).write_text("22")
        listener.watcher.stale()
        (top / "file99").unlink()
        listener.watcher.stale()
        changed = {str(top / name) for name in names[:50:7]}
        assert looked_at == [set(), changed, {*changed, str(top / "file99")}]
        listener.watcher.stop()

    run(main)


def test_a_watcher_that_was_not_started_has_no_answers():
    async def main():
        file_watcher = Listener().watcher
        file_watcher.program_is_up()
        file_watcher.announce()
        file_watcher.disconnect()
        assert file_watcher.stale() == file_watcher.changes() == {}
        assert not file_watcher.is_requested("/srv/app.py")
        assert file_watcher.triggered_at == 0
        file_watcher.stop()

    run(main)


# What is watched is logged


def test_it_is_announced_once_everything_is_watched(top, caplog, monkeypatch):
    monkeypatch.setattr(watched_files, "SLICE", 1e-5)
    monkeypatch.setattr(watcher, "ANNOUNCE_INTERVAL", 0)
    caplog.set_level("INFO", "evreload")
    names = [f"file{number}" for number in range(100)]
    for name in names:
        (top / name).write_text("1")

    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "file"))
        await listener.watching()
        listener.watcher.request_now(requests(top, *names))
        listener.watcher.announce()
        assert not caplog.messages
        await until(lambda: caplog.messages)
        listener.watcher.announce()
        listener.watcher.stop()

    run(main)
    (message,) = caplog.messages
    assert message.startswith("watching 101 files in 1 directories (")


def test_a_stopped_watcher_is_not_announced(top, caplog):
    caplog.set_level("INFO", "evreload")

    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "file"))
        listener.watcher.stop()
        listener.watcher.announce()

    run(main)
    assert not caplog.messages


# Stop, and forks


def test_a_stopped_watcher_delivers_nothing(top):
    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "file"))
        await listener.watching()
        (top / "file").write_text("22")
        listener.watcher.stop()
        listener.watcher.reopen()
        assert not listener.watcher._queue.is_open
        listener.watcher.request(*requests(top, "other"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert listener.delivered.empty()
        assert not listener.watcher.is_requested(str(top / "other"))

    run(main)


def test_a_change_while_it_is_disconnected_is_delivered_once_it_goes_on(top):
    async def main():
        listener = Listener()
        listener.watcher.start(requests(top, "file"))
        await listener.watching()
        listener.watcher.disconnect()
        assert not scan_threads()
        (top / "file").write_text("22")
        listener.watcher.reopen()
        assert await listener.changes() == {str(top / "file")}
        listener.watcher.stop()

    run(main)


def test_it_stops_if_the_process_may_not_continue(top):
    async def main():
        listener = Listener()
        listener.continues = False
        listener.watcher.start(requests(top, "file"))
        await until(lambda: not scan_threads())
        assert not listener.calls
        (top / "file").write_text("22")
        listener.watcher.request(*requests(top, "other"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert listener.delivered.empty()

    run(main)


@pytest.mark.parametrize("is_slow", [False, True])
def test_it_is_stopped_while_it_scans(top, monkeypatch, is_slow):
    """Whether the scan ends in the time that `stop` waits for it, or not."""
    monkeypatch.setattr(watched_files, "SLICE", 1e-5)
    monkeypatch.setattr(watcher, "SCAN_TIMEOUT", 0 if is_slow else DEADLINE)
    is_scanning, may_go_on = threading.Event(), threading.Event()

    async def main():
        listener = Listener()

        def first_requests():
            is_scanning.set()
            assert may_go_on.wait(DEADLINE)
            yield from requests(top, *(f"file{number}" for number in range(100)))

        listener.watcher.start_in_background(first_requests)
        assert is_scanning.wait(DEADLINE)
        (thread,) = scan_threads()
        if not is_slow:
            may_go_on.set()
        listener.watcher.stop()
        may_go_on.set()
        thread.join(DEADLINE)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not listener.calls

    run(main)


def test_a_scan_ends_once_the_observers_are_disconnected(top, monkeypatch):
    monkeypatch.setattr(watched_files, "SLICE", 0.001)
    number = 1000

    async def main():
        listener = Listener()
        listener.watcher.start_in_background(
            lambda: requests(top, *(f"directory{n}/file" for n in range(number)))
        )
        await until(lambda: listener.watcher._files and listener.watcher._files._observers)
        assert listener.watcher._files
        assert listener.watcher._files.is_scanning
        listener.watcher.disconnect()
        listener.watcher.await_first_scan()
        assert not scan_threads()
        listener.watcher.reopen()
        await listener.watching()
        os.mkdir(top / "directory1")
        (top / "directory1" / "file").write_text("1")
        assert await listener.changes() == {str(top / "directory1" / "file")}
        listener.watcher.stop()

    run(main)
