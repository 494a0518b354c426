"""The status of files, and the clock that the file system takes their times from.

Runs in: any process, any thread.
Owns: nothing; it only reads.
"""

from __future__ import annotations

import stat
import sys
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .unpatched import os

# CLOCK_REALTIME_COARSE, which `time` has no name for. Linux takes the times of files from it.
COARSE_CLOCK = 5


def file_time() -> int:
    """Return the time by the clock of file times, in nanoseconds since the epoch.

    It may be some milliseconds behind `time.time_ns`.
    """
    if sys.platform == "linux":
        return time.clock_gettime_ns(COARSE_CLOCK)
    return time.time_ns()


class Fingerprint(NamedTuple):
    """What is compared of a file; see `differs`.

    *ctime_ns* is the time of its latest change of any kind, which nothing but the kernel can set.
    It is 0 for a directory.
    """

    mtime_ns: int
    size: int
    inode: int
    device: int
    ctime_ns: int

    def is_renumbered(self, before: Fingerprint) -> bool:
        """Whether only the numbers of inode and device differ from those of *before*."""
        return self._replace(inode=before.inode, device=before.device) == before


class Status(NamedTuple):
    """What one look at a path found: its fingerprint, its latest change, and what it is.

    *attributes* are those that a chmod, a chown or another hard link changes.
    """

    fingerprint: Fingerprint
    ctime_ns: int
    is_directory: bool
    is_link: bool
    links: int
    attributes: tuple[int, ...]


def differs(before: Fingerprint | None, now: Fingerprint | None) -> bool:
    """Whether a file was saved, replaced or touched.

    False after a chmod or a read; and if the file was written, but has the same time and size as
    before: then only `Fingerprint.ctime_ns` differs, as it does after a chmod.
    """
    if before is None or now is None:
        return before is not now
    return before[:-1] != now[:-1]


def stat_path(path: str, *, follow: bool = True) -> Status | None:
    """Return the status of *path*, or None if nothing that can be watched is there.

    Sockets, devices and FIFOs count as nothing: to open a FIFO would block.
    """
    try:
        found = os.stat(path, follow_symlinks=follow)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    if stat.S_IFMT(found.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        return None
    is_directory = stat.S_ISDIR(found.st_mode)
    # The time and size of a directory change with its entries, each of which is watched itself.
    mtime, size, ctime = (found.st_mtime_ns, found.st_size, found.st_ctime_ns)
    if is_directory:
        mtime = size = ctime = 0
    return Status(
        Fingerprint(mtime, size, found.st_ino, found.st_dev, ctime),
        found.st_ctime_ns,
        is_directory,
        stat.S_ISLNK(found.st_mode),
        found.st_nlink,
        (found.st_mode, found.st_uid, found.st_gid, found.st_nlink),
    )


def quick_fingerprint(path: str) -> tuple[int, ...] | None:
    """Return a tuple equal to the fingerprint of *path*, if that is a regular file.

    This is faster than `stat_path`, for thousands of paths in a row. For a path of another kind the
    tuple differs from the fingerprint, so the caller has to compare that as well.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev, found.st_ctime_ns


def find_differing(known: Mapping[str, Fingerprint | None]) -> dict[str, Fingerprint | None]:
    """Return the paths of *known* that differ by now, each with the new fingerprint."""
    found = {}
    for path, before in list(known.items()):  # a copy: another thread may add paths
        if quick_fingerprint(path) != before:
            here = stat_path(path)
            now = here and here.fingerprint
            if differs(before, now):
                found[path] = now
    return found


def changed_since(since_ns: int, paths: Iterable[str]) -> list[str]:
    """Return the paths that changed at *since_ns* or later, in nanoseconds since the epoch."""
    return [path for path in paths if (here := stat_path(path)) and here.ctime_ns >= since_ns]


def has_writer(path: str) -> bool | None:
    """Return whether any process has the file *path* open to write it; None if it cannot be known.

    Linux grants a read lease only on a file that has no writer; see fcntl(2). Many file systems of
    other machines grant none.
    """
    if sys.platform != "linux":
        return None
    import fcntl
    from signal import SIGURG

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # The signal for a process that opens the file just now; by default it does nothing.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
