"""Whether a run of the program may have read a file that was only half saved.

Such a run may end at once, with success: an empty script does nothing.

Runs in: the supervisor, on its loop's thread; the program, on the main thread, after its end.
Owns: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from .filestat import file_time, has_writer, stat_path
from .own_writes import OwnWrites

WAIT = 3.0  # seconds that the rest of a file may take


def half_saved(
    files: Iterable[str], changed: Iterable[str], since_ns: int, own_writes: OwnWrites
) -> list[str]:
    """Return those paths that a writer may not have finished when the program read them.

    They are those of *files*, which the program has read, that have changed lately, and that a
    process has open to write them, or that have changed since the program started at *since_ns*
    (nanoseconds since the epoch), but not by the program itself; and those of *changed*, for which
    it was restarted, that are empty.
    """
    emptied = set(changed)
    oldest_ns = file_time() - int(WAIT * 1e9)
    found = []
    for path in sorted({*files, *emptied}):
        here = stat_path(path)
        if here is None or here.is_directory or own_writes.wrote_and_read(path, here.ctime_ns):
            continue
        is_empty = path in emptied and not here.fingerprint.size
        is_recent = here.ctime_ns >= oldest_ns
        if is_empty or (is_recent and (here.ctime_ns >= since_ns or has_writer(path))):
            found.append(path)
    return found
