"""Files that may be only half saved when a run of the program ends."""

from __future__ import annotations

import os
import time

import pytest

from evreload._common import half_saved as half_saving
from evreload._common.half_saved import half_saved
from evreload._common.own_writes import OwnWrites
from evreload._common.source import source_hash
from support.files import await_tick

LATER_NS = 10**18


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file.py"
    file.write_text("VALUE = 1")
    await_tick()
    return file


def find(file, *, changed=(), since_ns=None, own_writes=None):
    since_ns = time.time_ns() if since_ns is None else since_ns
    return half_saved([str(file)], map(str, changed), since_ns, own_writes or OwnWrites())


def test_a_file_that_was_closed_before_the_program_started_is_whole(file):
    assert find(file) == find(file, changed=[file]) == []


def test_a_file_that_has_changed_since_the_program_started_is_not(file):
    assert find(file, since_ns=0) == [str(file)]


def test_a_file_that_changed_long_ago_is_whole(file, monkeypatch):
    monkeypatch.setattr(half_saving, "WAIT", 0)
    await_tick()
    assert find(file, since_ns=0) == []


def test_a_file_that_is_open_is_not(file):
    with file.open("a"):
        assert find(file) == [str(file)]


def test_a_file_that_was_emptied_is_not(file):
    file.write_text("")
    await_tick()
    assert find(file) == []
    assert find(file, changed=[file]) == [str(file)]
    assert find(file.parent, changed=[file]) == [str(file)]


def test_a_file_that_the_program_has_written_itself_is_whole(file):
    own = OwnWrites()
    own.note_written(str(file))
    own.note_read(str(file), source_hash(file.read_bytes()), time.time_ns())
    assert find(file, since_ns=0, own_writes=own) == []


@pytest.mark.parametrize("name", ["missing", os.curdir])
def test_what_is_no_file_is_whole(file, name):
    assert find(file.parent / name, since_ns=0, changed=[file.parent / name]) == []
