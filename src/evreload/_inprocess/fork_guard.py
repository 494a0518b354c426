"""Ends the threads of the watcher before the program forks, and starts them again afterwards.

A fork copies no threads, and since Python 3.12 it warns if there are any.

Runs in: the program, in in-process mode, on whichever thread forks.
Owns: the lock that each step of the watcher holds. The thread that forks holds it during the fork,
in the parent and in the child.
"""

from __future__ import annotations

import threading
from typing import Protocol

from .._common.unpatched import os


class Forkable(Protocol):
    """What `ForkGuard` stops before a fork, and starts again after it."""

    def before_fork(self) -> None:
        """Prepare. The lock is not held yet."""

    def disconnect(self) -> None:
        """End all threads."""

    def reopen(self) -> None:
        """Start the threads again, in the parent."""

    def await_takeover(self, parent: int) -> None:
        """In a child of *parent*, start them again only if the child runs the loop."""


class ForkGuard:
    """Calls the methods of *forkable* around each fork of this process."""

    def __init__(self, forkable: Forkable) -> None:
        self.lock = threading.RLock()
        self._forkable = forkable
        self._process = os.getpid()
        self._is_registered = False

    def register(self) -> None:
        """Act on every fork from now on; this cannot be undone."""
        if hasattr(os, "register_at_fork") and not self._is_registered:
            self._is_registered = True
            os.register_at_fork(
                before=self._before,
                after_in_parent=self._after_in_parent,
                after_in_child=self._after_in_child,
            )

    def _before(self) -> None:
        try:
            self._forkable.before_fork()
        finally:
            self.lock.acquire()
        self._process = os.getpid()
        self._forkable.disconnect()

    def _after_in_parent(self) -> None:
        try:
            self._forkable.reopen()
        finally:
            self.lock.release()

    def _after_in_child(self) -> None:
        try:
            self._forkable.await_takeover(self._process)
        finally:
            self.lock.release()
