"""Wanted paths in, settled changes out."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
import time

import pytest
from conftest import await_tick

from evreload._common.own_writes import Author
from evreload._watch import debounce as settling
from evreload._watch import git_lock as git
from evreload._watch import watcher
from evreload._watch.observers import EVERYWHERE, News
from evreload._watch.watcher import Want, Watcher

DEADLINE = 60  # seconds


class Silence:
    """Observers that never tell of anything by themselves."""

    def __init__(self):
        self.armed = []
        self.stopped = False

    def arm(self, directory):
        self.armed.append(directory)

    def disarm(self, directory):
        pass

    def stop(self):
        self.stopped = True


class Watching:
    """A watcher, and what it has delivered."""

    def __init__(self, top, *, debounce=0.0, ignored=lambda path: None):
        self.top = top
        self.connected = []
        self.author = Author()
        self.excuses = set()
        self.asked = []
        self.seen = set()
        self._delivered = asyncio.Queue()
        self.watcher = Watcher(
            self._connect,
            self._delivered.put_nowait,
            debounce=debounce,
            author=lambda: self.author,
            excused=self._excused,
            ignored=ignored,
            guard=threading.RLock(),
        )

    def _connect(self):
        self.connected.append(Silence())
        return self.connected[-1]

    def _excused(self, path, may_be_own):
        self.asked.append(path)
        return path in self.excuses

    def path(self, name):
        return str(self.top / name)

    def want(self, *names, since=None, explicit=False):
        for name in names:
            self.watcher.want(Want(self.path(name), since or time.time_ns(), explicit))

    def arm(self):
        self.watcher.survey()
        self.watcher.program_is_up()
        self.watcher.receive(set())
        await_tick()

    def news(self, *names, unfinished=False):
        self.watcher.receive({News(self.path(name), unfinished) for name in names})

    async def changes(self):
        """Wait for the next delivery; return the names in it."""
        changes = await self.latest()
        names = {path.removeprefix(f"{self.top}/") for path in changes}
        self.seen |= names
        return names

    async def latest(self):
        return await asyncio.wait_for(self._delivered.get(), DEADLINE)

    async def until(self, fact):
        while not fact():  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0)


@pytest.fixture
def top(tmp_path):
    for name in ("cookie", "file", "other"):
        (tmp_path / name).write_text("1")
        os.utime(tmp_path / name, ns=(0, 0))
    await_tick()
    return tmp_path.resolve()


@pytest.fixture
def run(top):
    """Run a coroutine function with a watcher of the files in a directory."""

    def run(test, **options):
        async def main():
            watching = Watching(top, **options)
            watching.want("cookie", "file", "other")
            watching.arm()
            await test(watching)
            # Nothing else was about to be delivered:
            known = set(watching.seen)
            (top / "cookie").write_text("changed")
            watching.news("cookie")
            assert await watching.changes() - known == {"cookie"}

        asyncio.run(main())

    return run


def test_a_change_is_what_the_disk_confirms(run, top):
    async def test(watching):
        watching.news("file")
        (top / "other").write_text("22")
        watching.news("other")
        assert await watching.changes() == {"other"}

    run(test)


def test_whoever_disarms_on_another_thread_waits_for_the_step_under_way(run, top):
    async def test(watching):
        (observers,) = watching.connected
        disarming = threading.Thread(target=watching.watcher.disarm)
        states = []

        def arm(directory):
            if not disarming.ident:
                disarming.start()
            disarming.join(2 * watcher.SLICE)  # in vain
            states.append(observers.stopped)

        observers.arm = arm
        names = [f"{n}/file" for n in range(20)]
        for name in names:
            (top / name).parent.mkdir()
            (top / name).write_text("1")
        await_tick()
        watching.want(*names)
        watching.watcher.receive(set())
        await watching.until(lambda: observers.stopped)
        disarming.join()
        for _ in range(20):  # in which the steps that are left would be taken
            await asyncio.sleep(0)
        assert len(watching.connected) == 1
        assert watching.watcher.is_surveying
        assert not any(states)
        watching.arm()
        (top / names[-1]).write_text("22")
        watching.news(names[-1])
        assert await watching.changes() == {names[-1]}

    run(test)


def test_a_change_back_and_forth_is_none(run, top):
    async def test(watching):
        (top / "file").rename(top / "away")
        watching.news("file")
        (top / "away").rename(top / "file")
        watching.news("file")
        (top / "other").write_text("22")
        watching.news("other")
        assert await watching.changes() == {"other"}

    run(test, debounce=0.05)


def test_several_changes_are_delivered_together(run, top):
    async def test(watching):
        for name in ("file", "other"):
            (top / name).write_text("22")
            watching.news(name)
        assert await watching.changes() == {"file", "other"}

    run(test, debounce=0.05)


def test_what_was_delivered_comes_with_what_changes_next(run, top):
    """It may not have compiled: then both are needed."""

    async def test(watching):
        (top / "file").write_text("22")
        watching.news("file")
        assert await watching.changes() == {"file"}
        (top / "other").write_text("22")
        watching.news("file", "other")
        assert await watching.changes() == {"file", "other"}

    run(test)


def test_lost_events_are_made_up_for(run, top):
    async def test(watching):
        (top / "file").write_text("22")
        watching.watcher.receive({EVERYWHERE})
        assert await watching.changes() == {"file"}

    run(test)


def test_a_long_survey_is_done_in_slices(run, top, monkeypatch):
    monkeypatch.setattr(watcher, "SLICE", 1e-5)
    (top / "many").mkdir()
    names = [f"many/{n}" for n in range(300)]
    for name in names:
        (top / name).write_text("1")

    async def test(watching):
        watching.want(*names)
        watching.news("file")
        assert watching.watcher.is_surveying
        await watching.until(lambda: not watching.watcher.is_surveying)
        (top / names[-1]).write_text("22")
        watching.watcher.receive({EVERYWHERE})
        assert await watching.changes() == {names[-1]}

    run(test)


def test_a_deleted_file_is_no_change_until_it_is_back(run, top):
    async def test(watching):
        (top / "file").unlink()
        watching.news("file")
        (top / "other").write_text("22")
        watching.news("other")
        assert await watching.changes() == {"other"}
        (top / "file").write_text("22")
        watching.news("file")
        assert await watching.changes() == {"file", "other"}

    run(test)


# Suspects


def test_what_changed_after_it_was_read_is_a_change(run, top):
    async def test(watching):
        (top / "late").write_text("1")
        read = (top / "late").stat().st_ctime_ns
        watching.want("late", since=read)
        watching.news()
        assert await watching.changes() == {"late"}
        assert watching.asked == [watching.path("late")]

    run(test)


@pytest.mark.parametrize("asked_for_first", [False, True])
def test_what_is_imported_and_asked_for_is_known_since_the_earlier(run, top, asked_for_first):
    async def test(watching):
        (top / "late").write_text("1")
        read = (top / "late").stat().st_ctime_ns
        for explicit in (asked_for_first, not asked_for_first):
            watching.want("late", since=read + explicit, explicit=explicit)
        watching.news()
        assert await watching.changes() == {"late"}

    run(test)


def test_what_changed_before_it_was_read_is_none(run, top):
    async def test(watching):
        (top / "late").write_text("1")
        watching.want("late", since=(top / "late").stat().st_ctime_ns + 1)
        watching.news()

    run(test)


def test_a_directory_made_after_a_module_of_its_name_was_missing_is_a_change(run, top):
    async def test(watching):
        (top / "late").mkdir()
        made = (top / "late").stat().st_ctime_ns
        watching.want("late", since=made)
        watching.news()
        assert await watching.changes() == {"late"}

    run(test)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_directory_that_was_there_is_none_whatever_came_into_it(run, top, explicit):
    async def test(watching):
        (top / "tree").mkdir()
        made = (top / "tree").stat().st_ctime_ns
        watching.want("tree", since=made + (not explicit), explicit=explicit)
        watching.news()

    run(test)


def test_an_excused_suspect_is_watched_all_the_same(run, top):
    async def test(watching):
        watching.excuses.add(watching.path("late"))
        (top / "late").write_text("1")
        watching.want("late", since=(top / "late").stat().st_ctime_ns)
        watching.news()
        await watching.until(lambda: watching.asked)
        os.utime(top / "late")
        watching.news("late")
        assert await watching.changes() == {"late"}
        assert len(watching.asked) == 1

    run(test)


@pytest.mark.parametrize("by_program", [False, True])
def test_what_is_saved_during_the_start_is_excused_only_if_the_program_may_be_its_author(
    run, top, by_program
):
    async def test(watching):
        path = watching.path("file")
        watching.excuses.add(path)
        if by_program:
            watching.author.note_written(path)
        watching.watcher.renew({})
        watching.want("cookie", "file", "other")
        for name in ("file", "other"):
            (top / name).write_text("2")
        watching.news("file", "other")
        assert await watching.changes() == ({"other"} if by_program else {"file", "other"})
        assert watching.asked == ([path] if by_program else [])

    run(test, debounce=0.05)


async def without(watching, *wanted):
    """Let another run begin, which wants the file `cookie`, and what is *wanted*, and another."""
    for _ in range(2):
        watching.watcher.renew({})
        watching.want("cookie", *wanted)
        watching.news()
        await watching.until(lambda: not watching.watcher.is_surveying)
    watching.watcher.program_is_up()


@pytest.mark.parametrize("wanted", [[], ["tree/deep/named", "tree/named"]])
def test_a_tree_that_is_wanted_no_more_is_let_go(run, top, wanted):
    async def test(watching):
        (top / "tree" / "deep").mkdir(parents=True)
        (top / "tree" / "deep" / "file").write_text("1")
        watching.want("tree", explicit=True)
        watching.want("tree/deep/named", "tree/named")
        watching.news()
        await watching.until(lambda: watching.path("tree/deep") in watching.watcher.entries)
        await without(watching, *wanted)
        assert (watching.path("tree") in watching.watcher.entries) == bool(wanted)
        (top / "tree" / "deep" / "file").write_text("2")
        (top / "tree" / "deep" / "new").write_text("2")
        watching.news("tree/deep/file", "tree/deep/new")

    run(test)


def test_a_tree_is_part_of_the_one_around_it_when_it_is_wanted_no_more_itself(run, top):
    async def test(watching):
        (top / "tree" / "inner").mkdir(parents=True)
        (top / "tree" / "inner" / "file").write_text("1")
        watching.want("tree", "tree/inner", explicit=True)
        watching.news()
        await watching.until(lambda: watching.path("tree/inner/file") in watching.watcher._running)
        for _ in range(2):
            watching.watcher.renew({})
            watching.want("cookie")
            watching.want("tree", explicit=True)
            watching.news()
            await watching.until(lambda: not watching.watcher.is_surveying)
        watching.watcher.program_is_up()
        await_tick()
        (top / "tree" / "inner" / "file").write_text("2")
        (top / "tree" / "inner" / "new").write_text("2")
        watching.news("tree/inner/file", "tree/inner/new")
        assert await watching.changes() == {"tree/inner/file", "tree/inner/new"}

    run(test)


def test_what_a_run_has_not_come_to_want_is_kept(run, top):
    async def test(watching):
        (top / "tree").mkdir()
        watching.want("tree", explicit=True)
        for _ in range(3):
            watching.watcher.renew({}, was_complete=False)
            watching.want("cookie")
            watching.news()
            await watching.until(lambda: not watching.watcher.is_surveying)
        watching.watcher.program_is_up()
        (top / "tree" / "new").write_text("1")
        watching.news("tree/new")
        assert "tree/new" in await watching.changes()

    run(test)


def test_a_tree_that_a_link_leads_to_no_more_is_let_go(run, top):
    async def test(watching):
        for name in ("one", "two"):
            (top / name).mkdir()
            (top / name / "file").write_text("1")
        (top / "link").symlink_to("one")
        watching.want("link", explicit=True)
        watching.news()
        await watching.until(lambda: watching.path("one") in watching.watcher.entries)
        (top / "link").unlink()
        (top / "link").symlink_to("two")
        watching.news("link")
        assert watching.path("two/file").removeprefix(f"{top}/") in await watching.changes()
        watching.watcher.renew(watching.watcher.stale())
        watching.want("cookie")
        watching.want("link", explicit=True)
        watching.news()
        await watching.until(lambda: not watching.watcher.is_surveying)
        watching.watcher.program_is_up()
        (top / "one" / "file").write_text("2")
        watching.news("one/file")
        await_tick()
        (top / "two" / "file").write_text("2")
        watching.news("two/file")
        assert await watching.changes() == {"two/file"}

    run(test)


def test_a_suspect_that_changes_once_more_is_not_excused(run, top):
    async def test(watching):
        watching.excuses.add(watching.path("late"))
        (top / "late").write_text("1")
        watching.want("late", since=(top / "late").stat().st_ctime_ns)
        watching.news()
        os.utime(top / "late", ns=(0, 0))
        assert await watching.changes() == {"late"}
        assert not watching.asked

    run(test, debounce=0.05)


def test_an_older_file_that_is_moved_here_is_not_excused(run, top):
    """Its age tells nothing of when that was: the program may be long up."""

    async def test(watching):
        watching.excuses.add(watching.path("file"))
        (top / "file").unlink()
        (top / "file").symlink_to("other")
        watching.watcher.receive({News(watching.path("file")), EVERYWHERE})
        assert await watching.changes() == {"file"}

    run(test)


# Trees


def test_whatever_happens_in_a_tree_is_a_change(top):
    (top / "tree" / "sub").mkdir(parents=True)
    (top / "tree" / "sub" / "page").write_text("1")

    async def main():
        watching = Watching(top)
        watching.want("tree", explicit=True)
        watching.arm()
        seen = set()

        async def expect(name, *told):
            """Deliveries add up as long as nobody restarts."""
            watching.news(name, *told)
            seen.add(name)
            while not seen <= await watching.changes():
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
def test_a_tree_is_removed_and_made_again(top, is_link):
    tree = top / ("real" if is_link else "tree")
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "page").write_text("1")
    if is_link:
        (top / "tree").symlink_to("real")
    name = f"{tree.name}/sub/page"

    async def main():
        watching = Watching(top)
        watching.want("tree", explicit=True)
        watching.arm()
        shutil.rmtree(tree)
        watching.news(tree.name)
        while name not in await watching.changes():
            pass
        watching.watcher.renew(watching.watcher.stale())
        watching.want("tree", explicit=True)
        (tree / "sub").mkdir(parents=True)
        (tree / "sub" / "page").write_text("22")
        watching.news(tree.name)
        while (top / name).stat().st_ino != (await watching.latest())[str(top / name)].inode:
            pass

    asyncio.run(main())


def test_a_name_in_a_tree_comes_to_lie_behind_a_link(top):
    """What is wanted by its name is followed wherever it leads."""
    (top / "tree" / "sub").mkdir(parents=True)
    (top / "tree" / "sub" / "page").write_text("1")
    (top / "page").write_text("1")

    async def main():
        watching = Watching(top)
        watching.want("tree", explicit=True)
        watching.want("tree/sub/page")
        watching.arm()
        shutil.rmtree(top / "tree" / "sub")
        (top / "tree" / "sub").symlink_to("..")
        watching.news("tree/sub")
        await watching.changes()
        watching.watcher.renew(watching.watcher.stale())
        watching.want("tree", explicit=True)
        watching.want("tree/sub/page")
        (top / "page").write_text("22")
        watching.news("page")
        assert await watching.changes() == {"tree/sub/page"}

    asyncio.run(main())


def test_a_link_in_a_tree_is_a_tree_only_if_asked_for_by_name(top):
    (top / "tree").mkdir()
    for name in ("named", "met"):
        (top / name).mkdir()
        (top / name / "page").write_text("1")
        (top / "tree" / name).symlink_to(f"../{name}")

    async def main():
        watching = Watching(top)
        watching.want("tree", "tree/named", explicit=True)
        watching.arm()
        for name in ("met", "named"):
            (top / name / "page").write_text("22")
            watching.news(f"{name}/page")
        assert await watching.changes() == {"named/page"}

    asyncio.run(main())


def test_a_directory_is_asked_for_after_a_module_of_its_name_was_missing(top):
    async def main():
        watching = Watching(top)
        watching.want("tree")
        watching.arm()
        (top / "tree").mkdir()
        watching.want("tree", explicit=True)
        watching.news("tree")
        assert await watching.changes() == {"tree"}
        (top / "tree" / "page").write_text("1")
        watching.news("tree/page")
        assert await watching.changes() == {"tree", "tree/page"}

    asyncio.run(main())


def test_what_has_come_and_gone_in_a_tree_is_forgotten(top):
    (top / "tree").mkdir()

    async def main():
        watching = Watching(top)

        def known():
            watcher = watching.watcher
            known = watcher._running.keys() | watcher._trees._since.keys() | watcher._trees._scanned
            return {path.removeprefix(f"{top}/") for path in known}

        async def make():
            (top / "tree" / "a").mkdir()
            (top / "tree" / "a" / "page").write_text("1")
            watching.news("tree/a")
            assert await watching.changes() == {"tree/a", "tree/a/page"}

        def remove():
            shutil.rmtree(top / "tree" / "a")
            watching.news("tree/a", "tree/a/page")

        def begin_run():
            watching.watcher.renew(watching.watcher.stale())
            watching.want("tree", explicit=True)

        watching.want("tree", explicit=True)
        watching.arm()
        for n in range(100):
            watching.news(f"tree/temporary{n}")
        assert known() == {"tree"}
        await make()
        remove()
        assert known() == {"tree"}
        await make()
        shutil.rmtree(top / "tree" / "a")
        begin_run()
        assert known() == {"tree"}
        await make()
        begin_run()
        remove()
        assert await watching.changes() == {"tree/a", "tree/a/page"}
        begin_run()
        assert known() == {"tree"}
        await make()

    asyncio.run(main())


def test_what_never_matters_in_a_tree_is_not_even_looked_at(top):
    (top / "tree" / ".git").mkdir(parents=True)
    (top / "tree" / "page~").write_text("1")

    async def main():
        watching = Watching(top, ignored=lambda path: path.endswith("ignored") and "rule")
        watching.want("tree", explicit=True)
        watching.arm()
        (top / "tree" / "ignored").write_text("1")
        (top / "tree" / "page~").write_text("22")
        (top / "tree" / ".git" / "HEAD").write_text("1")
        watching.news("tree/ignored", "tree/page~", "tree/.git/HEAD")
        assert not watching.watcher.is_surveying
        (top / "tree" / "page").write_text("1")
        watching.watcher.receive({EVERYWHERE})
        assert await watching.changes() == {"tree/page"}
        assert watching.path("tree/.git") not in watching.connected[0].armed

    asyncio.run(main())


def test_a_cycle_of_links_in_a_tree_ends(top):
    (top / "tree").mkdir()
    (top / "tree" / "up").symlink_to("..")

    async def main():
        watching = Watching(top)
        watching.want("tree", explicit=True)
        watching.arm()
        (top / "tree" / "up").unlink()
        watching.news("tree/up")
        assert await watching.changes() == {"tree/up"}

    asyncio.run(main())


# Settling


def test_git_is_let_finish(run, top):
    git._repository.cache_clear()
    (top / ".git").mkdir()
    lock = top / ".git" / "index.lock"

    async def test(watching):
        lock.touch()
        (top / "file").write_text("22")
        watching.news("file")
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, (top / "other").write_text, "22")
        loop.call_later(0.2, watching.news, "other")
        loop.call_later(0.25, lock.unlink)
        assert await watching.changes() == {"file", "other"}
        assert not lock.exists()

    run(test)
    git._repository.cache_clear()


def test_a_writer_is_let_finish(run, top):
    async def test(watching):
        (top / "file").unlink()
        with (top / "file").open("w") as file:
            gone, created = News(str(top / "file"), gone=True), News(str(top / "file"), True)
            watching.watcher.receive({gone, created})
            (top / "other").write_text("22")
            watching.news("other")
            await asyncio.sleep(0.1)
            file.write("22")
        watching.news("file")
        assert await watching.changes() == {"file", "other"}

    run(test)


def test_a_writer_who_was_not_let_finish_is_not_waited_for_again(run, top, monkeypatch, caplog):
    monkeypatch.setattr(settling, "PATIENCE", 0.1)
    caplog.set_level(logging.DEBUG, "evreload")

    async def test(watching):
        (top / "file").write_text("22")
        watching.news("file", unfinished=True)
        assert await watching.changes() == {"file"}
        (top / "other").write_text("22")
        watching.news("other")
        assert await watching.changes() == {"file", "other"}
        assert caplog.text.count("waiting for a writer") == 1

    run(test)


@pytest.mark.parametrize("was_delivered", [False, True])
def test_the_loop_ends_before_a_change_has_led_to_anything(top, was_delivered):
    watching = Watching(top, debounce=0 if was_delivered else 0.05)

    async def save():
        watching.want("file")
        watching.arm()
        (top / "file").write_text("22")
        watching.news("file")
        if was_delivered:
            assert await watching.changes() == {"file"}

    async def go_on():
        watching.news()
        assert await watching.changes() == {"file"}

    asyncio.run(save())
    asyncio.run(go_on())


def test_what_is_new_is_let_be_renamed(top):
    """Some editors write a file of a name nobody knows, and then rename it over the old one."""

    async def main():
        watching = Watching(top, debounce=0.05)
        watching.want("", explicit=True)
        watching.arm()

        def rename():
            (top / "file.QbLtpN").rename(top / "file")
            watching.news("file.QbLtpN", "file")

        (top / "file.QbLtpN").write_text("22")
        watching.news("file.QbLtpN")
        asyncio.get_running_loop().call_later(0.1, rename)
        assert await watching.changes() == {"file"}

    asyncio.run(main())


def test_a_hard_link_has_no_writer(run, top):
    async def test(watching):
        (top / "file").unlink()
        os.link(top / "other", top / "file")
        watching.news("file", unfinished=True)
        assert await watching.changes() == {"file"}
        assert time.monotonic() - watching.watcher.first_news < settling.PATIENCE

    run(test)


@pytest.mark.parametrize("at_work", ["git", "git, writing", "a writer", "somebody"])
def test_nobody_starves_the_reload(run, top, monkeypatch, at_work):
    monkeypatch.setattr(settling, "PATIENCE", 0.1)
    monkeypatch.setattr(settling, "GIT_PATIENCE", 0.3)
    git._repository.cache_clear()
    if "git" in at_work:
        (top / ".git").mkdir()
        (top / ".git" / "index.lock").touch()

    async def test(watching):
        async def keep_writing():
            while at_work in ("git, writing", "somebody"):
                os.utime(top / "other")
                watching.news("other")
                await asyncio.sleep(0.005)

        task = asyncio.create_task(keep_writing())
        (top / "file").write_text("22")
        watching.news("file", unfinished=at_work == "a writer")
        assert "file" in await watching.changes()
        task.cancel()

    run(test, debounce=0.05 if at_work == "somebody" else 0)
    git._repository.cache_clear()


# Arming


def test_disarmed_and_armed_again_nothing_is_lost(run, top):
    async def test(watching):
        watching.watcher.disarm()
        assert watching.connected[0].stopped
        (top / "file").write_text("22")
        watching.watcher.receive(set())
        assert len(watching.connected) == 2
        assert await watching.changes() == {"file"}

    run(test)


def test_a_replaced_directory_is_armed_again(run, top):
    async def test(watching):
        armed = watching.connected[0].armed
        armed.clear()
        watching.watcher.receive({News(str(top))})
        assert str(top) in armed

    run(test)


def test_what_is_stale_is_told_at_once(run, top):
    async def test(watching):
        assert watching.watcher.stale() == {}
        (top / "file").write_text("22")
        assert list(watching.watcher.stale()) == [watching.path("file")]

    run(test)


def test_an_ignored_path_is_watched_only_if_asked_for_by_name(top):
    async def main():
        watching = Watching(top, ignored=lambda path: "rule")
        watching.want("file")
        watching.want("other", explicit=True)
        watching.arm()
        for name in ("file", "other"):
            (top / name).write_text("22")
        watching.watcher.receive({EVERYWHERE})
        assert await watching.changes() == {"other"}

    asyncio.run(main())


def test_news_of_what_is_wanted_no_more(top):
    """The way to it may be known for longer than that."""
    (top / "link").symlink_to(".")

    async def main():
        watching = Watching(top)
        watching.want("link/file", "link/other")
        watching.arm()
        for _ in range(2):
            watching.watcher.renew({})
            watching.want("link/other")
        for name in ("file", "other"):
            (top / name).write_text("22")
        watching.news("file", "other")
        assert await watching.changes() == {"link/other"}

    asyncio.run(main())


def test_the_next_run_begins_with_what_is_there(run, top):
    async def test(watching):
        (top / "file").write_text("22")
        watching.news("file")
        assert await watching.changes() == {"file"}
        watching.watcher.renew(watching.watcher.stale())
        watching.want("file", "cookie")
        watching.watcher.receive(set())
        assert watching.watcher.stale() == {}
        watching.watcher.renew({})
        (top / "other").write_text("22")  # not wanted by the run before
        watching.news("other")
        watching.want("cookie")

    run(test)
