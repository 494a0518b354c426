"""Where no events can be had: stat of exactly the wanted files, every check time.

On a thread of its own, so that the loop never waits for a slow network file system.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping

from ..._common.filestat import Fingerprint, glance, look
from . import News

logger = logging.getLogger("evreload")


class Polling:
    """Look at the entries of the armed directories every *check_time* seconds."""

    name = "polling"

    def __init__(
        self,
        tell: Callable[[News], object],
        entries: Mapping[str, set[str] | None],
        check_time: float,
    ) -> None:
        self._tell = tell
        self._entries = entries
        self._check_time = check_time
        self._seen: dict[str, Fingerprint | None] = {}
        self._listings: dict[str, set[str]] = {}
        self._directories: dict[str, None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evreload-polling", daemon=True)
        self._thread.start()

    def arm(self, directory: str) -> None:
        self._directories[directory] = None

    def disarm(self, directory: str) -> None:
        self._directories.pop(directory, None)

    def __contains__(self, directory: str) -> bool:
        return directory in self._directories

    def __len__(self) -> int:
        return len(self._directories)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._poll()
            except Exception:  # short of memory, say: nobody else would look
                logger.exception("polling has failed; trying again")

    def _poll(self) -> None:
        while not self._stopping.wait(self._check_time):
            for directory in list(self._directories):
                for path in self._paths(directory):
                    self._check(path)

    def _check(self, path: str) -> None:
        now = glance(path)
        if now and self._seen.get(path) == now:
            return
        status = (now and look(path)) or look(path, follow=False)
        fingerprint = status and status.fingerprint
        # A path seen for the first time is told as well: it may have changed since it was armed.
        if path not in self._seen or self._seen[path] != fingerprint:
            self._seen[path] = fingerprint
            self._tell(News(path))

    def _paths(self, directory: str) -> Iterator[str]:
        names = self._entries.get(directory, set())
        if names is not None:
            yield from (os.path.join(directory, name) for name in list(names))
            return
        listing = _listing(directory)
        before = self._listings.get(directory, listing)
        yield from listing
        for path in before - listing:
            yield path  # that it is gone is news, too, once
            self._seen.pop(path, None)
        self._listings[directory] = listing


def _listing(directory: str) -> set[str]:
    try:
        return {entry.path for entry in os.scandir(directory)}
    except OSError:
        return set()
