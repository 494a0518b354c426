"""What one run tells the next."""

from __future__ import annotations

import json
import logging

import pytest

from evreload._common.run_info import MOST_PATHS, MOST_TRIES, VARIABLE, Handover

FIRST = Handover(0, (), 0, {})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("1")
    return path


def following(monkeypatch, handover, changes):
    """Return the handover of the run that follows *handover* because of *changes*."""
    told = handover.pass_on(map(str, changes), owner=7, since=42)
    monkeypatch.setenv(VARIABLE, told)
    return Handover.received(7, 1)


def test_the_next_run_knows_what_led_to_it(monkeypatch, file):
    second = following(monkeypatch, FIRST, [file])
    assert (second.generation, second.changed, second.since) == (1, {str(file)}, 42)
    assert following(monkeypatch, second, []).generation == 2


def test_what_was_told_to_another_process_does_not_count(monkeypatch, file):
    following(monkeypatch, FIRST, [file])
    stranger = Handover.received(8, 1)
    assert (stranger.generation, stranger.changed, stranger.since) == (0, frozenset(), 1)


@pytest.mark.parametrize("told", [None, "", "{", "[]", "1", "null", "{}", '{"owner": 7}'])
def test_what_makes_no_sense_does_not_count(monkeypatch, told):
    monkeypatch.delenv(VARIABLE, raising=False)
    if told is not None:
        monkeypatch.setenv(VARIABLE, told)
    assert Handover.received(7, 1).generation == 0


def test_odd_names_survive(monkeypatch, tmp_path):
    names = {"/ünï cödé", "/\udcff not utf-8", '/"quoted"\n'}
    assert following(monkeypatch, FIRST, names).changed == names


def test_what_is_told_fits_into_the_environment(monkeypatch, tmp_path):
    long = [f"/{'directory/' * 100}{'ü' * 200}{n}" for n in range(5000)]
    handover = Handover(0, (), 0, {path: [""] * MOST_TRIES for path in long})
    for path in long:
        assert handover.excused(path, may_be_own=True)
    told = handover.pass_on(long, owner=7, since=42)
    assert len(told) < 128 * 1024
    assert 0 < len(json.loads(told)["changed"]) <= MOST_PATHS


def test_the_next_run_knows_what_this_one_watched(monkeypatch):
    told = FIRST.pass_on([], owner=7, since=42, watched=["/b", "/a"])
    monkeypatch.setenv(VARIABLE, told)
    assert Handover.received(7, 1).watched == ("/b", "/a")


@pytest.mark.parametrize("most", [4096, 50_000])
def test_however_much_is_watched_it_fits(most):
    long = [f"/{'directory/' * 100}{n}" for n in range(5000)]
    told = FIRST.pass_on(long[:3], owner=7, since=42, watched=long, most=most)
    assert len(told) <= most
    assert len(json.loads(told)["watched"]) <= MOST_PATHS
    assert json.loads(told)["changed"]


def test_what_is_told_fits_into_a_small_pipe():
    paths = [f"/{'directory/' * 10}{number}" for number in range(50)]
    told = json.loads(FIRST.pass_on(paths, owner=7, since=42, most=2048))
    assert 0 < len(told["changed"]) < 20
    assert told["generation"] == 1


def test_a_file_that_holds_what_the_run_was_started_for_is_excused(monkeypatch, file):
    second = following(monkeypatch, FIRST, [file])
    assert second.excused(str(file), may_be_own=True)
    file.write_text("2")
    assert not second.excused(str(file), may_be_own=True)


def test_a_file_that_differs_at_every_start_is_excused_in_the_end(monkeypatch, file, caplog):
    run = following(monkeypatch, FIRST, [file])
    for tries in range(1, MOST_TRIES):
        file.write_text(f"try {tries}")
        assert not run.excused(str(file), may_be_own=True)
        run = following(monkeypatch, run, [file])
    file.write_text("once more")
    with caplog.at_level(logging.WARNING, "evreload"):
        assert run.excused(str(file), may_be_own=True)
    assert "different after each start" in caplog.text
    # It stays excused when the program is restarted for something else.
    run = following(monkeypatch, run, [])
    file.write_text("and again")
    assert run.excused(str(file), may_be_own=True)


def test_what_was_excused_is_so_in_a_run_that_another_change_of_it_led_to(monkeypatch, file):
    run = following(monkeypatch, FIRST, [file])
    for tries in range(MOST_TRIES):
        file.write_text(f"try {tries}")
        excused = run.excused(str(file), may_be_own=True)
        run = following(monkeypatch, run, [file])
    assert excused
    file.write_text("as the program ended, and again as it started")
    assert run.excused(str(file), may_be_own=True)


def test_a_change_of_somebody_else_is_never_excused_for_its_number(monkeypatch, file):
    run = FIRST
    for n in range(3 * MOST_TRIES):
        file.write_text(f"save {n}")
        assert not run.excused(str(file), may_be_own=False)
        run = following(monkeypatch, run, [file])
