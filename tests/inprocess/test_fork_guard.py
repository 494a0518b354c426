"""What the watcher does around a fork."""

from __future__ import annotations

import os
from typing import Any

import pytest

from evreload._common import unpatched
from evreload._inprocess.fork_guard import ForkGuard

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")


class Recorder:
    """A `Forkable` that notes which of its methods are called, and whether the lock is held."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.guard = ForkGuard(self)
        self.error: Exception | None = None

    @property
    def is_locked(self) -> bool:
        """Whether this thread holds the lock."""
        lock: Any = self.guard.lock
        return bool(lock._is_owned())

    def _note(self, *call: object) -> None:
        self.calls.append((*call, self.is_locked))
        if self.error:
            raise self.error

    def before_fork(self) -> None:
        self._note("before_fork")

    def disconnect(self) -> None:
        self._note("disconnect")

    def reopen(self) -> None:
        self._note("reopen")

    def await_takeover(self, parent: int) -> None:
        self._note("await_takeover", parent)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def registered(monkeypatch):
    """Return the functions registered for a fork, which cannot be removed again."""
    found = {}
    monkeypatch.setattr(
        unpatched.os, "register_at_fork", lambda **functions: found.update(functions)
    )
    return found


def test_the_lock_is_held_while_the_process_forks(recorder, registered):
    recorder.guard.register()
    registered["before"]()
    assert recorder.calls == [("before_fork", False), ("disconnect", True)]
    assert recorder.is_locked
    registered["after_in_parent"]()
    assert recorder.calls[2:] == [("reopen", True)]
    assert not recorder.is_locked


def test_a_child_is_given_its_parent(recorder, registered):
    recorder.guard.register()
    registered["before"]()
    registered["after_in_child"]()
    assert recorder.calls[2:] == [("await_takeover", os.getpid(), True)]
    assert not recorder.is_locked


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
    assert recorder.is_locked  # it is released once the fork is done
    with pytest.raises(RuntimeError):
        registered[after]()
    assert not recorder.is_locked
