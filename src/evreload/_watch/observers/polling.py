"""Polls exactly the files that matter, where the file system delivers no events.

It has a thread of its own, so that the loop never waits for a slow network file system.

Runs in: the supervisor and the program; directories are added on the thread that owns the
watcher, files are looked at on the observer's own thread.
Owns: the fingerprint of each file when it was last polled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from ..._common.filestat import Fingerprint, Status, differs, quick_fingerprint, stat_path
from ..._common.unpatched import os
from .base import Entries, FileEvent, OnEvent

logger = logging.getLogger("evreload")


class PollingObserver:
    """Looks at the entries of the watched directories every *check_time* seconds."""

    name = "polling"

    def __init__(
        self,
        on_event: OnEvent,
        entries: Entries,
        check_time: float,
    ) -> None:
        self._on_event = on_event
        self._entries = entries
        self._check_time = check_time
        self._seen: dict[str, Status | None] = {}
        self._listings: dict[str, set[str]] = {}
        self._directories: dict[str, None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evreload-polling", daemon=True)
        self._thread.start()

    def add_watch(self, directory: str) -> None:
        """Poll *directory*."""
        self._directories[directory] = None

    def remove_watch(self, directory: str) -> None:
        """Poll *directory* no more."""
        self._directories.pop(directory, None)

    def __len__(self) -> int:
        """Return how many directories are polled."""
        return len(self._directories)

    def stop(self) -> None:
        """End the observer's thread, and wait for its end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._poll()
            except Exception:  # such as MemoryError: without this thread, nothing would poll
                logger.exception("polling has failed; trying again")

    def _poll(self) -> None:
        while not self._stopping.wait(self._check_time):
            for directory in list(self._directories):
                for path in self._paths(directory):
                    self._check(path)

    def _check(self, path: str) -> None:
        now = quick_fingerprint(path)
        seen = self._seen.get(path)
        if now and seen and seen.fingerprint == now:
            return
        status = (now and stat_path(path)) or stat_path(path, follow=False)
        # A path polled for the first time is reported, too: it may have changed since the scan.
        if path not in self._seen or _fingerprint(seen) != _fingerprint(status):
            self._seen[path] = status
            self._on_event(FileEvent(path, is_written=_is_rewritten(seen, status)))

    def _paths(self, directory: str) -> Iterator[str]:
        names = self._entries.get(directory, set())
        if names is not None:
            yield from (os.path.join(directory, name) for name in list(names))
            return
        listing = _listing(directory)
        before = self._listings.get(directory, listing)
        yield from listing
        for path in before - listing:
            yield path  # its removal is reported once
            self._seen.pop(path, None)
        self._listings[directory] = listing


def _listing(directory: str) -> set[str]:
    try:
        return {entry.path for entry in os.scandir(directory)}
    except OSError:
        return set()


def _fingerprint(status: Status | None) -> Fingerprint | None:
    return status and status.fingerprint


def _is_rewritten(before: Status | None, now: Status | None) -> bool:
    """Whether a file seems to be written, and to have got its old time again.

    Its ctime differs, and no attribute accounts for that.
    """
    same = not differs(_fingerprint(before), _fingerprint(now))
    return bool(same and before and now and before.attributes == now.attributes)
