"""What git ignores in a watched directory.

`pathspec` matches the patterns.

Runs in: the supervisor, on its loop's thread.
Owns: the patterns read so far.
"""

from __future__ import annotations

import functools
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from .._common.unpatched import os

if TYPE_CHECKING:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

# The group in pathspec's regular expressions that matches the slash after a directory.
DIRECTORY_MARK = "ps_d"

logger = logging.getLogger("evreload")


class Gitignore:
    """Reads the ``.gitignore`` files between a path and the top of its work tree."""

    def __init__(self) -> None:
        self._spec = functools.lru_cache(maxsize=None)(_read)
        self._directory_rule = functools.lru_cache(maxsize=None)(self._find_directory_rule)
        self._tops: set[str] = set()

    def include(self, directory: str) -> None:
        """Do not ignore *directory* itself, even if git does: the user has named it."""
        if self.rule(directory):
            self._tops.add(directory)
            self._directory_rule.cache_clear()

    def clear(self) -> None:
        """Read the ``.gitignore`` files again."""
        self._spec.cache_clear()
        self._directory_rule.cache_clear()

    def rule(self, path: str) -> str | None:
        """Return the file by which *path* is ignored, or None if it is not."""
        if not os.path.isdir(path):
            return self._find_rule(path, "")
        # The directories of pytest, mypy and venv hold a .gitignore that ignores all in them.
        own = _read(path)
        if own is not None and _verdict(own, ".gitignore"):
            return os.path.join(path, ".gitignore")
        return self._find_rule(path, "/")

    def _find_directory_rule(self, directory: str) -> str | None:
        return self._find_rule(directory, "/")

    def _find_rule(self, path: str, end: str) -> str | None:
        directory, name = os.path.split(path)
        # A path in an ignored directory is ignored, whatever .gitignore files in there say.
        if not self._is_top(directory) and (above := self._directory_rule(directory)):
            return above
        relative = name + end
        while True:
            spec = self._spec(directory)
            if spec is not None and (verdict := _verdict(spec, relative)) is not None:
                return os.path.join(directory, ".gitignore") if verdict else None
            if self._is_top(directory):
                return None
            directory, name = os.path.split(directory)
            relative = f"{name}/{relative}"

    def _is_top(self, directory: str) -> bool:
        return (
            directory in self._tops
            or directory == os.path.dirname(directory)
            or os.path.exists(os.path.join(directory, ".git"))
        )


def _read(directory: str) -> GitIgnoreSpec | None:
    path = os.path.join(directory, ".gitignore")
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            return GitIgnoreSpec(_patterns(path, file))
    except OSError:
        return None


def _patterns(path: str, lines: Iterable[str]) -> Iterator[GitIgnoreSpecPattern]:
    """Compile each line by itself: for git, a malformed one matches nothing."""
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\n")  # or `\\ ` at the end would be taken for a lone backslash
        try:
            with warnings.catch_warnings(action="ignore"):  # of a `[[:alpha:]]`
                yield from GitIgnoreSpec.from_lines([line]).patterns
        except (ValueError, re.error):
            logger.debug("%s:%d: malformed, matches nothing: %r", path, number, line)


def _verdict(spec: GitIgnoreSpec, relative: str) -> bool | None:
    """Return whether *relative*, which ends with a slash if it is a directory, is ignored.

    As in git, the last pattern that matches it counts. Return None if none does.
    `GitIgnoreSpec.check_file` would also count patterns that match a directory above, and would
    take `*` for more important than a later `!*/`.
    """
    for pattern in reversed(list(spec.patterns)):
        if pattern.regex is not None and _matches(pattern.regex, relative):
            return pattern.include
    return None


def _matches(regex: re.Pattern[str], relative: str) -> bool:
    """Whether *regex*, of pathspec, matches *relative* itself, and not a directory above it."""
    for match in regex.finditer(relative):
        if DIRECTORY_MARK in regex.groupindex:
            if match.end(DIRECTORY_MARK) in (-1, len(relative)):
                return True
        elif not regex.pattern.endswith("/") or match.end() < len(relative):  # `a/**` is not `a`
            return True
    return False
