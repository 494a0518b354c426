"""watchdog's rooms, and the choice between them."""

from __future__ import annotations

import errno
import logging
import os
import queue
import subprocess
import sys
import threading

import pytest
from conftest import in_a_namespace, until
from watchdog.events import (
    DirModifiedEvent,
    FileClosedNoWriteEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileOpenedEvent,
)

from evreload._watch.observers import EVERYWHERE, News, Observers, mounts
from evreload._watch.observers.native import Native
from evreload._watch.observers.polling import Polling

DEADLINE = 60  # seconds
CHECK_TIME = 0.02  # seconds

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own")


class News_(queue.Queue):
    """What was told, in order."""

    def next(self):
        return self.get(timeout=DEADLINE)

    def until(self, news):
        """Return all that is told before *news*."""
        before = []
        while (told := self.next()) != news:
            before.append(told)
        return before


@pytest.fixture
def told():
    return News_()


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
def inotify(told, entries, died):
    from evreload._watch.observers.inotify import Inotify

    inotify = Inotify(told.put, entries, died.set)
    yield inotify
    inotify.stop()


@on_linux
class TestInotify:
    def test_it_tells_what_happens_to_the_wanted_names(self, inotify, told, top):
        inotify.arm(str(top))
        file = top / "file"
        (top / "unwanted").write_text("")
        file.write_text("")
        assert told.next() == News(str(file), unfinished=True)
        assert told.next() == News(str(file))
        os.utime(file)
        assert told.next() == News(str(file))
        file.rename(top / "away")
        assert told.next() == News(str(file), gone=True)
        (top / "away").rename(file)
        assert told.next() == News(str(file))
        file.unlink()
        assert told.next() == News(str(file), gone=True)

    def test_it_tells_nothing_of_reading_and_of_unfinished_writing(self, inotify, told, top):
        (top / "file").write_text("")
        inotify.arm(str(top))
        with open(top / "file", "r+") as file:
            file.read()
            file.write("more")
            file.flush()
            (top / "file").read_text()
            (top / "cookie").mkdir()
            assert told.next() == News(str(top / "cookie"))
        assert told.next() == News(str(top / "file"))

    def test_all_names_may_matter(self, inotify, told, entries, top):
        entries[str(top)] = None
        inotify.arm(str(top))
        (top / "any").mkdir()
        assert told.next() == News(str(top / "any"))

    def test_a_directory_that_only_passes_through_tells_its_own_fate(
        self, inotify, told, entries, top
    ):
        between = top / "a" / "b"
        between.mkdir(parents=True)
        entries[str(between)] = set()
        inotify.arm(str(between))
        (between / "file").write_text("")
        (top / "a").rename(top / "c")
        (top / "c").rename(top / "a")
        between.rename(top / "away")
        assert told.next() == News(str(between))

    def test_the_end_of_a_directory_is_told_although_somebody_has_it_open(
        self, inotify, told, entries, top
    ):
        inner = top / "inner"
        inner.mkdir()
        entries.update({str(top): set(), str(inner): {"file"}})
        inotify.arm(str(top))
        inotify.arm(str(inner))
        descriptor = os.open(inner, os.O_RDONLY)
        inner.rmdir()
        assert told.next() == News(str(inner), gone=True)
        os.close(descriptor)

    def test_what_bears_the_name_now_is_armed(self, inotify, told, top, entries):
        inner = top / "inner"
        entries[str(inner)] = {"file"}
        for _ in range(3):
            inner.mkdir()
            inotify.arm(str(inner))
            (inner / "file").touch()
            told.until(News(str(inner / "file")))
            (inner / "file").unlink()
            inner.rmdir()
            told.until(News(str(inner)))

    def test_an_armed_directory_is_not_armed_twice(self, inotify, told, top):
        for _ in range(3):
            inotify.arm(str(top))
        os.mkdir(top / "file")
        os.mkdir(top / "cookie")
        assert told.next() == News(str(top / "file"))
        assert told.next() == News(str(top / "cookie"))

    def test_names_may_be_added_where_only_the_fate_mattered(self, inotify, told, entries, top):
        entries[str(top)] = set()
        inotify.arm(str(top))
        entries[str(top)] = {"file"}
        inotify.arm(str(top))
        (top / "file").mkdir()
        assert told.next() == News(str(top / "file"))

    def test_a_disarmed_directory_tells_nothing(self, inotify, told, entries, top):
        inner = top / "inner"
        inner.mkdir()
        entries[str(inner)] = {"file"}
        inotify.arm(str(top))
        inotify.arm(str(inner))
        inotify.disarm(str(inner))
        inotify.disarm(str(inner))
        (inner / "file").mkdir()
        (top / "cookie").mkdir()
        assert told.next() == News(str(top / "cookie"))

    def test_odd_names(self, inotify, told, entries, top):
        name = os.fsdecode(b"\xff\n")
        entries[str(top)] = {name}
        inotify.arm(str(top))
        (top / name).mkdir()
        assert told.next() == News(str(top / name))

    def test_what_is_no_directory(self, inotify, top):
        (top / "file").write_text("")
        with pytest.raises(NotADirectoryError):
            inotify.arm(str(top / "file"))
        with pytest.raises(FileNotFoundError):
            inotify.arm(str(top / "missing"))

    def test_watchdog_says_that_a_directory_may_not_be_read(self, inotify, top, monkeypatch):
        monkeypatch.setattr("watchdog.observers.inotify_c.inotify_add_watch", failing(errno.EACCES))
        with pytest.raises(PermissionError):
            inotify.arm(str(top))

    def test_one_thread_and_no_descriptor_for_the_next_program(self, inotify, entries, top):
        threads = threading.active_count()
        for n in range(50):
            directory = top / str(n)
            directory.mkdir()
            entries[str(directory)] = None
            inotify.arm(str(directory))
        assert threading.active_count() == threads
        assert not any(map(os.get_inheritable, descriptors("inotify")))

    def test_stopped_it_leaves_nothing_open(self, told, entries):
        from evreload._watch.observers.inotify import Inotify

        before = descriptors()
        Inotify(told.put, entries, lambda: told.put("died")).stop()
        assert descriptors() == before
        assert told.empty()

    def test_an_overflow_means_everywhere(self, inotify, told, top):
        from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

        inotify.arm(str(top))
        inotify._reader.handle_event(InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b""))
        assert told.next() == EVERYWHERE

    @pytest.mark.filterwarnings("ignore")
    def test_the_death_of_the_reader_is_noticed(self, inotify, top, died, monkeypatch, caplog):
        inotify.arm(str(top))
        monkeypatch.setattr(inotify._reader, "handle_event", lambda event: 1 / 0)
        (top / "file").mkdir()
        assert died.wait(DEADLINE)
        assert "the thread that reads file events has failed" in caplog.text

    def test_a_descriptor_closed_by_another_is_noticed(self, inotify, top, died):
        inotify.arm(str(top))
        (descriptor,) = descriptors("inotify")
        os.close(descriptor)
        (top / "file").mkdir()
        assert died.wait(DEADLINE)
        inotify._reader._inotify_fd = os.open("/dev/null", os.O_RDONLY)  # for `stop` to close


@on_linux
def test_that_it_was_stopped_is_no_news(told, entries, died, top):
    from evreload._watch.observers.inotify import Inotify

    inotify = Inotify(told.put, entries, died.set)
    inotify.arm(str(top))
    inotify.stop()
    assert told.empty()


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
        except OSError:  # the listing's own
            continue
        if kind in target:
            found.add(int(name))
    return found


# Polling


@pytest.fixture
def polling(told, entries):
    polling = Polling(told.put, entries, CHECK_TIME)
    yield polling
    polling.stop()


class TestPolling:
    def test_it_tells_what_changes_among_the_wanted(self, polling, told, top):
        polling.arm(str(top))
        assert {told.next(), told.next()} == {News(str(top / "file")), News(str(top / "cookie"))}
        (top / "unwanted").write_text("")
        (top / "file").write_text("")
        assert told.next() == News(str(top / "file"))
        (top / "file").unlink()
        assert told.next() == News(str(top / "file"))
        (top / "cookie").symlink_to("nowhere")
        assert told.next() == News(str(top / "cookie"))
        (top / "nowhere").write_text("")
        assert told.next() == News(str(top / "cookie"))

    def test_all_names_may_matter(self, polling, told, entries, top):
        entries[str(top)] = None
        (top / "any").write_text("")
        polling.arm(str(top))
        assert told.next() == News(str(top / "any"))
        (top / "any").rename(top / "other")
        assert {told.next(), told.next()} == {News(str(top / "any")), News(str(top / "other"))}

    def test_what_has_come_and_gone_is_forgotten(self, polling, told, entries, top):
        entries[str(top)] = None
        polling.arm(str(top))
        for _ in range(3):
            (top / "any").write_text("")
            assert told.next() == News(str(top / "any"))
            (top / "any").unlink()
            assert told.next() == News(str(top / "any"))
            until(lambda: not polling._seen, "forgotten")
        (top / "cookie").write_text("")
        assert told.next() == News(str(top / "cookie"))

    def test_a_disarmed_directory_is_left_alone(self, polling, told, entries, top):
        inner = top / "inner"
        entries[str(inner)] = {"file"}
        polling.arm(str(inner))
        assert told.next() == News(str(inner / "file"))
        assert str(inner) in polling
        polling.disarm(str(inner))
        assert len(polling) == 0
        inner.mkdir()
        (inner / "file").write_text("")
        polling.arm(str(top))
        assert {told.next(), told.next()} == {News(str(top / "file")), News(str(top / "cookie"))}

    def test_names_may_come_and_go_meanwhile(self, polling, told, entries, top):
        polling.arm(str(top))
        entries[str(top)].add("late")
        told.until(News(str(top / "late")))
        del entries[str(top)]
        entries[str(top)] = {"later"}
        told.until(News(str(top / "later")))

    def test_a_missing_directory_is_looked_for(self, polling, told, entries, top):
        inner = top / "inner"
        entries[str(inner)] = None
        polling.arm(str(inner))
        inner.mkdir()
        (inner / "any").write_text("")
        assert told.next() == News(str(inner / "any"))


# Native, by watchdog's own Observer for this system


@pytest.fixture
def native(told, entries, died):
    native = Native(told.put, entries, died.set)
    yield native
    native.stop()


class TestNative:
    def test_it_tells_what_happens_to_the_wanted_names(self, native, told, top):
        native.arm(str(top))
        (top / "unwanted").write_text("")
        (top / "file").write_text("")
        assert told.next() == News(str(top / "file"))
        told.until(News(str(top / "file")))

    def test_one_root_serves_all_beneath(self, native, told, entries, top):
        (top / "a" / "b").mkdir(parents=True)
        (top / "ab").mkdir()
        for name in ("a/b", "a", "ab"):
            entries[str(top / name)] = {"file"}
            native.arm(str(top / name))
        assert native._roots.keys() == {str(top / "a"), str(top / "ab")}
        (top / "a" / "b" / "file").write_text("")
        assert told.next() == News(str(top / "a" / "b" / "file"))

    def test_a_directory_that_only_passes_through_is_no_root(self, native, entries, top):
        entries[str(top)] = set()
        native.arm(str(top))
        assert not native._roots
        with pytest.raises(FileNotFoundError):
            native.arm(str(top / "missing"))

    @pytest.mark.parametrize(
        ("event", "names"),
        [
            (FileModifiedEvent("/top/file"), {"file"}),
            (FileModifiedEvent("/top/unwanted"), set()),
            (FileCreatedEvent(b"/top/file"), {"file"}),
            (FileMovedEvent("/top/unwanted", "/top/file"), {"file"}),
            (FileMovedEvent("/top/file", "/elsewhere/file"), {"file"}),
            (FileOpenedEvent("/top/file"), set()),
            (FileClosedNoWriteEvent("/top/file"), set()),
            (DirModifiedEvent("/top"), set()),
            (FileCreatedEvent("/all/any"), {"any"}),
        ],
    )
    def test_events_as_other_systems_have_them(self, native, told, entries, event, names):
        entries.update({"/top": {"file"}, "/all": None})
        native.dispatch(event)
        told.put("end")
        assert {os.path.basename(news.path) for news in told.until("end")} == names

    def test_a_directory_itself_is_news(self, native, told, entries):
        entries["/top/inner"] = set()
        native.dispatch(FileMovedEvent("/top/inner", "/away"))
        assert told.next() == News("/top/inner")


# The choice


@pytest.fixture
def observers(told, entries):
    made = []

    def make(*, poll=False):
        observers = Observers(told.put, entries, check_time=CHECK_TIME, poll=poll)
        made.append(observers)
        observers.start()
        return observers

    yield make
    for one in made:
        one.stop()


def warnings(caplog):
    return [record.message for record in caplog.records if record.name == "evreload"]


def test_polling_may_be_forced(observers, told, top):
    some = observers(poll=True)
    some.arm(str(top))
    assert str(some) == "polling every 0.02 s"
    assert told.next()


def test_a_file_system_without_events_is_polled(observers, told, entries, top, monkeypatch, caplog):
    silent = top / "silent"
    silent.mkdir()
    entries[str(silent)] = {"file"}
    table = f"30 1 0:1 / {silent} rw - nfs4 server:/ rw"
    monkeypatch.setattr(mounts, "read", lambda: mounts.Mounts(table))
    some = observers()
    some.arm(str(top))
    some.arm(str(silent))
    assert "1 of them polled" in str(some)
    assert len(warnings(caplog)) == 1
    assert f"{silent} every 0.02 s: nfs4 delivers no file events" in warnings(caplog)[0]
    assert told.next() == News(str(silent / "file"))
    some.disarm(str(silent))
    some.disarm(str(top))


@on_linux
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS])
def test_without_an_inotify_instance_all_is_polled(observers, top, monkeypatch, caplog, number):
    monkeypatch.setattr("watchdog.observers.inotify_c.inotify_init", failing(number))
    some = observers()
    some.arm(str(top))
    assert str(some) == "polling every 0.02 s"
    assert len(warnings(caplog)) == 1
    assert ("max_user_instances" in warnings(caplog)[0]) == (number == errno.EMFILE)


@on_linux
def test_with_another_watchdog_than_we_know_all_is_polled(observers, monkeypatch, caplog):
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
def test_a_directory_that_cannot_be_armed_is_polled(
    observers, told, entries, top, monkeypatch, caplog, number, remedy
):
    entries[str(top.parent)] = set()
    some = observers()
    with monkeypatch.context() as context:
        context.setattr("watchdog.observers.inotify_c.inotify_add_watch", failing(number))
        for directory in (top, top.parent):
            some.arm(str(directory))
        some.arm(str(top))
    assert "1 of them polled" in str(some)
    assert len(warnings(caplog)) == 1
    assert remedy in warnings(caplog)[0]
    assert {told.next(), told.next()} == {News(str(top / "file")), News(str(top / "cookie"))}
    some.arm(str(top))  # as soon as it can be, events it is
    assert "polled" not in str(some)


@on_linux
def test_a_directory_that_has_gone_meanwhile_is_looked_for_again(observers, told, top):
    observers().arm(str(top / "missing"))
    assert told.next() == News(str(top / "missing"))


@on_linux
@pytest.mark.filterwarnings("ignore")
def test_when_the_reader_dies_all_is_polled(observers, told, top, monkeypatch, caplog):
    some = observers()
    some.arm(str(top))
    monkeypatch.setattr(some._events._reader, "handle_event", lambda event: 1 / 0)
    (top / "file").mkdir()
    assert told.next() == EVERYWHERE
    assert caplog.records[-1].levelno == logging.ERROR
    assert "no more file events: polling every 0.02 s" in warnings(caplog)[-1]
    some.arm(str(top))
    assert str(some) == "polling every 0.02 s"
    assert {told.next(), told.next()} == {News(str(top / "file")), News(str(top / "cookie"))}


# Mounts, as recorded

TABLE = r"""
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw - proc proc rw
30 22 0:40 / /mnt/nfs rw,relatime shared:9 - nfs 10.0.0.1:/export rw,vers=3
31 22 0:41 / /mnt/nfs4 rw,relatime shared:10 - nfs4 10.0.0.1:/export rw,vers=4.2
32 22 0:42 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\;uid=1000
33 22 0:43 / /mnt/d rw,noatime - drvfs D: rw,uid=1000
34 22 0:44 / /vagrant rw,nodev,relatime shared:12 - vboxsf vagrant rw,iocharset=utf8
35 22 0:45 / /Users rw,relatime - virtiofs :/Users rw
36 22 0:46 / /home/me/far\040away rw,nosuid - fuse.sshfs me@host:/home/me rw,user_id=1000
37 22 0:47 / /mnt/smb rw,relatime - cifs //server/share rw
38 30 0:48 / /mnt/nfs/local rw,relatime - tmpfs tmpfs rw
39 22 0:49 / /hgfs rw,nosuid - fuse.vmhgfs-fuse vmhgfs-fuse rw
40 22 0:50 / /over rw,relatime master:1 propagate_from:2 - overlay overlay rw,lowerdir=/a
41 22 0:51 / /twice rw - nfs server:/ rw
42 41 259:1 /twice /twice rw - ext4 /dev/root rw
43 22 0:51 /private /artifact ro,relatime - fakeowner /run/host_mark/private rw,fakeowner
44 22 0:52 / /mnt/lima rw,relatime - virtiofs mount0 rw
45 22 8:17 / /media/usb rw,nosuid,nodev - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,blksize=4096
46 22 0:53 / /podman rw,nodev,noatime - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0
47 22 0:54 / /bound rw,nosuid,nodev,relatime - fuse /srv/source rw,user_id=0,default_permissions
48 22 0:55 / /gvisor rw - 9p none rw,trans=fd,rfdno=4,wfdno=4,aname=/,dfltuid=4294967294
49 22 253:3 / /cluster rw,relatime - gfs2 /dev/mapper/vg-lv rw
50 22 0:56 / /mnt/wsl/docker-desktop-bind-mounts rw,relatime - ext4 /dev/sdc rw
51 22 0:57 / /mac rw,relatime - fuse.grpcfuse grpcfuse rw,user_id=0,max_read=1048576
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/", None),
        ("/srv/app", None),
        ("/mnt/nfs", "nfs"),
        ("/mnt/nfs/deep/inside", "nfs"),
        ("/mnt/nfsx", None),
        ("/mnt/nfs/local/app", None),
        ("/mnt/nfs4/app", "nfs4"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/d", "drvfs"),
        ("/vagrant/app", "vboxsf"),
        ("/Users/me", "virtiofs"),
        ("/home/me/far away/app", "fuse.sshfs"),
        ("/home/me", None),
        ("/mnt/smb", "cifs"),
        ("/hgfs/app", "fuse.vmhgfs-fuse"),
        ("/over/app", None),
        ("/twice/app", None),  # what was mounted last is on top
        ("/artifact/src", "fakeowner"),
        ("/mnt/lima/src", "virtiofs"),
        ("/media/usb/src", None),  # a disk of this machine
        ("/podman/usr/lib", None),
        ("/bound", "fuse"),
        ("/gvisor/src", "9p"),
        ("/cluster/src", "gfs2"),
        ("/mnt/wsl/docker-desktop-bind-mounts/src", None),
        ("/mac/src", "fuse.grpcfuse"),
    ],
)
def test_file_systems_that_deliver_no_events(directory, kind):
    assert mounts.Mounts(TABLE).silent(directory) == kind


def test_files_that_are_mounted_by_themselves(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for directory in ("of itself", "plain"):
        (tmp_path / directory).mkdir()
    points = [str(file), str(tmp_path / "of itself").replace(" ", r"\040"), "/etc/hosts"]
    lines = [f"30 1 0:1 / {point} rw - ext4 /dev/vda rw" for point in points]
    table = mounts.Mounts("\n".join(lines))
    assert table.file_in(str(tmp_path)) == str(file)
    assert table.file_in(str(tmp_path / "of itself")) is None
    assert table.file_in(str(tmp_path.parent)) is None
    assert table.file_in("/etc") is None  # every container has that


@on_linux
@pytest.mark.parametrize("odd", ["\r", "\x0b", "\x1c", "\x85", "\xa0", "\u2028"])
def test_a_mount_point_of_an_odd_name(tmp_path, odd):
    point = tmp_path / f"a{odd}b"
    point.mkdir()
    code = "import sys; from evreload._watch.observers import mounts\n"
    code += "print(mounts.read()._types[sys.argv[1]])"
    mount = 'mount -t tmpfs none "$1" && exec "$0" -c "$2" "$1"'
    command = [*in_a_namespace("-Urm"), "sh", "-c", mount, sys.executable, str(point), code]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout == "tmpfs\n"


@on_linux
def test_the_table_of_this_machine_can_be_read():
    assert mounts.read().silent("/proc") is None
    assert mounts.read()._types["/proc"] == "proc"


def test_there_may_be_no_table(monkeypatch):
    def missing(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert mounts.read().silent("/mnt/nfs") is None
