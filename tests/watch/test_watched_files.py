"""Which of the watched files have changed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evreload._common.run_info import RunInfo
from evreload._common.source import source_hash
from evreload._watch import debounce as debouncing
from evreload._watch import git_lock, watched_files
from evreload._watch.ignore import IgnoreRule
from evreload._watch.listener import Changes, WatchRequest
from evreload._watch.observers.base import EVENTS_LOST, FileEvent
from evreload._watch.watched_files import WatchedFiles
from support.deadline import DEADLINE
from support.files import await_tick
from support.listeners import PartialListener
from support.observers import SilentObservers


class FakeRunInfo(RunInfo):
    """Delays restarts as the test says, and notes for which files it was asked."""

    def __init__(self) -> None:
        super().__init__(1, (), 0, {})
        self.delays: dict[str, float | None] = {}
        self.asked: list[str] = []

    def delay(self, path: str, *, may_be_own: bool, is_soon: bool, is_code: bool) -> float | None:
        if not is_soon:
            return 0.0
        self.asked.append(path)
        return self.delays.get(path, 0.0)


class Listener(PartialListener):
    """Owns the watched files of a directory, and keeps what they deliver."""

    def __init__(
        self, top: Path, *, debounce: float = 0.0, ignored: IgnoreRule = lambda path: None
    ) -> None:
        super().__init__()
        self.top = top
        self.connected: list[SilentObservers] = []
        self._run_info = FakeRunInfo()
        self.delays = self._run_info.delays  # of restarts, by path; None: it has no need
        self.asked = self._run_info.asked  # the paths for which a delay was asked
        self.seen: set[str] = set()
        self._delivered: asyncio.Queue[Changes] = asyncio.Queue()
        self.files = WatchedFiles(
            self._connect, self, threading.RLock(), debounce=debounce, ignored=ignored
        )

    def _connect(self) -> SilentObservers:
        self.connected.append(SilentObservers())
        return self.connected[-1]

    # The listener of the files

    def on_changes(self, changes: Changes) -> None:
        self._delivered.put_nowait(changes)

    @property
    def run_info(self) -> RunInfo:
        return self._run_info

    # What a test does

    def path(self, name: str) -> str:
        return str(self.top / name)

    def request(self, *names, since_ns=None, is_explicit=False):
        for name in names:
            request = WatchRequest(self.path(name), since_ns or time.time_ns(), is_explicit)
            self.files.request(request)

    def start(self):
        """Scan everything, and take the program for up."""
        self.files.scan()
        self.files.program_is_up()
        self.files.handle(set())
        await_tick()

    def report(self, *names, is_unfinished=False):
        """Handle an event of each name."""
        self.files.handle({FileEvent(self.path(name), is_unfinished) for name in names})

    async def changes(self) -> set[str]:
        """Wait for the next delivery; return the names in it."""
        changes = await self.latest()
        names = {path.removeprefix(f"{self.top}/") for path in changes}
        self.seen |= names
        return names

    async def latest(self) -> Changes:
        return await asyncio.wait_for(self._delivered.get(), DEADLINE)

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not fact():  # noqa: ASYNC110  # nothing signals it
                await asyncio.sleep(0)

    async def scanned(self):
        await self.until(lambda: not self.files.is_scanning)


@pytest.fixture
def top(tmp_path):
    for name in ("cookie", "file", "other"):
        (tmp_path / name).write_text("1")
        os.utime(tmp_path / name, ns=(0, 0))
    await_tick()
    return tmp_path.resolve()


@pytest.fixture
def run(top):
    """Run a coroutine function with the owner of the watched files in a directory."""

    def run(test, **options):
        async def main():
            listener = Listener(top, **options)
            listener.request("cookie", "file", "other")
            listener.start()
            await test(listener)
            # Nothing else is about to be delivered:
            known = set(listener.seen)
            (top / "cookie").write_text("changed")
            listener.report("cookie")
            assert await listener.changes() - known == {"cookie"}

        asyncio.run(main())

    return run


def test_an_event_is_a_change_only_if_the_file_has_changed(run, top):
    async def test(listener):
        listener.report("file")
        (top / "other").write_text("22")
        listener.report("other")
        assert await listener.changes() == {"other"}

    run(test)


def test_to_disconnect_on_another_thread_waits_for_the_step_under_way(run, top):
    async def test(listener):
        (observers,) = listener.connected
        other_thread = threading.Thread(target=listener.files.disconnect)
        states = []

        def add_watch(directory):
            if not other_thread.ident:
                other_thread.start()
            other_thread.join(2 * watched_files.SLICE)  # in vain
            states.append(observers.is_stopped)

        observers.add_watch = add_watch
        names = [f"{n}/file" for n in range(20)]
        for name in names:
            (top / name).parent.mkdir()
            (top / name).write_text("1")
        await_tick()
        listener.request(*names)
        listener.files.handle(set())
        await listener.until(lambda: observers.is_stopped)
        other_thread.join()
        for _ in range(20):  # turns in which the steps that are left would be taken
            await asyncio.sleep(0)
        assert len(listener.connected) == 1
        assert listener.files.is_scanning
        assert not any(states)
        listener.start()
        (top / names[-1]).write_text("22")
        listener.report(names[-1])
        assert await listener.changes() == {names[-1]}

    run(test)


def test_a_change_that_is_undone_is_none(run, top):
    async def test(listener):
        (top / "file").rename(top / "away")
        listener.report("file")
        (top / "away").rename(top / "file")
        listener.report("file")
        (top / "other").write_text("22")
        listener.report("other")
        assert await listener.changes() == {"other"}

    run(test, debounce=0.05)


def rewrite(path, text):
    """Write *text*, of the same size, and give the file its old time."""
    ns = path.stat().st_mtime_ns
    await_tick()
    path.write_text(text)
    os.utime(path, ns=(ns, ns))


def event(path, *, is_written):
    return {FileEvent(str(path), is_written=is_written)}


@pytest.mark.parametrize("text", ["1", "2"])
def test_a_file_that_was_written_is_a_change_though_it_has_its_old_time(run, top, text):
    async def test(listener):
        rewrite(top / "file", text)
        listener.files.handle(event(top / "file", is_written=True))
        assert await listener.changes() == {"file"}
        assert listener.path("file") in listener.files.stale()

    run(test)


def test_an_attribute_of_a_file_is_no_change_whatever_order_the_events_have(run, top):
    async def test(listener):
        await_tick()
        (top / "file").chmod(0o600)
        os.link(top / "file", top / "link")
        listener.files.handle(event(top / "file", is_written=False))
        assert not listener.files.stale()
        # Its writer sets the time before it closes the file, which is reported last.
        rewrite(top / "other", "2")
        listener.files.handle(event(top / "other", is_written=False))
        listener.files.handle(event(top / "other", is_written=True))
        assert await listener.changes() == {"other"}

    run(test)


@pytest.mark.parametrize("is_written", [False, True])
def test_the_content_counts_if_it_is_known_what_the_program_has_read(run, top, is_written):
    async def test(listener):
        for name in ("file", "other"):
            listener.writes.note_read(listener.path(name), source_hash(b"1"), time.time_ns())
        rewrite(top / "file", "1")
        listener.files.handle(event(top / "file", is_written=is_written))
        rewrite(top / "other", "2")
        listener.files.handle(event(top / "other", is_written=is_written))
        assert await listener.changes() == {"other"}

    run(test)


@pytest.mark.parametrize("may_renumber", [False, True])
def test_another_number_of_an_inode_is_no_change_where_numbers_do_not_last(
    run, top, monkeypatch, may_renumber
):
    async def test(listener):
        mounts = listener.connected[-1].mounts
        monkeypatch.setattr(mounts, "may_renumber", lambda path: may_renumber)
        fingerprint = listener.files._running[listener.path("file")]
        listener.files._running[listener.path("file")] = fingerprint._replace(inode=1)
        listener.report("file")
        assert bool(listener.files.stale()) is not may_renumber
        if not may_renumber:
            assert await listener.changes() == {"file"}

    run(test)


def test_a_file_with_other_links_is_watched_itself(run, top):
    async def test(listener):
        observers = listener.connected[-1]
        assert not observers.linked
        os.link(top / "file", top / "link")
        listener.report("file")
        assert observers.linked == {listener.path("file")}
        (top / "link").unlink()
        listener.report("file")
        assert not observers.linked
        package = top / "site-packages"
        package.mkdir()
        os.link(top / "file", package / "file")
        listener.request("site-packages/file")
        listener.files.handle(set())
        listener.report("site-packages/file")
        assert not observers.linked

    run(test)


def test_several_changes_are_delivered_together(run, top):
    async def test(listener):
        for name in ("file", "other"):
            (top / name).write_text("22")
            listener.report(name)
        assert await listener.changes() == {"file", "other"}

    run(test, debounce=0.05)


def test_changes_are_delivered_again_with_the_next_ones(run, top):
    """It may not have compiled: then both are needed."""

    async def test(listener):
        (top / "file").write_text("22")
        listener.report("file")
        assert await listener.changes() == {"file"}
        (top / "other").write_text("22")
        listener.report("file", "other")
        assert await listener.changes() == {"file", "other"}

    run(test)


def test_after_lost_events_every_file_is_looked_at(run, top):
    async def test(listener):
        (top / "file").write_text("22")
        listener.files.handle({EVENTS_LOST})
        assert await listener.changes() == {"file"}

    run(test)


def test_a_long_scan_is_done_in_slices(run, top, monkeypatch):
    monkeypatch.setattr(watched_files, "SLICE", 1e-5)
    (top / "many").mkdir()
    names = [f"many/{n}" for n in range(300)]
    for name in names:
        (top / name).write_text("1")

    async def test(listener):
        listener.request(*names)
        listener.report("file")
        assert listener.files.is_scanning
        await listener.scanned()
        (top / names[-1]).write_text("22")
        listener.files.handle({EVENTS_LOST})
        assert await listener.changes() == {names[-1]}

    run(test)


def test_a_deleted_file_is_no_change_until_it_exists_again(run, top):
    async def test(listener):
        (top / "file").unlink()
        listener.report("file")
        (top / "other").write_text("22")
        listener.report("other")
        assert await listener.changes() == {"other"}
        (top / "file").write_text("22")
        listener.report("file")
        assert await listener.changes() == {"file", "other"}

    run(test)


# Changes made while the program started, or before


def test_a_file_that_changed_after_it_was_read_is_a_change(run, top):
    async def test(listener):
        (top / "late").write_text("1")
        read_ns = (top / "late").stat().st_ctime_ns
        listener.request("late", since_ns=read_ns)
        listener.report()
        assert await listener.changes() == {"late"}

    run(test)


@pytest.mark.parametrize("is_explicit_first", [False, True])
def test_of_two_requests_of_one_path_the_earlier_time_counts(run, top, is_explicit_first):
    async def test(listener):
        (top / "late").write_text("1")
        read_ns = (top / "late").stat().st_ctime_ns
        for is_explicit in (is_explicit_first, not is_explicit_first):
            listener.request("late", since_ns=read_ns + is_explicit, is_explicit=is_explicit)
        listener.report()
        assert await listener.changes() == {"late"}

    run(test)


def test_a_file_that_changed_before_it_was_read_is_no_change(run, top):
    async def test(listener):
        (top / "late").write_text("1")
        listener.request("late", since_ns=(top / "late").stat().st_ctime_ns + 1)
        listener.report()

    run(test)


def test_a_directory_created_after_a_module_of_its_name_was_missing_is_a_change(run, top):
    async def test(listener):
        (top / "late").mkdir()
        created_ns = (top / "late").stat().st_ctime_ns
        listener.request("late", since_ns=created_ns)
        listener.report()
        assert await listener.changes() == {"late"}

    run(test)


@pytest.mark.parametrize("is_explicit", [False, True])
def test_a_directory_that_existed_is_no_change_though_entries_were_created_in_it(
    run, top, is_explicit
):
    async def test(listener):
        (top / "tree").mkdir()
        created_ns = (top / "tree").stat().st_ctime_ns
        listener.request("tree", since_ns=created_ns + (not is_explicit), is_explicit=is_explicit)
        listener.report()

    run(test)


def test_an_excused_file_is_still_watched(run, top):
    async def test(listener):
        listener.files.begin_run({})
        listener.request("cookie", "file", "other")
        listener.delays[listener.path("late")] = None
        (top / "late").write_text("1")
        listener.request("late", since_ns=(top / "late").stat().st_ctime_ns)
        listener.report()
        await listener.until(lambda: listener.asked)
        listener.files.program_is_up()
        await_tick()
        os.utime(top / "late")
        listener.report("late")
        assert await listener.changes() == {"late"}
        assert len(listener.asked) == 1

    run(test)


def test_a_restart_may_wait(run, top):
    async def test(listener):
        listener.files.begin_run({})
        listener.request("cookie", "file", "other")
        listener.delays[listener.path("file")] = 0.3
        for name in ("file", "other"):
            (top / name).write_text("2")
        listener.report("file", "other")
        assert await listener.changes() == {"other"}
        assert await listener.changes() == {"file", "other"}

    run(test, debounce=0.05)


def test_a_restart_that_waits_is_not_needed_once_another_run_has_begun(run, top):
    async def test(listener):
        listener.files.begin_run({})
        listener.request("cookie", "file")
        listener.delays[listener.path("file")] = 0.1
        (top / "file").write_text("2")
        listener.report("file")
        await listener.until(lambda: listener.files._startup.is_waiting(listener.path("file")))
        listener.files.begin_run(listener.files.stale())
        listener.request("cookie", "file")
        await asyncio.sleep(0.2)

    run(test)


def test_a_change_once_the_program_is_up_does_not_wait(run, top):
    async def test(listener):
        listener.files.begin_run({})
        listener.request("cookie", "file")
        listener.delays[listener.path("file")] = DEADLINE
        (top / "file").write_text("2")
        listener.report("file")
        await listener.until(lambda: listener.files._startup.is_waiting(listener.path("file")))
        listener.files.program_is_up(time.time_ns())
        await_tick()
        listener.delays.clear()
        (top / "file").write_text("33")
        listener.report("file")
        assert await listener.changes() == {"file"}

    run(test)


async def begin_two_runs(listener, *requested):
    """Begin two runs, one after the other, each of which requests `cookie` and *requested*."""
    for _ in range(2):
        listener.files.begin_run({})
        listener.request("cookie", *requested)
        listener.report()
        await listener.scanned()
    listener.files.program_is_up()


@pytest.mark.parametrize("requested", [[], ["tree/deep/named", "tree/named"]])
def test_a_directory_that_is_not_requested_any_more_is_forgotten(run, top, requested):
    async def test(listener):
        (top / "tree" / "deep").mkdir(parents=True)
        (top / "tree" / "deep" / "file").write_text("1")
        listener.request("tree", is_explicit=True)
        listener.request("tree/deep/named", "tree/named")
        listener.report()
        await listener.until(lambda: listener.path("tree/deep") in listener.files.entries)
        await begin_two_runs(listener, *requested)
        assert (listener.path("tree") in listener.files.entries) == bool(requested)
        (top / "tree" / "deep" / "file").write_text("2")
        (top / "tree" / "deep" / "new").write_text("2")
        listener.report("tree/deep/file", "tree/deep/new")

    run(test)


def test_a_directory_not_requested_any_more_stays_a_part_of_the_one_around_it(run, top):
    async def test(listener):
        (top / "tree" / "inner").mkdir(parents=True)
        (top / "tree" / "inner" / "file").write_text("1")
        listener.request("tree", "tree/inner", is_explicit=True)
        listener.report()
        await listener.until(lambda: listener.path("tree/inner/file") in listener.files._running)
        for _ in range(2):
            listener.files.begin_run({})
            listener.request("cookie")
            listener.request("tree", is_explicit=True)
            listener.report()
            await listener.scanned()
        listener.files.program_is_up()
        await_tick()
        (top / "tree" / "inner" / "file").write_text("2")
        (top / "tree" / "inner" / "new").write_text("2")
        listener.report("tree/inner/file", "tree/inner/new")
        assert await listener.changes() == {"tree/inner/file", "tree/inner/new"}

    run(test)


def test_requests_are_kept_if_a_run_may_have_failed_before_it_made_them(run, top):
    async def test(listener):
        (top / "tree").mkdir()
        listener.request("tree", is_explicit=True)
        for _ in range(3):
            listener.files.begin_run({}, was_complete=False)
            listener.request("cookie")
            listener.report()
            await listener.scanned()
        listener.files.program_is_up()
        (top / "tree" / "new").write_text("1")
        listener.report("tree/new")
        assert "tree/new" in await listener.changes()

    run(test)


def test_a_directory_that_a_link_does_not_lead_to_any_more_is_forgotten(run, top):
    async def test(listener):
        for name in ("one", "two"):
            (top / name).mkdir()
            (top / name / "file").write_text("1")
        (top / "link").symlink_to("one")
        listener.request("link", is_explicit=True)
        listener.report()
        await listener.until(lambda: listener.path("one") in listener.files.entries)
        (top / "link").unlink()
        (top / "link").symlink_to("two")
        listener.report("link")
        assert listener.path("two/file").removeprefix(f"{top}/") in await listener.changes()
        listener.files.begin_run(listener.files.stale())
        listener.request("cookie")
        listener.request("link", is_explicit=True)
        listener.report()
        await listener.scanned()
        listener.files.program_is_up()
        (top / "one" / "file").write_text("2")
        listener.report("one/file")
        await_tick()
        (top / "two" / "file").write_text("2")
        listener.report("two/file")
        assert await listener.changes() == {"two/file"}

    run(test)


def test_a_file_that_changes_once_more_is_not_excused(run, top):
    async def test(listener):
        listener.delays[listener.path("late")] = None
        (top / "late").write_text("1")
        listener.request("late", since_ns=(top / "late").stat().st_ctime_ns)
        listener.report()
        os.utime(top / "late", ns=(0, 0))
        assert await listener.changes() == {"late"}
        assert not listener.asked

    run(test, debounce=0.05)


def test_an_older_file_that_is_moved_to_a_path_is_not_excused(run, top):
    """It may have been moved at any time: its own time does not say when."""

    async def test(listener):
        listener.delays[listener.path("file")] = None
        (top / "file").unlink()
        (top / "file").symlink_to("other")
        listener.files.handle({FileEvent(listener.path("file")), EVENTS_LOST})
        assert await listener.changes() == {"file"}

    run(test)


# Watched directories


def test_everything_that_happens_in_a_watched_directory_is_a_change(top):
    (top / "tree" / "sub").mkdir(parents=True)
    (top / "tree" / "sub" / "page").write_text("1")

    async def main():
        listener = Listener(top)
        listener.request("tree", is_explicit=True)
        listener.start()
        seen = set()

        async def expect(name, *others):
            """Report events; wait for all changes so far, since there is no restart."""
            listener.report(name, *others)
            seen.add(name)
            while not seen <= await listener.changes():
                pass

        (top / "tree" / "sub" / "page").write_text("22")
        await expect("tree/sub/page")
        (top / "tree" / "new").write_text("1")
        await expect("tree/new")
        (top / "tree" / "new").unlink()
        (top / "tree" / "a" / "b").mkdir(parents=True)
        (top / "tree" / "a" / "b" / "c").write_text("1")
        seen.add("tree/a/b/c")
        seen.remove("tree/new")
        await expect("tree/a", "tree/new")
        (top / "tree" / "sub" / "page").unlink()
        await expect("tree/sub/page")

    asyncio.run(main())


@pytest.mark.parametrize("is_link", [False, True])
def test_a_watched_directory_is_removed_and_created_again(top, is_link):
    tree = top / ("real" if is_link else "tree")
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "page").write_text("1")
    if is_link:
        (top / "tree").symlink_to("real")
    name = f"{tree.name}/sub/page"

    async def delivered_inode(listener):
        fingerprint = (await listener.latest())[str(top / name)]
        assert fingerprint
        return fingerprint.inode

    async def main():
        listener = Listener(top)
        listener.request("tree", is_explicit=True)
        listener.start()
        shutil.rmtree(tree)
        listener.report(tree.name)
        while name not in await listener.changes():
            pass
        listener.files.begin_run(listener.files.stale())
        listener.request("tree", is_explicit=True)
        (tree / "sub").mkdir(parents=True)
        (tree / "sub" / "page").write_text("22")
        listener.report(tree.name)
        while (top / name).stat().st_ino != await delivered_inode(listener):
            pass

    asyncio.run(main())


def test_a_directory_on_the_way_to_a_requested_path_becomes_a_link(top):
    """The requested path is followed wherever it leads."""
    (top / "tree" / "sub").mkdir(parents=True)
    (top / "tree" / "sub" / "page").write_text("1")
    (top / "page").write_text("1")

    async def main():
        listener = Listener(top)
        listener.request("tree", is_explicit=True)
        listener.request("tree/sub/page")
        listener.start()
        shutil.rmtree(top / "tree" / "sub")
        (top / "tree" / "sub").symlink_to("..")
        listener.report("tree/sub")
        await listener.changes()
        listener.files.begin_run(listener.files.stale())
        listener.request("tree", is_explicit=True)
        listener.request("tree/sub/page")
        (top / "page").write_text("22")
        listener.report("page")
        assert await listener.changes() == {"tree/sub/page"}

    asyncio.run(main())


def test_a_link_in_a_watched_directory_is_followed_only_if_it_was_requested_itself(top):
    (top / "tree").mkdir()
    for name in ("requested", "found"):
        (top / name).mkdir()
        (top / name / "page").write_text("1")
        (top / "tree" / name).symlink_to(f"../{name}")

    async def main():
        listener = Listener(top)
        listener.request("tree", "tree/requested", is_explicit=True)
        listener.start()
        for name in ("found", "requested"):
            (top / name / "page").write_text("22")
            listener.report(f"{name}/page")
        assert await listener.changes() == {"requested/page"}

    asyncio.run(main())


def test_a_directory_is_requested_after_a_module_of_its_name_was_missing(top):
    async def main():
        listener = Listener(top)
        listener.request("tree")
        listener.start()
        (top / "tree").mkdir()
        listener.request("tree", is_explicit=True)
        listener.report("tree")
        assert await listener.changes() == {"tree"}
        (top / "tree" / "page").write_text("1")
        listener.report("tree/page")
        assert await listener.changes() == {"tree", "tree/page"}

    asyncio.run(main())


def test_a_path_created_and_removed_in_a_watched_directory_is_forgotten(top):
    (top / "tree").mkdir()

    async def main():
        listener = Listener(top)

        def known():
            directories = listener.files._directories
            paths = {*listener.files._running, *directories._since_ns, *directories._scanned}
            return {path.removeprefix(f"{top}/") for path in paths}

        async def create():
            (top / "tree" / "a").mkdir()
            (top / "tree" / "a" / "page").write_text("1")
            listener.report("tree/a")
            assert await listener.changes() == {"tree/a", "tree/a/page"}

        def remove():
            shutil.rmtree(top / "tree" / "a")
            listener.report("tree/a", "tree/a/page")

        def begin_run():
            listener.files.begin_run(listener.files.stale())
            listener.request("tree", is_explicit=True)

        listener.request("tree", is_explicit=True)
        listener.start()
        for n in range(100):
            listener.report(f"tree/temporary{n}")
        assert known() == {"tree"}
        await create()
        remove()
        assert known() == {"tree"}
        await create()
        shutil.rmtree(top / "tree" / "a")
        begin_run()
        assert known() == {"tree"}
        await create()
        begin_run()
        remove()
        assert await listener.changes() == {"tree/a", "tree/a/page"}
        begin_run()
        assert known() == {"tree"}
        await create()

    asyncio.run(main())


def test_an_ignored_path_in_a_watched_directory_is_not_looked_at(top):
    (top / "tree" / ".git").mkdir(parents=True)
    (top / "tree" / "page~").write_text("1")

    async def main():
        listener = Listener(top, ignored=lambda path: "rule" if path.endswith("ignored") else None)
        listener.request("tree", is_explicit=True)
        listener.start()
        (top / "tree" / "ignored").write_text("1")
        (top / "tree" / "page~").write_text("22")
        (top / "tree" / ".git" / "HEAD").write_text("1")
        listener.report("tree/ignored", "tree/page~", "tree/.git/HEAD")
        assert not listener.files.is_scanning
        (top / "tree" / "page").write_text("1")
        listener.files.handle({EVENTS_LOST})
        assert await listener.changes() == {"tree/page"}
        assert listener.path("tree/.git") not in listener.connected[0].watched

    asyncio.run(main())


def test_a_cycle_of_links_in_a_watched_directory_ends(top):
    (top / "tree").mkdir()
    (top / "tree" / "up").symlink_to("..")

    async def main():
        listener = Listener(top)
        listener.request("tree", is_explicit=True)
        listener.start()
        (top / "tree" / "up").unlink()
        listener.report("tree/up")
        assert await listener.changes() == {"tree/up"}

    asyncio.run(main())


# Debouncing


def test_git_may_finish_first(run, top):
    git_lock._repository.cache_clear()
    (top / ".git").mkdir()
    lock = top / ".git" / "index.lock"

    async def test(listener):
        lock.touch()
        (top / "file").write_text("22")
        listener.report("file")
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, (top / "other").write_text, "22")
        loop.call_later(0.2, listener.report, "other")
        loop.call_later(0.25, lock.unlink)
        assert await listener.changes() == {"file", "other"}
        assert not lock.exists()

    run(test)
    git_lock._repository.cache_clear()


def test_a_writer_may_finish_first(run, top):
    async def test(listener):
        (top / "file").unlink()
        with (top / "file").open("w") as file:
            gone = FileEvent(listener.path("file"), is_gone=True)
            created = FileEvent(listener.path("file"), is_unfinished=True)
            listener.files.handle({gone, created})
            (top / "other").write_text("22")
            listener.report("other")
            await asyncio.sleep(0.1)
            file.write("22")
        listener.report("file")
        assert await listener.changes() == {"file", "other"}

    run(test)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report each write")
@pytest.mark.parametrize("had_event", [False, True])
def test_a_file_that_is_still_open_is_waited_for(run, top, had_event):
    async def test(listener):
        with (top / "file").open("w") as file:
            (top / "other").write_text("22")
            listener.report("other", *["file"] * had_event)
            await asyncio.sleep(0.1)
            file.write("22")
        listener.report("file")
        assert await listener.changes() == {"file", "other"}

    run(test)


def test_an_emptied_file_is_waited_for_where_writers_are_not_known(run, top, monkeypatch):
    monkeypatch.setattr(watched_files, "has_writer", lambda path: None)

    async def test(listener):
        for name, text in (("file", ""), ("other", "22")):
            (top / name).write_text(text)
        listener.report("file", "other")
        await asyncio.sleep(0.1)
        (top / "file").write_text("22")
        listener.report("file")
        assert await listener.changes() == {"file", "other"}

    run(test)


def test_a_log_that_is_open_all_the_time_is_not_waited_for(run, top, caplog):
    caplog.set_level(logging.DEBUG, "evreload")

    async def test(listener):
        (top / "log").write_text("1")
        listener.request("log", is_explicit=True)
        listener.start()
        with (top / "log").open("a") as log:
            log.write("2")
            log.flush()
            (top / "other").write_text("22")
            listener.report("other")
            assert await listener.changes() == {"other"}
        assert "waiting for a writer" not in caplog.text
        listener.report("log")
        assert await listener.changes() == {"log", "other"}

    run(test)


def test_a_writer_that_took_too_long_is_not_waited_for_again(run, top, monkeypatch, caplog):
    monkeypatch.setattr(debouncing, "MAX_WAIT", 0.1)
    caplog.set_level(logging.DEBUG, "evreload")

    async def test(listener):
        (top / "file").write_text("22")
        listener.report("file", is_unfinished=True)
        assert await listener.changes() == {"file"}
        (top / "other").write_text("22")
        listener.report("other")
        assert await listener.changes() == {"file", "other"}
        assert caplog.text.count("waiting for a writer") == 1

    run(test)


@pytest.mark.parametrize("was_delivered", [False, True])
def test_the_loop_ends_before_a_change_has_led_to_a_restart(top, was_delivered):
    listener = Listener(top, debounce=0 if was_delivered else 0.05)

    async def save():
        listener.request("file")
        listener.start()
        (top / "file").write_text("22")
        listener.report("file")
        if was_delivered:
            assert await listener.changes() == {"file"}

    async def go_on():
        listener.report()
        assert await listener.changes() == {"file"}

    asyncio.run(save())
    asyncio.run(go_on())


def test_a_new_file_may_be_renamed_first(top):
    """Some editors write a file of an unknown name, and then rename it over the old one."""

    async def main():
        listener = Listener(top, debounce=0.05)
        listener.request("", is_explicit=True)
        listener.start()

        def rename():
            (top / "file.QbLtpN").rename(top / "file")
            listener.report("file.QbLtpN", "file")

        (top / "file.QbLtpN").write_text("22")
        listener.report("file.QbLtpN")
        asyncio.get_running_loop().call_later(0.1, rename)
        assert await listener.changes() == {"file"}

    asyncio.run(main())


def test_a_hard_link_has_no_writer(run, top):
    async def test(listener):
        (top / "file").unlink()
        os.link(top / "other", top / "file")
        listener.report("file", is_unfinished=True)
        assert await listener.changes() == {"file"}
        assert time.monotonic() - listener.files.triggered_at < debouncing.MAX_WAIT

    run(test)


@pytest.mark.parametrize("at_work", ["git", "git, writing", "a writer", "endless writes"])
def test_no_writer_can_prevent_the_restart(run, top, monkeypatch, at_work):
    monkeypatch.setattr(debouncing, "MAX_WAIT", 0.1)
    monkeypatch.setattr(debouncing, "MAX_GIT_WAIT", 0.3)
    git_lock._repository.cache_clear()
    if "git" in at_work:
        (top / ".git").mkdir()
        (top / ".git" / "index.lock").touch()

    async def test(listener):
        async def keep_writing():
            while at_work in ("git, writing", "endless writes"):
                os.utime(top / "other")
                listener.report("other")
                await asyncio.sleep(0.005)

        task = asyncio.create_task(keep_writing())
        (top / "file").write_text("22")
        listener.report("file", is_unfinished=at_work == "a writer")
        assert "file" in await listener.changes()
        task.cancel()

    run(test, debounce=0.05 if at_work == "endless writes" else 0)
    git_lock._repository.cache_clear()


# Observers


def test_a_change_while_the_observers_are_disconnected_is_found(run, top):
    async def test(listener):
        listener.files.disconnect()
        assert listener.connected[0].is_stopped
        (top / "file").write_text("22")
        listener.files.handle(set())
        assert len(listener.connected) == 2
        assert await listener.changes() == {"file"}

    run(test)


def test_a_replaced_directory_is_watched_again(run, top):
    async def test(listener):
        watched = listener.connected[0].watched
        watched.clear()
        listener.files.handle({FileEvent(str(top))})
        assert str(top) in watched

    run(test)


def test_stale_files_are_found_at_once(run, top):
    async def test(listener):
        assert listener.files.stale() == {}
        (top / "file").write_text("22")
        assert list(listener.files.stale()) == [listener.path("file")]

    run(test)


def test_an_ignored_path_is_watched_only_if_the_user_named_it(top):
    async def main():
        listener = Listener(top, ignored=lambda path: "rule")
        listener.request("file")
        listener.request("other", is_explicit=True)
        listener.start()
        for name in ("file", "other"):
            (top / name).write_text("22")
        listener.files.handle({EVENTS_LOST})
        assert await listener.changes() == {"other"}

    asyncio.run(main())


def test_an_event_of_a_path_that_is_not_requested_any_more(top):
    """The way to it may still be known."""
    (top / "link").symlink_to(".")

    async def main():
        listener = Listener(top)
        listener.request("link/file", "link/other")
        listener.start()
        for _ in range(2):
            listener.files.begin_run({})
            listener.request("link/other")
        for name in ("file", "other"):
            (top / name).write_text("22")
        listener.report("file", "other")
        assert await listener.changes() == {"link/other"}

    asyncio.run(main())


def test_the_next_run_has_read_the_files_as_they_are(run, top):
    async def test(listener):
        (top / "file").write_text("22")
        listener.report("file")
        assert await listener.changes() == {"file"}
        listener.files.begin_run(listener.files.stale())
        listener.request("file", "cookie")
        listener.files.handle(set())
        assert listener.files.stale() == {}
        listener.files.begin_run({})
        (top / "other").write_text("22")  # not requested by the run before
        listener.report("other")
        listener.request("cookie")

    run(test)
