"""Linux: exactly the wanted directories, on one descriptor and one thread.

watchdog's stock observer makes a thread for each directory. Its `InotifyFD` with a callback for
each directory does with one. The callbacks run on its thread, which dies of any exception.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from watchdog.observers.inotify_c import InotifyConstants as IN
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD

from . import EVERYWHERE, News

# What tells that the watch itself has gone stale.
STALE = IN.IN_DELETE_SELF | IN.IN_MOVE_SELF | IN.IN_UNMOUNT
# Two watches may mean one directory (a bind mount): the second must not narrow the first.
# Deletions tell the fate of the directories in it, too: their own watches stay silent for as
# long as any process has them open, a shell for instance.
ITSELF = IN.IN_DELETE | IN.IN_DELETE_SELF | IN.IN_MOVE_SELF | IN.IN_ONLYDIR | IN.IN_MASK_ADD
# No opens and no reads, or importing a directory would flood us; no writes, since a file being
# written is not yet worth reading. Attributes, for `touch`.
CONTENTS = ITSELF | IN.IN_CLOSE_WRITE | IN.IN_CREATE | IN.IN_MOVE | IN.IN_ATTRIB
GONE = IN.IN_DELETE | IN.IN_MOVED_FROM

logger = logging.getLogger("evreload")


class Inotify:
    """Arm and disarm directories; every event in one comes to *tell*, on the reader's thread.

    *entries* holds the names of interest in each directory, None for all. Raises OSError where
    there are no inotify instances left, or where this watchdog is not the one we know.
    """

    name = "inotify"

    def __init__(
        self,
        tell: Callable[[News], object],
        entries: Mapping[str, set[str] | None],
        died: Callable[[], object],
        *,
        curious: bool = False,
    ) -> None:
        self._curious = curious
        self._tell = tell
        self._entries = entries
        self._watches: dict[str, _Watch] = {}
        self._reader = _Reader(died)
        self._reader.start()

    def arm(self, directory: str) -> None:
        """Watch *directory*, whatever now bears that name. Raises OSError if it can't be."""
        status = os.stat(directory)
        identity = status.st_dev, status.st_ino
        contents = self._entries.get(directory) != set()
        old = self._watches.get(directory)
        if old and old.serves(identity, contents):
            return
        new = _Watch(directory, identity, contents, self._tell, self._matters)
        mask: Any = CONTENTS if contents else ITSELF
        new.wd = self._reader.add_callback(os.fsencode(directory), mask, new, _key(new))
        if new.wd == -1:  # this is how watchdog says EACCES
            self._remove(new)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
        self._watches[directory] = new
        if old:
            self._remove(old)

    def disarm(self, directory: str) -> None:
        if old := self._watches.pop(directory, None):
            self._remove(old)

    def stop(self) -> None:
        """Close the descriptor and wait for the thread: before a fork nothing may be left."""
        for watch in self._watches.values():
            watch.live = False  # that it is no more is no news
        self._reader.stop()
        self._reader.join()

    def _matters(self, directory: str, name: str, event: InotifyEvent) -> bool:
        names = self._entries.get(directory, ())
        if names is None or name in names or self._curious:
            return True
        return event.is_delete and os.path.join(directory, name) in self._entries

    def _remove(self, watch: _Watch) -> None:
        watch.live = False
        self._reader.remove_callbacks([(watch.wd, _key(watch))])


class _Watch:
    """watchdog's WatchCallback for one directory. Must neither block nor raise."""

    def __init__(
        self,
        directory: str,
        identity: tuple[int, int],
        contents: bool,
        tell: Callable[[News], object],
        matters: Callable[[str, str, InotifyEvent], bool],
    ) -> None:
        self.wd: Any = -1
        self.live = True
        self._directory = directory
        self._identity = identity
        self._contents = contents
        self._tell = tell
        self._matters = matters

    def serves(self, identity: tuple[int, int], contents: bool) -> bool:
        return self.live and self._identity == identity and self._contents >= contents

    def on_event(self, event: InotifyEvent) -> None:
        if not self.live:
            return
        if not event.name:
            if event.mask & STALE:
                self._tell(News(self._directory))
            return
        name = os.fsdecode(event.name)
        if self._matters(self._directory, name, event):
            created = event.is_create and not event.is_directory
            gone = bool(event.mask & GONE)
            self._tell(News(os.path.join(self._directory, name), created, gone))

    def on_watch_deleted(self, wd: object) -> None:
        if self.live:
            self.live = False
            self._tell(News(self._directory))

    def on_queue_overflow(self) -> None:
        if self.live:
            self._tell(EVERYWHERE)


class _Reader(InotifyFD):
    """watchdog's thread, made to say when it dies and not to outlive an exec."""

    def __init__(self, died: Callable[[], object]) -> None:
        super().__init__()
        self._died = died
        try:
            # watchdog leaves it inheritable: each exec would leak one of a user's 128 instances.
            os.set_inheritable(self._inotify_fd, False)
        except AttributeError:
            raise OSError(errno.ENOSYS, "an unknown version of watchdog") from None
        self.name = "evreload-inotify"

    def run(self) -> None:
        try:
            super().run()
        except BaseException:  # whatever it is, and not ours to raise: nobody would hear of it
            logger.exception("the thread that reads file events has failed")
        if self.should_keep_running():
            self._died()

    def read_events(self, **options: Any) -> list[InotifyEvent]:
        events = super().read_events(**options)
        if not events and self.should_keep_running():
            os.fstat(self._inotify_fd)  # closed behind our back, watchdog would spin on it
        return events


def _key(watch: _Watch) -> Any:
    return id(watch)
