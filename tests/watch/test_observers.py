"""The observers, and the choice between them."""

from __future__ import annotations

import errno
import logging
import os
import queue
import sys
import threading

import pytest
from watchdog.events import (
    DirModifiedEvent,
    FileClosedNoWriteEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileOpenedEvent,
)

from evreload._watch.observers import mounts
from evreload._watch.observers.base import EVENTS_LOST, FileEvent
from evreload._watch.observers.observer_set import ObserverSet
from evreload._watch.observers.polling import PollingObserver
from evreload._watch.observers.portable import PortableObserver
from support.deadline import DEADLINE
from support.files import await_tick
from support.waiting import until

CHECK_TIME = 0.02  # seconds

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")


class Reported(queue.Queue[FileEvent]):
    """The events that were reported, in order."""

    def next(self):
        return self.get(timeout=DEADLINE)

    def until(self, last):
        """Return all that is reported before *last*."""
        before = []
        while (event := self.next()) != last:
            before.append(event)
        return before


@pytest.fixture
def reported():
    return Reported()


@pytest.fixture
def top(tmp_path):
    return tmp_path.resolve()


@pytest.fixture
def entries(top):
    return {str(top): {"file", "cookie"}}


@pytest.fixture
def died():
    return threading.Event()


# inotify


@pytest.fixture
def inotify(reported, entries, died):
    from evreload._watch.observers.inotify import InotifyObserver

    inotify = InotifyObserver(reported.put, entries, died.set)
    yield inotify
    inotify.stop()


@on_linux
class TestInotify:
    def test_it_reports_what_happens_to_the_names_that_matter(self, inotify, reported, top):
        inotify.add_watch(str(top))
        file = top / "file"
        (top / "other").write_text("")
        file.write_text("")
        assert reported.next() == FileEvent(str(file), is_unfinished=True)
        assert reported.next() == FileEvent(str(file), is_written=True)
        os.utime(file)
        assert reported.next() == FileEvent(str(file))
        file.rename(top / "away")
        assert reported.next() == FileEvent(str(file), is_gone=True)
        (top / "away").rename(file)
        assert reported.next() == FileEvent(str(file))
        file.unlink()
        assert reported.next() == FileEvent(str(file), is_gone=True)

    def test_it_reports_neither_reads_nor_writes_before_the_file_is_closed(
        self, inotify, reported, top
    ):
        (top / "file").write_text("")
        inotify.add_watch(str(top))
        with open(top / "file", "r+") as file:
            file.read()
            file.write("more")
            file.flush()
            (top / "file").read_text()
            (top / "cookie").mkdir()
            assert reported.next() == FileEvent(str(top / "cookie"))
        assert reported.next() == FileEvent(str(top / "file"), is_written=True)

    def test_all_names_may_matter(self, inotify, reported, entries, top):
        entries[str(top)] = None
        inotify.add_watch(str(top))
        (top / "any").mkdir()
        assert reported.next() == FileEvent(str(top / "any"))

    def test_of_a_directory_in_which_no_name_matters_only_its_own_removal_is_reported(
        self, inotify, reported, entries, top
    ):
        between = top / "a" / "b"
        between.mkdir(parents=True)
        entries[str(between)] = set()
        inotify.add_watch(str(between))
        (between / "file").write_text("")
        (top / "a").rename(top / "c")
        (top / "c").rename(top / "a")
        between.rename(top / "away")
        assert reported.next() == FileEvent(str(between))

    def test_the_removal_of_a_directory_is_reported_although_a_process_has_it_open(
        self, inotify, reported, entries, top
    ):
        inner = top / "inner"
        inner.mkdir()
        entries.update({str(top): set(), str(inner): {"file"}})
        inotify.add_watch(str(top))
        inotify.add_watch(str(inner))
        descriptor = os.open(inner, os.O_RDONLY)
        inner.rmdir()
        assert reported.next() == FileEvent(str(inner), is_gone=True)
        os.close(descriptor)

    def test_a_directory_that_has_replaced_another_is_watched(
        self, inotify, reported, top, entries
    ):
        inner = top / "inner"
        entries[str(inner)] = {"file"}
        for _ in range(3):
            inner.mkdir()
            inotify.add_watch(str(inner))
            (inner / "file").touch()
            reported.until(FileEvent(str(inner / "file"), is_written=True))
            (inner / "file").unlink()
            inner.rmdir()
            reported.until(FileEvent(str(inner)))

    def test_a_directory_is_not_watched_twice(self, inotify, reported, top):
        for _ in range(3):
            inotify.add_watch(str(top))
        os.mkdir(top / "file")
        os.mkdir(top / "cookie")
        assert reported.next() == FileEvent(str(top / "file"))
        assert reported.next() == FileEvent(str(top / "cookie"))

    def test_names_may_come_to_matter_in_a_directory(self, inotify, reported, entries, top):
        entries[str(top)] = set()
        inotify.add_watch(str(top))
        entries[str(top)] = {"file"}
        inotify.add_watch(str(top))
        (top / "file").mkdir()
        assert reported.next() == FileEvent(str(top / "file"))

    def test_nothing_is_reported_of_a_directory_that_is_not_watched_any_more(
        self, inotify, reported, entries, top
    ):
        inner = top / "inner"
        inner.mkdir()
        entries[str(inner)] = {"file"}
        inotify.add_watch(str(top))
        inotify.add_watch(str(inner))
        inotify.remove_watch(str(inner))
        inotify.remove_watch(str(inner))
        (inner / "file").mkdir()
        (top / "cookie").mkdir()
        assert reported.next() == FileEvent(str(top / "cookie"))

    def test_odd_names(self, inotify, reported, entries, top):
        name = os.fsdecode(b"\xff\n")
        entries[str(top)] = {name}
        inotify.add_watch(str(top))
        (top / name).mkdir()
        assert reported.next() == FileEvent(str(top / name))

    def test_only_directories_can_be_watched(self, inotify, top):
        (top / "file").write_text("")
        with pytest.raises(NotADirectoryError):
            inotify.add_watch(str(top / "file"))
        with pytest.raises(FileNotFoundError):
            inotify.add_watch(str(top / "missing"))

    def test_a_file_is_watched_itself_also_after_another_has_replaced_it(
        self, inotify, reported, top
    ):
        other = top / "other"
        for text in ("1", "2"):
            (top / "new").write_text(text)
            (top / "new").replace(top / "file")
            inotify.add_file_watch(str(top / "file"))
            inotify.add_file_watch(str(top / "file"))  # does nothing
            other.unlink(missing_ok=True)
            os.link(top / "file", other)
            other.write_text(text * 2)
            written = FileEvent(str(top / "file"), is_written=True)
            assert {event._replace(is_written=True) for event in reported.until(written)} <= {
                written
            }
        inotify.remove_file_watch(str(top / "file"))
        inotify.add_watch(str(top))
        other.write_text("3")
        (top / "cookie").mkdir()
        assert reported.next() == FileEvent(str(top / "cookie"))

    def test_two_names_of_one_file_are_watched(self, inotify, reported, top):
        (top / "file").write_text("")
        os.link(top / "file", top / "other")
        names = {str(top / "file"), str(top / "other")}
        for name in names:
            inotify.add_file_watch(name)
        (top / "other").write_text("")
        assert {reported.next().path, reported.next().path} == names

    def test_watchdog_returns_an_error_for_a_directory_that_may_not_be_read(
        self, inotify, top, monkeypatch
    ):
        monkeypatch.setattr("watchdog.observers.inotify_c.inotify_add_watch", failing(errno.EACCES))
        with pytest.raises(PermissionError):
            inotify.add_watch(str(top))

    def test_one_thread_and_no_descriptor_for_the_next_program(self, inotify, entries, top):
        threads = threading.active_count()
        for n in range(50):
            directory = top / str(n)
            directory.mkdir()
            entries[str(directory)] = None
            inotify.add_watch(str(directory))
        assert threading.active_count() == threads
        assert not any(map(os.get_inheritable, descriptors("inotify")))

    def test_it_leaves_nothing_open_once_it_is_stopped(self, reported, entries):
        from evreload._watch.observers.inotify import InotifyObserver

        before = descriptors()
        InotifyObserver(reported.put, entries, lambda: reported.put("died")).stop()
        assert descriptors() == before
        assert reported.empty()

    def test_it_catches_up_with_all_that_has_happened(self, inotify, reported, entries, top):
        entries[str(top)] = None
        inotify.add_watch(str(top))
        for number in range(1000):
            (top / f"file{number}").mkdir()
            if number % 100 == 0:
                assert inotify.catch_up()
                assert reported.qsize() == number + 1

    def test_it_cannot_catch_up_without_a_watch_or_once_it_is_stopped(
        self, reported, entries, died, monkeypatch
    ):
        from evreload._watch.observers.inotify import InotifyObserver

        inotify = InotifyObserver(reported.put, entries, died.set)
        with monkeypatch.context() as patch:
            name = "evreload._watch.observers.inotify.inotify_add_watch"
            patch.setattr(name, lambda *arguments: -1)
            assert not inotify.catch_up()
        inotify.stop()
        assert not inotify.catch_up()

    def test_an_overflow_of_the_queue_is_reported_as_lost_events(self, inotify, reported, top):
        from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, WatchDescriptor

        inotify.add_watch(str(top))
        overflow = InotifyEvent(WatchDescriptor(-1), InotifyConstants.IN_Q_OVERFLOW, 0, b"")
        inotify._thread.handle_event(overflow)
        assert reported.next() == EVENTS_LOST

    @pytest.mark.filterwarnings("ignore")
    def test_the_death_of_its_thread_is_reported(self, inotify, top, died, monkeypatch, caplog):
        inotify.add_watch(str(top))
        monkeypatch.setattr(inotify._thread, "handle_event", lambda event: 1 / 0)
        (top / "file").mkdir()
        assert died.wait(DEADLINE)
        assert "the thread that reads file events has failed" in caplog.text

    def test_a_descriptor_that_the_program_closes_is_reported_as_its_death(
        self, inotify, top, died
    ):
        inotify.add_watch(str(top))
        (descriptor,) = descriptors("inotify")
        os.close(descriptor)
        (top / "file").mkdir()
        assert died.wait(DEADLINE)
        inotify._thread._inotify_fd = os.open("/dev/null", os.O_RDONLY)  # for `stop` to close


@on_linux
def test_the_end_of_its_watches_is_not_reported(reported, entries, died, top):
    from evreload._watch.observers.inotify import InotifyObserver

    inotify = InotifyObserver(reported.put, entries, died.set)
    inotify.add_watch(str(top))
    inotify.stop()
    assert reported.empty()


def failing(number):
    """Return a stand-in for a function of libc that fails."""
    import ctypes

    def fail(*arguments):
        ctypes.set_errno(number)
        return -1

    return fail


def descriptors(kind=""):
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
        if kind in target:
            found.add(int(name))
    return found


# Polling


@pytest.fixture
def polling(reported, entries):
    polling = PollingObserver(reported.put, entries, CHECK_TIME)
    yield polling
    polling.stop()


class TestPolling:
    def test_it_reports_changes_of_the_names_that_matter(self, polling, reported, top):
        polling.add_watch(str(top))
        assert {reported.next(), reported.next()} == {
            FileEvent(str(top / "file")),
            FileEvent(str(top / "cookie")),
        }
        (top / "other").write_text("")
        (top / "file").write_text("")
        assert reported.next() == FileEvent(str(top / "file"))
        (top / "file").unlink()
        assert reported.next() == FileEvent(str(top / "file"))
        (top / "cookie").symlink_to("nowhere")
        assert reported.next() == FileEvent(str(top / "cookie"))
        (top / "nowhere").write_text("")
        assert reported.next() == FileEvent(str(top / "cookie"))

    def test_all_names_may_matter(self, polling, reported, entries, top):
        entries[str(top)] = None
        (top / "any").write_text("")
        polling.add_watch(str(top))
        assert reported.next() == FileEvent(str(top / "any"))
        (top / "any").rename(top / "other")
        assert {reported.next(), reported.next()} == {
            FileEvent(str(top / "any")),
            FileEvent(str(top / "other")),
        }

    def test_a_file_that_was_created_and_removed_is_forgotten(
        self, polling, reported, entries, top
    ):
        entries[str(top)] = None
        polling.add_watch(str(top))
        for _ in range(3):
            (top / "any").write_text("")
            assert reported.next() == FileEvent(str(top / "any"))
            (top / "any").unlink()
            assert reported.next() == FileEvent(str(top / "any"))
            until(lambda: not polling._seen, "forgotten")
        (top / "cookie").write_text("")
        assert reported.next() == FileEvent(str(top / "cookie"))

    def test_a_file_that_is_written_but_keeps_its_time_is_reported(self, polling, reported, top):
        file = top / "file"
        file.write_text("1")
        ns = file.stat().st_mtime_ns
        polling.add_watch(str(top))
        reported.until(FileEvent(str(file)))
        await_tick()
        file.chmod(0o600)
        reported.until(FileEvent(str(file)))
        await_tick()
        with open(file, "r+") as opened:
            opened.write("2")
            opened.flush()
            os.utime(file, ns=(ns, ns))
        events = [reported.next()]
        if not events[0].is_written:  # it was polled between the write and the change of its time
            events.append(reported.next())
        assert FileEvent(str(file), is_written=True) in events or len(events) == 2

    def test_a_directory_that_is_not_watched_any_more_is_not_polled(
        self, polling, reported, entries, top
    ):
        inner = top / "inner"
        entries[str(inner)] = {"file"}
        polling.add_watch(str(inner))
        assert reported.next() == FileEvent(str(inner / "file"))
        assert len(polling) == 1
        polling.remove_watch(str(inner))
        assert len(polling) == 0
        inner.mkdir()
        (inner / "file").write_text("")
        polling.add_watch(str(top))
        assert {reported.next(), reported.next()} == {
            FileEvent(str(top / "file")),
            FileEvent(str(top / "cookie")),
        }

    def test_names_may_be_added_and_removed_meanwhile(self, polling, reported, entries, top):
        polling.add_watch(str(top))
        entries[str(top)].add("late")
        reported.until(FileEvent(str(top / "late")))
        del entries[str(top)]
        entries[str(top)] = {"later"}
        reported.until(FileEvent(str(top / "later")))

    def test_a_missing_directory_is_polled(self, polling, reported, entries, top):
        inner = top / "inner"
        entries[str(inner)] = None
        polling.add_watch(str(inner))
        inner.mkdir()
        (inner / "any").write_text("")
        assert reported.next() == FileEvent(str(inner / "any"))


# The portable observer, with watchdog's own Observer for this system


@pytest.fixture
def portable(reported, entries):
    portable = PortableObserver(reported.put, entries)
    yield portable
    portable.stop()


class TestNative:
    def test_it_reports_what_happens_to_the_names_that_matter(self, portable, reported, top):
        portable.add_watch(str(top))
        (top / "other").write_text("")
        (top / "file").write_text("")
        assert reported.next() == FileEvent(str(top / "file"))
        reported.until(FileEvent(str(top / "file")))

    def test_one_root_covers_all_directories_below_it(self, portable, reported, entries, top):
        (top / "a" / "b").mkdir(parents=True)
        (top / "ab").mkdir()
        for name in ("a/b", "a", "ab"):
            entries[str(top / name)] = {"file"}
            portable.add_watch(str(top / name))
        assert portable._roots.keys() == {str(top / "a"), str(top / "ab")}
        (top / "a" / "b" / "file").write_text("")
        assert reported.next() == FileEvent(str(top / "a" / "b" / "file"))

    def test_a_directory_in_which_no_name_matters_is_no_root(self, portable, entries, top):
        entries[str(top)] = set()
        portable.add_watch(str(top))
        assert not portable._roots
        with pytest.raises(FileNotFoundError):
            portable.add_watch(str(top / "missing"))

    @pytest.mark.parametrize(
        ("event", "names"),
        [
            (FileModifiedEvent("/top/file"), {"file"}),
            (FileModifiedEvent("/top/other"), set()),
            (FileCreatedEvent(b"/top/file"), {"file"}),
            (FileMovedEvent("/top/other", "/top/file"), {"file"}),
            (FileMovedEvent("/top/file", "/elsewhere/file"), {"file"}),
            (FileOpenedEvent("/top/file"), set()),
            (FileClosedNoWriteEvent("/top/file"), set()),
            (DirModifiedEvent("/top"), set()),
            (FileCreatedEvent("/all/any"), {"any"}),
        ],
    )
    def test_events_as_other_systems_report_them(self, portable, reported, entries, event, names):
        entries.update({"/top": {"file"}, "/all": None})
        portable.dispatch(event)
        reported.put("end")
        assert {os.path.basename(one.path) for one in reported.until("end")} == names

    def test_an_event_of_a_watched_directory_itself_is_reported(self, portable, reported, entries):
        entries["/top/inner"] = set()
        portable.dispatch(FileMovedEvent("/top/inner", "/away"))
        assert reported.next() == FileEvent("/top/inner")


# The choice


@pytest.fixture
def observers(reported, entries):
    made = []

    def make(*, poll=False):
        observers = ObserverSet(reported.put, entries, check_time=CHECK_TIME, poll=poll)
        made.append(observers)
        observers.start()
        return observers

    yield make
    for one in made:
        one.stop()


def warnings(caplog):
    return [record.message for record in caplog.records if record.name == "evreload"]


def test_polling_may_be_forced(observers, reported, top):
    some = observers(poll=True)
    some.add_watch(str(top))
    assert str(some) == "polling every 0.02 s"
    assert reported.next()


def test_a_file_system_without_events_is_polled(
    observers, reported, entries, top, monkeypatch, caplog
):
    silent = top / "silent"
    silent.mkdir()
    entries[str(silent)] = {"file"}
    table = f"30 1 0:1 / {silent} rw - nfs4 server:/ rw"
    monkeypatch.setattr(mounts, "read", lambda: mounts.Mounts(table))
    some = observers()
    some.add_watch(str(top))
    some.add_watch(str(silent))
    assert "1 of them polled" in str(some)
    assert len(warnings(caplog)) == 1
    assert f"{silent} every 0.02 s: nfs4 delivers no file events" in warnings(caplog)[0]
    assert reported.next() == FileEvent(str(silent / "file"))
    some.remove_watch(str(silent))
    some.remove_watch(str(top))


@on_linux
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS])
def test_without_an_inotify_instance_all_is_polled(observers, top, monkeypatch, caplog, number):
    monkeypatch.setattr("watchdog.observers.inotify_c.inotify_init", failing(number))
    some = observers()
    some.add_watch(str(top))
    assert str(some) == "polling every 0.02 s"
    assert len(warnings(caplog)) == 1
    assert ("max_user_instances" in warnings(caplog)[0]) == (number == errno.EMFILE)


@on_linux
def test_with_an_unknown_version_of_watchdog_all_is_polled(observers, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "evreload._watch.observers.inotify", None)
    assert str(observers()) == "polling every 0.02 s"
    assert len(warnings(caplog)) == 1


@on_linux
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
        (errno.EACCES, "make it readable"),
        (errno.ENOMEM, "nothing is lost"),
    ],
)
def test_a_directory_that_cannot_be_watched_by_events_is_polled(
    observers, reported, entries, top, monkeypatch, caplog, number, remedy
):
    entries[str(top.parent)] = set()
    some = observers()
    with monkeypatch.context() as context:
        context.setattr("watchdog.observers.inotify_c.inotify_add_watch", failing(number))
        for directory in (top, top.parent):
            some.add_watch(str(directory))
        some.add_watch(str(top))
    assert "1 of them polled" in str(some)
    assert len(warnings(caplog)) == 1
    assert remedy in warnings(caplog)[0]
    assert {reported.next(), reported.next()} == {
        FileEvent(str(top / "file")),
        FileEvent(str(top / "cookie")),
    }
    some.add_watch(str(top))  # events are used as soon as that is possible
    assert "polled" not in str(some)


@on_linux
def test_a_directory_that_was_removed_meanwhile_is_reported(observers, reported, top):
    observers().add_watch(str(top / "missing"))
    assert reported.next() == FileEvent(str(top / "missing"))


@on_linux
@pytest.mark.filterwarnings("ignore")
def test_when_the_thread_that_reads_events_dies_all_is_polled(
    observers, reported, top, monkeypatch, caplog
):
    some = observers()
    some.add_watch(str(top))
    monkeypatch.setattr(some._events._thread, "handle_event", lambda event: 1 / 0)
    (top / "file").mkdir()
    assert reported.next() == EVENTS_LOST
    assert caplog.records[-1].levelno == logging.ERROR
    assert "no more file events: polling every 0.02 s" in warnings(caplog)[-1]
    some.add_watch(str(top))
    assert str(some) == "polling every 0.02 s"
    assert {reported.next(), reported.next()} == {
        FileEvent(str(top / "file")),
        FileEvent(str(top / "cookie")),
    }
