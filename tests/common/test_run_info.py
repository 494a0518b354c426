"""What one run passes to the next."""

from __future__ import annotations

import json

import pytest

from evreload._common.run_info import (
    MAX_PATHS,
    MAX_TRIES,
    RunInfo,
    Tries,
    _content_hash,
)
from evreload._common.spawn import RUN_INFO_VARIABLE

FIRST = RunInfo(0, (), 0, {})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("1")
    return path


def passed_by(run, changes=(), **options):
    """Return what *run* passes to the process 7, as JSON."""
    _, text = run.next_run(map(str, changes), owner=7, started_ns=42, **options)
    return text


def following(monkeypatch, run, changes):
    """Return the run that follows *run* because of *changes*."""
    monkeypatch.setenv(RUN_INFO_VARIABLE, passed_by(run, changes))
    return RunInfo.from_environment(7, 1)


def test_the_next_run_knows_what_led_to_it(monkeypatch, file):
    second = following(monkeypatch, FIRST, [file])
    assert (second.generation, second.changed, second.started_ns) == (1, {str(file)}, 42)
    assert following(monkeypatch, second, []).generation == 2


def test_the_supervisor_knows_the_same_as_the_next_run(monkeypatch, file):
    known, text = FIRST.next_run([str(file)], owner=7, started_ns=42, watched=["/a"])
    monkeypatch.setenv(RUN_INFO_VARIABLE, text)
    received = RunInfo.from_environment(7, 1)
    for one in (known, received):
        assert (one.generation, one.changed, one.started_ns) == (1, frozenset([str(file)]), 42)
        assert one.watched == ("/a",)
        assert one.delay(str(file), may_be_own=True, is_soon=True, is_code=True) is None


def test_what_was_passed_to_another_process_does_not_count(monkeypatch, file):
    following(monkeypatch, FIRST, [file])
    other = RunInfo.from_environment(8, 1)
    assert (other.generation, other.changed, other.started_ns) == (0, frozenset(), 1)


@pytest.mark.parametrize("passed", [None, "", "{", "[]", "1", "null", "{}", '{"owner": 7}'])
def test_a_variable_that_evreload_did_not_write_does_not_count(monkeypatch, passed):
    monkeypatch.delenv(RUN_INFO_VARIABLE, raising=False)
    if passed is not None:
        monkeypatch.setenv(RUN_INFO_VARIABLE, passed)
    assert RunInfo.from_environment(7, 1).generation == 0


def test_unusual_names_survive(monkeypatch):
    names = {"/ünï cödé", "/\udcff not utf-8", '/"quoted"\n'}
    assert following(monkeypatch, FIRST, names).changed == names


def test_what_is_passed_fits_into_the_environment():
    long = [f"/{'directory/' * 100}{'ü' * 200}{n}" for n in range(5000)]
    run = RunInfo(0, (), 0, {path: Tries(MAX_TRIES, ("", "")) for path in long})
    for path in long:
        assert run.delay(path, may_be_own=True, is_soon=True, is_code=True) is None
    passed = passed_by(run, long)
    assert len(passed) < 128 * 1024
    assert 0 < len(json.loads(passed)["changed"]) <= MAX_PATHS


def test_the_next_run_knows_what_this_one_watched(monkeypatch):
    monkeypatch.setenv(RUN_INFO_VARIABLE, passed_by(FIRST, watched=["/b", "/a"]))
    assert RunInfo.from_environment(7, 1).watched == ("/b", "/a")


@pytest.mark.parametrize("limit", [4096, 50_000])
def test_however_many_paths_are_watched_they_fit(limit):
    long = [f"/{'directory/' * 100}{n}" for n in range(5000)]
    passed = passed_by(FIRST, long[:3], watched=long, limit=limit)
    assert len(passed) <= limit
    assert len(json.loads(passed)["watched"]) <= MAX_PATHS
    assert json.loads(passed)["changed"]


def test_what_is_passed_fits_into_a_small_pipe():
    paths = [f"/{'directory/' * 10}{number}" for number in range(50)]
    passed = json.loads(passed_by(FIRST, paths, limit=2048))
    assert 0 < len(passed["changed"]) < 20
    assert passed["generation"] == 1


# Files that change while the program starts


def test_a_hash_is_that_of_the_content(file):
    other = file.with_name("other")
    other.write_text("1")
    assert _content_hash(str(file)) == _content_hash(str(other)) != ""
    other.write_text("2")
    assert _content_hash(str(file)) != _content_hash(str(other))
    assert _content_hash(str(file.with_name("missing"))) == ""


def delay(run, file, *, may_be_own=False, is_soon=True, is_code=False):
    return run.delay(str(file), may_be_own=may_be_own, is_soon=is_soon, is_code=is_code)


def test_there_is_no_restart_for_the_content_the_run_was_started_for(monkeypatch, file):
    run = following(monkeypatch, FIRST, [file])
    assert delay(run, file, may_be_own=True) is None
    file.write_text("2")
    assert delay(run, file, may_be_own=True) == 0


def test_for_a_content_of_unknown_origin_there_are_two_restarts(monkeypatch, file):
    run = following(monkeypatch, FIRST, [file])
    assert delay(run, file) == 0
    run = following(monkeypatch, run, [file])
    assert delay(run, file) is None


@pytest.mark.parametrize("may_be_own", [False, True])
def test_restarts_for_the_same_content_soon_after_starts_wait(monkeypatch, file, may_be_own):
    run = FIRST
    waits = []
    for _ in range(5):
        waits.append(delay(run, file, is_soon=False, is_code=True, may_be_own=may_be_own))
        run = following(monkeypatch, run, [file])
    assert waits == [0, 0, 5, 20, 80] if may_be_own else [0, 0, 1, 2, 4]


def test_a_process_of_the_program_may_write_the_same_again_later(monkeypatch, file):
    run = following(monkeypatch, FIRST, [file])
    assert delay(run, file, may_be_own=True, is_soon=False) == 0


@pytest.mark.parametrize("may_be_own", [False, True])
@pytest.mark.parametrize("is_code", [False, True])
def test_restarts_for_a_file_that_differs_after_each_start_wait_longer_and_longer(
    monkeypatch, file, may_be_own, is_code
):
    run = FIRST
    waits = []
    for number in range(MAX_TRIES + 3):
        file.write_text(f"try {number}")
        waits.append(delay(run, file, may_be_own=may_be_own, is_code=is_code))
        run = following(monkeypatch, run, [file])
    pauses = [1, 2, 4] if is_code and not may_be_own else [5, 20, 80]
    assert waits == [0] * MAX_TRIES + pauses


def write_at_starts(monkeypatch, file, count):
    """Return the run after *count* runs as each of which started the file changed."""
    run = FIRST
    for number in range(count):
        file.write_text(f"try {number}")
        delay(run, file)
        run = following(monkeypatch, run, [file])
    file.write_text("once more")
    return run


def test_a_restart_for_another_file_does_not_end_the_row(monkeypatch, file):
    run = write_at_starts(monkeypatch, file, MAX_TRIES)
    assert delay(run, file) == 5
    run = following(monkeypatch, run, [])
    file.write_text("and again")
    assert delay(run, file) == 5


def test_a_run_without_a_change_at_its_start_ends_the_row(monkeypatch, file):
    run = write_at_starts(monkeypatch, file, MAX_TRIES)
    run = following(monkeypatch, run, [])
    assert delay(run, file) == 0


def test_a_later_change_ends_the_row(monkeypatch, file):
    for end in (
        lambda run: delay(run, file, is_soon=False),
        lambda run: run.forget_tries(str(file)),
    ):
        run = write_at_starts(monkeypatch, file, MAX_TRIES)
        assert delay(run, file) == 5
        end(run)
        run = following(monkeypatch, run, [file])
        file.write_text("at the next start")
        assert delay(run, file) == 0
