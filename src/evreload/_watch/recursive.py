"""What lies in the directories that are wanted with all there is in them.

The owner's thread. All that is in them goes by its real path, by which the observers tell of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from .ignore import Ignored

NEW = 0  # nanoseconds since the epoch: older than whatever the program knows


class Trees:
    """Knows what is in each tree, and since when it is wanted, but for what is *left_out*."""

    def __init__(self, left_out: Ignored) -> None:
        self._left_out = left_out
        self._since: dict[str, int] = {}
        self._scanned: set[str] = set()  # directories whose entries are all known
        self._open: set[str] = set()  # these, by their real paths
        self._tops: set[tuple[str, str]] = set()  # the names of trees, and where these lead

    def __contains__(self, path: str) -> bool:
        return path in self._since

    def since(self, path: str) -> int:
        """Return since when *path* is wanted; NEW if it has come into a tree."""
        return self._since[path]

    def is_scanned(self, directory: str) -> bool:
        """Whether all that is in *directory* is known."""
        return directory in self._scanned

    def is_open(self, directory: str) -> bool:
        """Whether all that appears in *directory*, by its real path, is wanted."""
        return directory in self._open

    def enter(self, path: str) -> None:
        """Take in what has appeared in a tree: the program does not know it."""
        self._since[path] = NEW

    def scan(self, directory: str, real: str | None, since: int, *, is_top: bool) -> list[str]:
        """Take in all that is in *directory*, and return it, but for what was known.

        It is wanted *since* then, or new if the directory was scanned before. *real* is where
        the directory really is, if it is there.
        """
        if real:
            self._open.add(real)
            if is_top:
                self._tops.add((directory, real))
        try:
            paths = [entry.path for entry in os.scandir(real)] if real else []
        except OSError:
            return []  # unreadable, which was said when it was armed; or just gone
        found = [path for path in paths if path not in self._since and not self._left_out(path)]
        self._since.update(dict.fromkeys(found, NEW if directory in self._scanned else since))
        self._scanned.add(directory)
        return found

    def forget(self, path: str) -> None:
        """Forget what is gone: should it come again, it is new."""
        del self._since[path]
        self._scanned.discard(path)
        self._open.discard(path)

    def leave_all_but(self, names: Iterable[str]) -> list[str]:
        """Forget what lies in no tree of these *names*, or lay where one led; return all that."""
        tops = {(name, os.path.realpath(name)) for name in names}
        gone = self._tops - tops
        if not gone:
            return []
        self._tops &= tops
        kept = tuple(os.path.join(real, "") for _, real in self._tops)
        left = [path for path in self._since if not path.startswith(kept)]
        for path in left:
            self.forget(path)
        # One that lies in another is a part of that, as before, unless it is a link.
        still_open = self._since.keys() | {real for _, real in self._tops}
        self._open -= {real for _, real in gone} - still_open
        self._scanned -= {name for name, real in gone if name != real or name not in self._since}
        return [*left, *({name for name, _ in gone} - self._since.keys())]
