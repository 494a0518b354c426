"""What the program wrote itself. `test_imports` has the tests of how that is found out."""

from __future__ import annotations

import pytest

from evreload._common.own_writes import OwnWrites
from evreload._common.source import source_hash


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.py"
    path.write_bytes(b"VALUE = 1")
    return path


@pytest.fixture
def own_writes(file):
    """Return the record of a program that has written *file* at 10, and read it at 20."""
    record = OwnWrites()
    record.note_written(str(file))
    record.note_read(str(file), source_hash(b"VALUE = 1"), 20)
    return record


def test_a_program_may_have_written_what_it_opened_for_writing():
    record = OwnWrites()
    record.note_written("/a")
    assert record.may_have_written("/a")
    assert not record.may_have_written("/b")


def test_a_program_that_has_started_a_process_may_have_written_any_file():
    record = OwnWrites()
    record.note_spawned()
    assert record.may_have_written("/a")


def test_a_fork_has_written_nothing():
    record = OwnWrites()
    record.note_written("/a")
    record.note_spawned()
    record.clear_writes()
    assert not record.may_have_written("/a")


def test_the_hash_of_a_file_that_was_read_is_known(file, own_writes):
    assert own_writes.hash_read(str(file)) == source_hash(b"VALUE = 1")
    assert own_writes.hash_read("/never read") == ""


def test_a_program_wrote_and_read_the_present_content(file, own_writes):
    assert own_writes.wrote_and_read(str(file), 10)


def test_a_change_after_the_reading_is_not_one_that_the_program_read(file, own_writes):
    assert own_writes.wrote_and_read(str(file), 20)
    assert not own_writes.wrote_and_read(str(file), 21)


def test_another_content_is_not_what_the_program_wrote_and_read(file, own_writes):
    file.write_bytes(b"VALUE = 2")
    assert not own_writes.wrote_and_read(str(file), 10)
    file.unlink()
    assert not own_writes.wrote_and_read(str(file), 10)


def test_a_program_that_only_read_or_only_wrote_did_not_do_both(file):
    only_read, only_written = OwnWrites(), OwnWrites()
    only_read.note_read(str(file), source_hash(b"VALUE = 1"), 20)
    only_written.note_written(str(file))
    only_read.note_spawned()
    assert not only_read.wrote_and_read(str(file), 10)
    assert not only_written.wrote_and_read(str(file), 10)
