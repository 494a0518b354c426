"""Which files belong to the project, and which to Python and its packages.

Runs in: the supervisor, on its loop's thread; the fork server, on its only thread.
Owns: nothing.
"""

from __future__ import annotations

from .unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable


class ProjectPaths:
    """Directories outside and inside the project; for a path, the innermost around it decides."""

    def __init__(self, outside: Iterable[str], inside: Iterable[str]) -> None:
        roots = {**dict.fromkeys(outside, True), **dict.fromkeys(inside, False)}
        self._roots = sorted(roots.items(), key=lambda one: len(one[0]), reverse=True)

    @property
    def outside(self) -> list[str]:
        """The directories that are outside the project."""
        return [root for root, is_outside in self._roots if is_outside]

    @property
    def inside(self) -> list[str]:
        """The directories, and files, of the project."""
        return [root for root, is_outside in self._roots if not is_outside]

    def is_outside(self, path: str) -> bool:
        """Whether *path*, an absolute one, lies outside the project."""
        for root, is_outside in self._roots:
            if path == root or path.startswith(root.rstrip(os.sep) + os.sep):
                return is_outside
        return False
