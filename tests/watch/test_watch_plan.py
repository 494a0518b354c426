"""Which directories must be watched."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from evreload._watch.watch_plan import WatchPlan
from support.observers import SilentObservers


class Recorder(SilentObservers):
    """Observers that note which directories are watched, and let a test act at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.act: Callable[[str], object] = lambda directory: None

    def add_watch(self, directory: str) -> None:
        super().add_watch(directory)
        self.act(directory)

    def remove_watch(self, directory: str) -> None:
        self.watched.discard(directory)


@pytest.fixture
def observers():
    return Recorder()


@pytest.fixture
def plan(observers):
    plan = WatchPlan()
    plan.begin(observers)
    return plan


@pytest.fixture
def top(tmp_path):
    """Return a directory whose own path has no links in it."""
    return tmp_path.resolve()


def ancestors(path):
    return {str(parent) for parent in path.parents}


def test_a_file_needs_its_directory_and_all_above_it(plan, observers, top):
    file = top / "a" / "file"
    file.parent.mkdir()
    plan.add(str(file))
    assert observers.watched == ancestors(file) == plan.entries.keys()
    assert plan.entries.pop(str(file.parent)) == {"file"}
    assert set(map(bool, plan.entries.values())) == {False}
    assert plan.is_junction(str(top))
    assert not plan.is_junction(str(file))


def test_a_missing_directory_is_watched_for_where_it_would_be_created(plan, observers, top):
    plan.add(str(top / "a" / "b" / "file"))
    assert plan.entries[str(top)] == {"a"}
    assert str(top / "a") not in observers.watched
    assert plan.is_junction(str(top / "a"))


def test_a_file_in_the_place_of_a_directory_is_watched(plan, top):
    (top / "a").write_text("")
    plan.add(str(top / "a" / "b" / "file"))
    assert plan.entries[str(top)] == {"a"}
    assert plan.is_junction(str(top / "a"))


def test_a_directory_created_just_before_its_parent_is_watched(plan, observers, top):
    """There is no event of it, so it must be found."""
    created = top / "a" / "b"

    def act(directory):
        if directory == str(top) and "a" in plan.entries[directory]:
            created.mkdir(parents=True, exist_ok=True)

    observers.act = act
    plan.add(str(created / "file"))
    assert plan.entries[str(created)] == {"file"}
    assert str(created) in observers.watched


def test_links_are_followed_and_watched(plan, observers, top):
    (top / "v1").mkdir()
    (top / "current").symlink_to("v1")
    path = str(top / "current" / "file")
    plan.add(path)
    real = str(top / "v1" / "file")
    assert plan.entries[str(top)] == {"current"}
    assert plan.entries[str(top / "v1")] == {"file"}
    assert plan.paths_through(real) == {path}
    assert plan.paths_through(path) == set()
    assert plan.is_junction(str(top / "current"))


def test_a_file_that_is_a_link_may_change_with_each_step_of_the_way(plan, top):
    """As in a volume of Kubernetes."""
    (top / "..1").mkdir()
    (top / "..1" / "cfg").write_text("")
    (top / "..data").symlink_to("..1")
    (top / "cfg").symlink_to("..data/cfg")
    path = str(top / "cfg")
    plan.add(path)
    for step in ("..data", "..1/cfg"):
        assert plan.paths_through(str(top / step)) == {path}
    assert plan.entries[str(top)] >= {"cfg", "..data"}
    assert plan.is_junction(str(top / "..data"))


@pytest.mark.parametrize("target", ["..", "../..", ".", "/", "../c/..", "{top}", "{top}/a/../a/b"])
def test_a_link_may_lead_anywhere(plan, top, target):
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "c").mkdir()
    link = top / "a" / "b" / "link"
    link.symlink_to(target.format(top=top))
    plan.add(str(link / "file"))
    assert "file" in plan.entries[os.path.realpath(link)]


def test_a_link_to_itself_leads_nowhere(plan, top):
    (top / "loop").symlink_to("loop")
    plan.add(str(top / "loop" / "file"))
    plan.add(str(top / "loop"))
    assert plan.entries[str(top)] == {"loop"}


def test_a_link_that_is_removed_meanwhile(plan, top, monkeypatch):
    (top / "link").symlink_to("nowhere")
    monkeypatch.setattr("evreload._common.unpatched.os.readlink", lambda path: os.stat("/nowhere"))
    plan.add(str(top / "link" / "file"))
    assert plan.is_junction(str(top / "link"))


def test_a_directory_may_be_watched_for_all_names(plan, top):
    (top / "real").mkdir()
    (top / "link").symlink_to("real")
    assert plan.add_directory(str(top / "link")) == str(top / "real")
    assert plan.entries[str(top / "real")] is None
    plan.add(str(top / "real" / "file"))
    assert plan.entries[str(top / "real")] is None
    assert plan.entries[str(top)] is not None
    assert plan.add_directory(str(top / "missing")) is None


def test_a_directory_that_is_not_needed_any_more_is_not_watched(plan, observers, top):
    for name in "ab":
        (top / name).mkdir()
        plan.add(str(top / name / "file"))
    plan.finish()
    assert {str(top / "a"), str(top / "b")} <= observers.watched
    plan.begin(observers)
    plan.add(str(top / "b" / "file"))
    plan.finish()
    assert str(top / "a") not in observers.watched | plan.entries.keys()
    assert str(top / "b") in observers.watched


def test_an_ancestor_in_which_names_come_to_matter_is_watched_again(plan, observers, top):
    (top / "a").mkdir()
    plan.add(str(top / "a" / "file"))
    again: list[str] = []
    observers.act = again.append
    plan.add(str(top / "file"))
    plan.add(str(top / "other"))
    assert again == [str(top)]
    assert plan.entries[str(top)] == {"file", "other"}
