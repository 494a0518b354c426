"""Whether git is at work on some files: it holds a lock while it rewrites them."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable

LEFT_BEHIND = 60.0  # seconds after which a lock is that of a git that crashed, or waits for someone


def at_work(paths: Iterable[str]) -> bool:
    """Return whether a git operation is under way in the repository of any of *paths*."""
    directories = {os.path.dirname(path) for path in paths}
    repositories = {git for directory in directories if (git := _repository(directory))}
    return any(map(_is_locked, repositories))


def _is_locked(git: str) -> bool:
    try:
        return time.time() - os.stat(os.path.join(git, "index.lock")).st_mtime < LEFT_BEHIND
    except OSError:
        return False


@functools.lru_cache(maxsize=4096)
def _repository(directory: str) -> str | None:
    """Return the git directory of the work tree that *directory* lies in."""
    while True:
        git = os.path.join(directory, ".git")
        if os.path.isdir(git):
            return git
        if os.path.isfile(git):  # a worktree or submodule: it says where
            return _pointed_to(git)
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def _pointed_to(file: str) -> str | None:
    try:
        with open(file, errors="surrogateescape") as stream:
            target = stream.read().removeprefix("gitdir:").strip()
    except OSError:
        return None
    return os.path.join(os.path.dirname(file), target)
