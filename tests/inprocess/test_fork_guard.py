"""What the watcher does around a fork."""

from __future__ import annotations

import os

import pytest

from evreload._inprocess.fork_guard import ForkGuard

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")


class Recorder:
    """A `Forkable` that notes which of its methods are called, and whether the lock is held."""

    def __init__(self):
        self.calls = []
        self.guard = ForkGuard(self)
        self.error: Exception | None = None

    def _note(self, *call):
        is_held = self.guard.lock._is_owned()
        self.calls.append((*call, is_held))
        if self.error:
            raise self.error

    def before_fork(self):
        self._note("before_fork")

    def disconnect(self):
        self._note("disconnect")

    def reopen(self):
        self._note("reopen")

    def await_takeover(self, parent):
        self._note("await_takeover", parent)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def registered(monkeypatch):
    """Return the functions registered for a fork, which cannot be removed again."""
    found = {}
    monkeypatch.setattr(os, "register_at_fork", lambda **functions: found.update(functions))
    return found


def test_the_lock_is_held_while_the_process_forks(recorder, registered):
    recorder.guard.register()
    registered["before"]()
    assert recorder.calls == [("before_fork", False), ("disconnect", True)]
    assert recorder.guard.lock._is_owned()
    registered["after_in_parent"]()
    assert recorder.calls[2:] == [("reopen", True)]
    assert not recorder.guard.lock._is_owned()


def test_a_child_is_given_its_parent(recorder, registered):
    recorder.guard.register()
    registered["before"]()
    registered["after_in_child"]()
    assert recorder.calls[2:] == [("await_takeover", os.getpid(), True)]
    assert not recorder.guard.lock._is_owned()


def test_it_is_registered_once(recorder, registered):
    recorder.guard.register()
    registered.clear()
    recorder.guard.register()
    assert not registered


@pytest.mark.parametrize("after", ["after_in_parent", "after_in_child"])
def test_an_error_leaves_the_lock_as_it_has_to_be(recorder, registered, after):
    recorder.guard.register()
    recorder.error = RuntimeError("out of order")
    with pytest.raises(RuntimeError):
        registered["before"]()
    assert recorder.guard.lock._is_owned()  # it is released once the fork is done
    with pytest.raises(RuntimeError):
        registered[after]()
    assert not recorder.guard.lock._is_owned()
