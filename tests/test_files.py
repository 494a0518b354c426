"""What the disk says about a file."""

from __future__ import annotations

import importlib.util
import os
import py_compile

import pytest

from evreload._common import filestat as _files
from evreload._common.filestat import (
    changed_since,
    compile_error,
    content_hash,
    differing,
    file_time,
    forget_bytecode,
    look,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.py"
    path.write_text("one")
    return path


def fingerprint(path):
    return look(str(path)).fingerprint


def test_a_fingerprint_tells_a_save_a_touch_and_a_replacement(file):
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


def test_a_fingerprint_tells_no_chmod_and_no_read(file):
    before = fingerprint(file)
    file.chmod(0o600)
    file.read_text()
    assert fingerprint(file) == before


def test_a_directory_is_itself_whatever_is_in_it(tmp_path):
    before = fingerprint(tmp_path)
    (tmp_path / "new").write_text("")
    assert fingerprint(tmp_path) == before
    assert look(str(tmp_path)).is_directory


@pytest.mark.parametrize("name", ["missing", "file.py/beneath", "nul\0", "x" * 300])
def test_there_may_be_nothing_to_be_seen(file, name):
    assert look(str(file.parent / name)) is None


def test_a_fifo_is_as_good_as_nothing(tmp_path):
    os.mkfifo(tmp_path / "fifo.py")
    assert look(str(tmp_path / "fifo.py")) is None


def test_a_link_may_be_followed_or_not(file):
    link = file.with_name("link")
    link.symlink_to(file)
    assert look(str(link)).fingerprint == fingerprint(file)
    assert look(str(link), follow=False).is_link
    link.unlink()
    link.symlink_to("nowhere")
    assert look(str(link)) is None
    assert look(str(link), follow=False).is_link


def test_what_is_written_now_is_not_older_than_the_clock_of_files(file):
    for _ in range(100):
        before = file_time()
        os.utime(file)
        assert look(str(file)).ctime_ns >= before


def test_what_changed_since(file):
    changed = look(str(file)).ctime_ns
    paths = [str(file), str(file.with_name("missing"))]
    assert changed_since(changed, paths) == [str(file)]
    assert changed_since(changed + 1, paths) == []


def test_a_hash_is_of_the_content(file):
    other = file.with_name("other")
    other.write_text("one")
    assert content_hash(str(file)) == content_hash(str(other)) != ""
    other.write_text("two")
    assert content_hash(str(file)) != content_hash(str(other))
    assert content_hash(str(file.with_name("missing"))) == ""


def test_what_differs_is_told_although_another_thread_adds_to_it(file, monkeypatch):
    known = {str(file): None, str(file.with_name("missing")): None}

    def glance(path):
        known[f"{path} and another"] = None
        return _files.look(path)

    monkeypatch.setattr(_files, "glance", glance)
    assert differing(known) == {str(file): fingerprint(file)}


@pytest.mark.parametrize("source", ["(", "\0", "return", "a = '\n", "# coding: nonsense\n"])
def test_what_does_not_compile(file, source):
    file.write_text(source)
    assert isinstance(compile_error(str(file)), (SyntaxError, ValueError))


@pytest.mark.parametrize("source", ["", "x = 1", "'\\d'", "assert (1, '')", "-" * 100_000 + "1"])
def test_what_may_compile_for_all_we_know(file, source):
    """What only warns is left to the program's own import, as is what is nested too deeply."""
    file.write_text(source)
    assert compile_error(str(file)) is None


def test_what_is_gone_has_no_error(file):
    assert compile_error(str(file.with_name("missing.py"))) is None


def test_bytecode_of_any_optimization_is_forgotten(file):
    file.write_text("x = 1")
    caches = [importlib.util.cache_from_source(str(file), optimization=o) for o in ("", 1, 2)]
    for level, cache in enumerate(caches):
        py_compile.compile(str(file), doraise=True, optimize=level)
        assert os.path.exists(cache)
    forget_bytecode([str(file), str(file.with_name("missing.py")), str(file.parent)])
    assert not any(map(os.path.exists, caches))
    assert file.exists()
