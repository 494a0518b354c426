"""What the disk says about a file.

Any thread. Only reads, but for the bytecode it forgets; decides nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import stat
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple

COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE of Linux, which `time` does not name


def file_time() -> int:
    """Return the time by the clock that stamps files, which may be some milliseconds behind."""
    if hasattr(time, "CLOCK_BOOTTIME"):  # Linux
        return time.clock_gettime_ns(COARSE_CLOCK)
    return time.time_ns()


class Fingerprint(NamedTuple):
    """Differs after a file was saved, replaced or touched; not after a chmod or a read."""

    mtime_ns: int
    size: int
    inode: int
    device: int


class Status(NamedTuple):
    """One look at a path: its fingerprint, when it last changed in any way, what it is."""

    fingerprint: Fingerprint
    ctime_ns: int
    is_directory: bool
    is_link: bool
    links: int


def look(path: str, *, follow: bool = True) -> Status | None:
    """Return the status of *path*, or None where there is nothing to be seen.

    What is neither file, directory nor link is as good as nothing: opening a FIFO would block.
    """
    try:
        seen = os.stat(path, follow_symlinks=follow)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    if stat.S_IFMT(seen.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        return None
    is_directory = stat.S_ISDIR(seen.st_mode)
    # A directory's time and size tell of its entries, and each of those speaks for itself.
    mtime, size = (0, 0) if is_directory else (seen.st_mtime_ns, seen.st_size)
    return Status(
        Fingerprint(mtime, size, seen.st_ino, seen.st_dev),
        seen.st_ctime_ns,
        is_directory,
        stat.S_ISLNK(seen.st_mode),
        seen.st_nlink,
    )


def glance(path: str) -> tuple[int, ...] | None:
    """Return what equals the fingerprint of *path* if it is a file; `look` knows of the rest.

    For where thousands are looked at in a row.
    """
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino, seen.st_dev


def differing(known: Mapping[str, Fingerprint | None]) -> dict[str, Fingerprint | None]:
    """Return those of *known* whose fingerprint is another by now, and which."""
    found = {}
    for path, before in list(known.items()):  # another thread may add some meanwhile
        if glance(path) != before:
            here = look(path)
            now = here and here.fingerprint
            if now != before:
                found[path] = now
    return found


def content_hash(path: str) -> str:
    """Return a short hash of what *path* holds; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2s").hexdigest()[:16]
    except OSError:
        return ""


def compile_error(path: str) -> SyntaxError | ValueError | None:
    """Return why the source file *path* does not compile, or None if it does.

    What cannot be read any more has no error.
    """
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # the program's own import will warn
            compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL in the source, before 3.12
        return error
    except (RecursionError, MemoryError):  # nested beyond this process's means: let it run
        return None
    return None


def changed_since(since: int, paths: Iterable[str]) -> list[str]:
    """Return those of *paths* that changed at *since* or later, in nanoseconds since the epoch."""
    return [path for path in paths if (here := look(path)) and here.ctime_ns >= since]


def forget_bytecode(paths: Iterable[str]) -> None:
    """Delete the cached bytecode of *paths*.

    Python trusts it as long as the source keeps its size and was saved within the same second,
    so that the second of two quick saves of one length would never run.
    """
    for path in paths:
        if path.endswith((".py", ".pyw")):
            for optimization in ("", 1, 2):
                with contextlib.suppress(OSError, NotImplementedError):
                    os.unlink(importlib.util.cache_from_source(path, optimization=optimization))
