"""What one run passes to the next."""

from __future__ import annotations

import json
import logging

import pytest

from evreload._common.run_info import MAX_PATHS, MAX_TRIES, RunInfo, _content_hash
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
        assert one.is_excused(str(file), may_be_own=True)


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
    run = RunInfo(0, (), 0, {path: [""] * MAX_TRIES for path in long})
    for path in long:
        assert run.is_excused(path, may_be_own=True)
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


def test_a_file_with_the_content_the_run_was_started_for_is_excused(monkeypatch, file):
    second = following(monkeypatch, FIRST, [file])
    assert second.is_excused(str(file), may_be_own=True)
    file.write_text("2")
    assert not second.is_excused(str(file), may_be_own=True)


def test_a_file_that_differs_at_each_start_is_excused_in_the_end(monkeypatch, file, caplog):
    run = following(monkeypatch, FIRST, [file])
    for tries in range(1, MAX_TRIES):
        file.write_text(f"try {tries}")
        assert not run.is_excused(str(file), may_be_own=True)
        run = following(monkeypatch, run, [file])
    file.write_text("once more")
    with caplog.at_level(logging.WARNING, "evreload"):
        assert run.is_excused(str(file), may_be_own=True)
    assert "different after each start" in caplog.text
    # It stays excused when the program is restarted for another file.
    run = following(monkeypatch, run, [])
    file.write_text("and again")
    assert run.is_excused(str(file), may_be_own=True)


def test_an_excused_file_stays_so_in_a_run_that_another_change_of_it_led_to(monkeypatch, file):
    run = following(monkeypatch, FIRST, [file])
    for tries in range(MAX_TRIES):
        file.write_text(f"try {tries}")
        excused = run.is_excused(str(file), may_be_own=True)
        run = following(monkeypatch, run, [file])
    assert excused
    file.write_text("as the program ended, and again as it started")
    assert run.is_excused(str(file), may_be_own=True)


def test_changes_that_the_program_did_not_make_are_never_excused_for_their_number(
    monkeypatch, file
):
    run = FIRST
    for n in range(3 * MAX_TRIES):
        file.write_text(f"save {n}")
        assert not run.is_excused(str(file), may_be_own=False)
        run = following(monkeypatch, run, [file])


def test_a_change_that_the_program_did_not_make_is_excused_the_second_time(monkeypatch, file):
    second = following(monkeypatch, FIRST, [file])
    assert not second.is_excused(str(file), may_be_own=False)
    third = following(monkeypatch, second, [file])
    assert third.is_excused(str(file), may_be_own=False)
