"""What the file system says about a file."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from evreload._common import filestat
from evreload._common.filestat import (
    changed_since,
    differs,
    file_time,
    find_differing,
    has_writer,
    stat_path,
)
from support.files import await_tick


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.py"
    path.write_text("one")
    return path


def status(path, *, follow=True):
    """Return the status of a path that has one."""
    found = stat_path(str(path), follow=follow)
    assert found
    return found


def fingerprint(path):
    return status(path).fingerprint


def test_a_save_a_touch_and_a_replacement_each_change_the_fingerprint(file):
    seen = {fingerprint(file)}
    ns = file.stat().st_mtime_ns
    os.utime(file, ns=(ns, ns + 1))
    seen.add(fingerprint(file))
    file.write_text("three")
    os.utime(file, ns=(ns, ns))
    seen.add(fingerprint(file))
    other = file.with_name("other")
    other.write_text("three")
    os.utime(other, ns=(ns, ns))
    other.replace(file)
    seen.add(fingerprint(file))
    assert len(seen) == 4


def test_a_chmod_a_link_and_a_read_are_no_difference(file):
    before = fingerprint(file)
    file.read_text()
    assert fingerprint(file) == before
    await_tick()
    file.chmod(0o600)
    os.link(file, file.with_name("link"))
    assert not differs(before, fingerprint(file))
    assert find_differing({str(file): before}) == {}


def test_a_file_that_is_written_has_another_ctime_whatever_time_it_gets(file):
    before = fingerprint(file)
    await_tick()
    file.write_text("two")
    os.utime(file, ns=(before.mtime_ns, before.mtime_ns))
    assert fingerprint(file) == before._replace(ctime_ns=status(file).ctime_ns) != before


def test_a_missing_file_differs_from_one_that_exists(file):
    assert differs(None, fingerprint(file))
    assert differs(fingerprint(file), None)
    assert not differs(None, None)


def test_another_inode_alone_is_another_number(file):
    before = fingerprint(file)
    renumbered = before._replace(inode=1, device=2)
    assert renumbered.is_renumbered(before)
    assert differs(before, renumbered)
    assert not renumbered._replace(ctime_ns=1).is_renumbered(before)


def test_a_new_entry_does_not_change_the_fingerprint_of_its_directory(tmp_path):
    before = fingerprint(tmp_path)
    (tmp_path / "new").write_text("")
    assert fingerprint(tmp_path) == before
    assert status(tmp_path).is_directory


@pytest.mark.parametrize("name", ["missing", "file.py/below", "nul\0", "x" * 300])
def test_a_path_without_a_file_has_no_status(file, name):
    assert stat_path(str(file.parent / name)) is None


def test_a_fifo_has_no_status(tmp_path):
    os.mkfifo(tmp_path / "fifo.py")
    assert stat_path(str(tmp_path / "fifo.py")) is None


def test_a_link_is_followed_or_not(file):
    link = file.with_name("link")
    link.symlink_to(file)
    assert fingerprint(link) == fingerprint(file)
    assert status(link, follow=False).is_link
    link.unlink()
    link.symlink_to("nowhere")
    assert stat_path(str(link)) is None
    assert status(link, follow=False).is_link


def test_a_file_written_now_is_not_older_than_the_clock_of_files(file):
    for _ in range(100):
        before = file_time()
        os.utime(file)
        assert status(file).ctime_ns >= before


def test_the_coarse_clock_is_that_of_linux_only(monkeypatch):
    """FreeBSD has CLOCK_BOOTTIME, too, and another clock under the number of Linux's coarse one."""
    monkeypatch.setattr(sys, "platform", "freebsd14")
    monkeypatch.setattr(filestat, "COARSE_CLOCK", -1)
    assert file_time() <= time.time_ns()


def test_changed_since_returns_the_files_that_changed_then_or_later(file):
    changed = status(file).ctime_ns
    paths = [str(file), str(file.with_name("missing"))]
    assert changed_since(changed, paths) == [str(file)]
    assert changed_since(changed + 1, paths) == []


def test_another_thread_may_add_paths_while_differing_ones_are_sought(file, monkeypatch):
    known = {str(file): None, str(file.with_name("missing")): None}

    def quick_fingerprint(path):
        known[f"{path} and another"] = None
        return filestat.stat_path(path)

    monkeypatch.setattr(filestat, "quick_fingerprint", quick_fingerprint)
    assert find_differing(known) == {str(file): fingerprint(file)}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_a_writer_of_a_file_is_known(file):
    assert has_writer(str(file)) is False
    for mode in ("a", "r+", "w"):
        with open(file, mode):
            assert has_writer(str(file)) is True
    with open(file):
        assert has_writer(str(file)) is False
    assert has_writer(str(file.with_name("missing"))) is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_a_file_may_be_opened_to_write_it_while_its_writer_is_looked_for(file):
    end = threading.Event()

    def look():
        while not end.is_set():
            assert has_writer(str(file)) is not None

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(3000):
        file.write_text("VALUE = 1")
    end.set()
    thread.join()
    assert has_writer(str(file)) is False
