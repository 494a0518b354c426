"""What a watched directory leaves out because git does.

The supervisor's loop. The patterns themselves are understood by `pathspec`.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

if TYPE_CHECKING:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

logger = logging.getLogger("evreload")


class Gitignore:
    """Answers by the ``.gitignore`` files between a path and the top of its work tree."""

    def __init__(self) -> None:
        self._spec = functools.lru_cache(maxsize=None)(_read)
        self._tops: set[str] = set()

    def ask_for(self, directory: str) -> None:
        """Let *directory* count, though git may ignore it: it was asked for by name."""
        if self.rule(directory):
            self._tops.add(directory)

    def forget(self) -> None:
        """Read the ``.gitignore`` files again."""
        self._spec.cache_clear()

    def rule(self, path: str) -> str | None:
        """Return the file by which *path* is ignored, or None if it is not."""
        directory, name = os.path.split(path)
        relative = name
        if os.path.isdir(path):
            relative += "/"
            # The folders of pytest, mypy and venv tell git themselves to ignore all in them.
            own = _read(path)
            if own is not None and own.check_file(".gitignore").include:
                return os.path.join(path, ".gitignore")
        while True:
            spec = self._spec(directory)
            if spec is not None:
                verdict = spec.check_file(relative).include
                if verdict is not None:
                    return os.path.join(directory, ".gitignore") if verdict else None
            parent, name = os.path.split(directory)
            if parent == directory or self._is_top(directory):
                return None
            directory, relative = parent, f"{name}/{relative}"

    def _is_top(self, directory: str) -> bool:
        return directory in self._tops or os.path.exists(os.path.join(directory, ".git"))


def _read(directory: str) -> GitIgnoreSpec | None:
    path = os.path.join(directory, ".gitignore")
    try:
        with open(path, errors="surrogateescape") as file:
            return GitIgnoreSpec(_patterns(path, file))
    except OSError:
        return None


def _patterns(path: str, lines: Iterable[str]) -> Iterator[GitIgnoreSpecPattern]:
    """Compile each line by itself: git takes one that is malformed for one that matches nothing."""
    for number, line in enumerate(lines, 1):
        try:
            with warnings.catch_warnings(action="ignore"):  # of a `[[:alpha:]]`
                yield from GitIgnoreSpec.from_lines([line]).patterns
        except (ValueError, re.error):
            logger.debug("%s:%d: malformed, matches nothing: %r", path, number, line.rstrip("\n"))
