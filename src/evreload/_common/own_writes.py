"""The program as an author: which files it has written itself, and which of those it runs.

Any thread. Imported into the program itself, so it imports next to nothing.
"""

from __future__ import annotations

import _imp

KEY = 0  # of the hashes, which are compared by several processes


class Author:
    """Remembers what the program has written, and what it has read of Python source."""

    def __init__(self) -> None:
        self._written: set[str] = set()
        self._may_have_written_anything = False
        self._sources: dict[str, tuple[str, int]] = {}

    def note_written(self, path: str) -> None:
        """Take note that the program has opened *path* for writing, or put a file there."""
        self._written.add(path)

    def note_spawned(self) -> None:
        """Take note that it has run another program, of which nothing is known."""
        self._may_have_written_anything = True

    def note_read(self, path: str, content: str, read: int) -> None:
        """Take note of the hash of what it has read from *path*: its *content*, and when.

        *read* is in nanoseconds since the epoch.
        """
        self._sources[path] = (content, read)

    def forget_writing(self) -> None:
        """Begin with another program: what was written so far was not written by it."""
        self._written.clear()
        self._may_have_written_anything = False

    def content_read(self, path: str) -> str:
        """Return the hash of what was read from *path*; empty if that is not known."""
        return self._sources.get(path, ("", 0))[0]

    def may_have_written(self, path: str) -> bool:
        """Whether the program may have written *path*: as it started, or if it is code."""
        return self._may_have_written_anything or path in self._written

    def has_made(self, path: str, changed: int) -> bool:
        """Whether the program has itself written what is in *path*, and then read just that.

        *changed* is when the file last was, in nanoseconds since the epoch.
        """
        content, read = self._sources.get(path, ("", 0))
        if path not in self._written or changed > read:
            return False
        try:
            with open(path, "rb") as file:
                return source_hash(file.read()) == content
        except OSError:
            return False


def source_hash(source: bytes) -> str:
    """Return what tells *source* from any other."""
    # Python's own, for bytecode that is checked by it: every other has to be imported.
    hashed: bytes = _imp.source_hash(KEY, source)
    return hashed.hex()
