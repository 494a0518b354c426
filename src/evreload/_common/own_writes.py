"""Which files the program has written itself, and which contents of source files it has read.

Runs in: the program, which records it, on any thread; the supervisor, which receives it, on its
loop's thread.
Owns: the record of one run. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

from .source import bytecode_time, source_hash
from .unpatched import read_bytes


class OwnWrites:
    """Records what the program wrote and read, to distinguish its own changes from others."""

    def __init__(self) -> None:
        self._written: set[str] = set()
        self._has_spawned = False
        self._sources: dict[str, tuple[str, int]] = {}
        self._rewritten: set[str] = set()  # of which the program has read several contents

    def note_written(self, path: str) -> None:
        """Record that the program opened *path* for writing, or moved a file there."""
        self._written.add(path)

    def note_spawned(self) -> None:
        """Record that the program started another process, which may write any file."""
        self._has_spawned = True

    def note_read(self, path: str, content_hash: str, read_ns: int) -> None:
        """Record that the program read the source file *path*, whose content has *content_hash*.

        The hash is empty if the program may have read it as bytecode. *read_ns* is in nanoseconds
        since the epoch.
        """
        known = self.hash_read(path)
        if known and content_hash and known != content_hash:
            self._rewritten.add(path)
        self._sources[path] = (content_hash or known, read_ns)

    def note_run(self, path: str, read_ns: int) -> None:
        """Record that the program runs *path*, which it may have read as bytecode, at *read_ns*."""
        self._sources.setdefault(path, ("", read_ns))

    def clear_writes(self) -> None:
        """Forget what was written: this process is a fork, which begins another run."""
        self._written.clear()
        self._has_spawned = False

    def hash_read(self, path: str) -> str:
        """Return the hash of what the program read from *path*; empty if that is not known."""
        return self._sources.get(path, ("", 0))[0]

    def may_have_written(self, path: str) -> bool:
        """Whether the program, or a process it started, may have written *path*."""
        return self._has_spawned or path in self._written

    def has_read(self, path: str) -> bool:
        """Whether the present content of *path* is all that the program has read from it."""
        content_hash, read_ns = self._sources.get(path, ("", 0))
        if content_hash:
            return path not in self._rewritten and self._is_last_read(path)
        cached_ns = bytecode_time(path) if read_ns else None  # the program ran it from bytecode
        return cached_ns is not None and cached_ns <= read_ns

    def wrote_and_read(self, path: str, changed_ns: int) -> bool:
        """Whether the program wrote the present content of *path* itself, and then read it.

        *changed_ns* is when the file last changed, in nanoseconds since the epoch.
        """
        _, read_ns = self._sources.get(path, ("", 0))
        return path in self._written and changed_ns <= read_ns and self._is_last_read(path)

    def _is_last_read(self, path: str) -> bool:
        content_hash = self.hash_read(path)
        if not content_hash:
            return False
        try:
            return source_hash(read_bytes(path)) == content_hash
        except OSError:
            return False
