"""Which directories must be watched."""

from __future__ import annotations

import os

import pytest

from evreload._watch.watch_plan import Routes


class Recorder:
    """Observers that note what is armed, and let a test act at that moment."""

    def __init__(self):
        self.armed = set()
        self.act = lambda directory: None

    def arm(self, directory):
        self.armed.add(directory)
        self.act(directory)

    def disarm(self, directory):
        self.armed.discard(directory)


@pytest.fixture
def observers():
    return Recorder()


@pytest.fixture
def routes(observers):
    routes = Routes()
    routes.begin(observers)
    return routes


@pytest.fixture
def top(tmp_path):
    """Return a place whose own path has no links in it."""
    return tmp_path.resolve()


def ancestors(path):
    return {str(parent) for parent in path.parents}


def test_a_file_needs_its_directory_and_the_fate_of_all_above(routes, observers, top):
    file = top / "a" / "file"
    file.parent.mkdir()
    routes.lead_to(str(file))
    assert observers.armed == ancestors(file) == routes.entries.keys()
    assert routes.entries.pop(str(file.parent)) == {"file"}
    assert set(map(bool, routes.entries.values())) == {False}
    assert routes.is_junction(str(top))
    assert not routes.is_junction(str(file))


def test_what_is_missing_is_waited_for_where_it_would_be_made(routes, observers, top):
    routes.lead_to(str(top / "a" / "b" / "file"))
    assert routes.entries[str(top)] == {"a"}
    assert str(top / "a") not in observers.armed
    assert routes.is_junction(str(top / "a"))


def test_a_file_in_the_way_is_waited_for(routes, top):
    (top / "a").write_text("")
    routes.lead_to(str(top / "a" / "b" / "file"))
    assert routes.entries[str(top)] == {"a"}
    assert routes.is_junction(str(top / "a"))


def test_what_is_made_just_before_it_is_listened_for(routes, observers, top):
    """Nobody will ever tell of it, so it must be seen."""
    made = top / "a" / "b"

    def act(directory):
        if directory == str(top) and "a" in routes.entries[directory]:
            made.mkdir(parents=True, exist_ok=True)

    observers.act = act
    routes.lead_to(str(made / "file"))
    assert routes.entries[str(made)] == {"file"}
    assert str(made) in observers.armed


def test_links_are_followed_and_listened_for(routes, observers, top):
    (top / "v1").mkdir()
    (top / "current").symlink_to("v1")
    path = str(top / "current" / "file")
    routes.lead_to(path)
    real = str(top / "v1" / "file")
    assert routes.entries[str(top)] == {"current"}
    assert routes.entries[str(top / "v1")] == {"file"}
    assert routes.meant_by(real) == {path}
    assert routes.meant_by(path) == set()
    assert routes.is_junction(str(top / "current"))


def test_a_file_that_is_a_link_is_meant_by_each_step_of_the_way(routes, top):
    """As in a volume of Kubernetes."""
    (top / "..1").mkdir()
    (top / "..1" / "cfg").write_text("")
    (top / "..data").symlink_to("..1")
    (top / "cfg").symlink_to("..data/cfg")
    path = str(top / "cfg")
    routes.lead_to(path)
    for step in ("..data", "..1/cfg"):
        assert routes.meant_by(str(top / step)) == {path}
    assert routes.entries[str(top)] >= {"cfg", "..data"}
    assert routes.is_junction(str(top / "..data"))


@pytest.mark.parametrize("target", ["..", "../..", ".", "/", "../c/..", "{top}", "{top}/a/../a/b"])
def test_a_link_may_lead_anywhere(routes, top, target):
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "c").mkdir()
    link = top / "a" / "b" / "link"
    link.symlink_to(target.format(top=top))
    routes.lead_to(str(link / "file"))
    assert "file" in routes.entries[os.path.realpath(link)]


def test_a_link_into_itself_leads_nowhere(routes, top):
    (top / "loop").symlink_to("loop")
    routes.lead_to(str(top / "loop" / "file"))
    routes.lead_to(str(top / "loop"))
    assert routes.entries[str(top)] == {"loop"}


def test_a_link_that_vanishes_meanwhile(routes, top, monkeypatch):
    (top / "link").symlink_to("nowhere")
    monkeypatch.setattr("os.readlink", lambda path: os.stat("/nowhere"))
    routes.lead_to(str(top / "link" / "file"))
    assert routes.is_junction(str(top / "link"))


def test_a_directory_may_be_open_to_everything(routes, top):
    (top / "real").mkdir()
    (top / "link").symlink_to("real")
    assert routes.open_up(str(top / "link")) == str(top / "real")
    assert routes.entries[str(top / "real")] is None
    routes.lead_to(str(top / "real" / "file"))
    assert routes.entries[str(top / "real")] is None
    assert routes.entries[str(top)] is not None
    assert routes.open_up(str(top / "missing")) is None


def test_what_is_needed_no_more_is_disarmed(routes, observers, top):
    for name in "ab":
        (top / name).mkdir()
        routes.lead_to(str(top / name / "file"))
    routes.finish()
    assert {str(top / "a"), str(top / "b")} <= observers.armed
    routes.begin(observers)
    routes.lead_to(str(top / "b" / "file"))
    routes.finish()
    assert str(top / "a") not in observers.armed | routes.entries.keys()
    assert str(top / "b") in observers.armed


def test_an_ancestor_that_comes_to_hold_something_is_armed_again(routes, observers, top):
    (top / "a").mkdir()
    routes.lead_to(str(top / "a" / "file"))
    again = []
    observers.act = again.append
    routes.lead_to(str(top / "file"))
    routes.lead_to(str(top / "other"))
    assert again == [str(top)]
    assert routes.entries[str(top)] == {"file", "other"}
