"""What lies in the directories that are watched with everything below them.

All paths in it are real paths, by which the observers report events.

Runs in: the supervisor and the program, on the thread that owns the watcher.
Owns: the paths below the watched directories, and since when each is watched.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._common.unpatched import os
from .ignore import IgnoreRule

NEW_NS = 0  # nanoseconds since the epoch: earlier than anything the program has read


class RecursiveDirs:
    """Knows all paths below the watched directories for which *is_left_out* returns no rule."""

    def __init__(self, is_left_out: IgnoreRule) -> None:
        self._is_left_out = is_left_out
        self._since_ns: dict[str, int] = {}
        self._scanned: set[str] = set()  # directories whose entries are all known
        self._open: set[str] = set()  # the same, by their real paths
        self._tops: set[tuple[str, str]] = set()  # requested directories, and their real paths

    def __contains__(self, path: str) -> bool:
        return path in self._since_ns

    def since_ns(self, path: str) -> int:
        """Return since when *path* is watched; NEW_NS if it appeared later than its directory."""
        return self._since_ns[path]

    def is_scanned(self, directory: str) -> bool:
        """Whether all entries of *directory* are known."""
        return directory in self._scanned

    def is_open(self, directory: str) -> bool:
        """Whether everything that appears in *directory*, a real path, is watched."""
        return directory in self._open

    def add_new(self, path: str) -> None:
        """Add *path*, which has appeared in a watched directory: the program does not know it."""
        self._since_ns[path] = NEW_NS

    def scan(self, directory: str, real: str | None, since_ns: int, *, is_top: bool) -> list[str]:
        """Add all entries of *directory*; return those that were not known.

        These are watched since *since_ns*; if the directory was scanned before, they are new.
        *real* is the real path of the directory, if it exists.
        """
        if real:
            self._open.add(real)
            if is_top:
                self._tops.add((directory, real))
        try:
            paths = [entry.path for entry in os.scandir(real)] if real else []
        except OSError:
            return []  # it is unreadable, which `add_watch` has logged; or it was just removed
        unknown = (path for path in paths if path not in self._since_ns)
        found = [path for path in unknown if not self._is_left_out(path)]
        first_ns = NEW_NS if directory in self._scanned else since_ns
        self._since_ns.update(dict.fromkeys(found, first_ns))
        self._scanned.add(directory)
        return found

    def remove(self, path: str) -> None:
        """Forget *path*, which was removed: if it appears again, it is new."""
        del self._since_ns[path]
        self._scanned.discard(path)
        self._open.discard(path)

    def keep_only(self, names: Iterable[str]) -> list[str]:
        """Forget the paths that lie below none of the directories *names*; return those paths.

        If one of *names* is a symbolic link that has another target by now, the paths below its
        old target are forgotten, too.
        """
        tops = {(name, os.path.realpath(name)) for name in names}
        gone = self._tops - tops
        if not gone:
            return []
        self._tops &= tops
        kept = tuple(os.path.join(real, "") for _, real in self._tops)
        left = [path for path in self._since_ns if not path.startswith(kept)]
        for path in left:
            self.remove(path)
        # A directory that also lies below another one is still watched, unless it is a link.
        still_open = self._since_ns.keys() | {real for _, real in self._tops}
        self._open -= {real for _, real in gone} - still_open
        self._scanned -= {name for name, real in gone if name != real or name not in self._since_ns}
        return [*left, *({name for name, _ in gone} - self._since_ns.keys())]
