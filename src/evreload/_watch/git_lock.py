"""Whether git rewrites some files at present: it holds a lock meanwhile.

See https://git-scm.com/docs/api-lockfile

Runs in: the supervisor and the program, on the thread of their loop.
Owns: a cache of where repositories are.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable

from .._common.unpatched import os, read_bytes

MAX_LOCK_AGE = 60.0  # seconds; the git that made an older lock has crashed, or waits for input


def is_held(paths: Iterable[str]) -> bool:
    """Whether git holds the lock of the repository that any of *paths* is in."""
    directories = {os.path.dirname(path) for path in paths}
    repositories = {git for directory in directories if (git := _repository(directory))}
    return any(map(_is_locked, repositories))


def _is_locked(git: str) -> bool:
    try:
        return time.time() - os.stat(os.path.join(git, "index.lock")).st_mtime < MAX_LOCK_AGE
    except OSError:
        return False


@functools.lru_cache(maxsize=4096)
def _repository(directory: str) -> str | None:
    """Return the git directory of the work tree that *directory* lies in."""
    while True:
        git = os.path.join(directory, ".git")
        if os.path.isdir(git):
            return git
        if os.path.isfile(git):  # of a worktree or submodule: it holds the path
            return _linked_directory(git)
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def _linked_directory(file: str) -> str | None:
    try:
        target = os.fsdecode(read_bytes(file)).removeprefix("gitdir:").strip()
    except OSError:
        return None
    return os.path.join(os.path.dirname(file), target)
