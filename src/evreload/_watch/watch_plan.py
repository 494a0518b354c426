"""Which directories must be watched so that no change of a requested path goes unseen.

Directories are watched, not files: an editor that renames a file over another takes a watch on
the file away with it. Only directories that hold something requested are watched, however large
the tree is.

Runs in: the supervisor and the program, on the thread that owns the watcher. The observers'
threads read `entries`.
Owns: `entries`, and which directories are watched.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from .._common.filestat import stat_path
from .._common.unpatched import os
from .observers.observer_set import ObserverSet

MAX_LINKS = 40  # as in the Linux kernel; a longer chain of symbolic links leads nowhere


class Kind(enum.Enum):
    """What a step on the way to a path is. The steps are its directories, links, and itself."""

    DIRECTORY = enum.auto()
    FILE = enum.auto()
    LINK = enum.auto()
    MISSING = enum.auto()


class WatchPlan:
    """Watches the directories along the way to each requested path, symbolic links followed.

    `entries` maps each watched directory, by its real path, to the names that matter in it: None
    for all, an empty set if only what happens to the directory itself matters.
    """

    def __init__(self) -> None:
        self.entries: dict[str, set[str] | None] = {}
        self._observers: ObserverSet | None = None
        self._real: dict[str, str | None] = {}  # of each directory; None if it is missing
        self._leads_to: dict[str, set[str]] = {}  # from an entry to requested paths of other names
        self._junctions: set[str] = set()  # entries whose change may make paths lead elsewhere
        self._needed: set[str] = set()  # directories that must be watched, since `begin`

    def begin(self, observers: ObserverSet) -> None:
        """Begin to plan again from nothing, with *observers*."""
        self._observers = observers
        self._real.clear()
        self._leads_to.clear()
        self._junctions.clear()
        self._needed.clear()

    def finish(self) -> None:
        """Stop watching the directories that were not needed since `begin`."""
        for directory in self.entries.keys() - self._needed:
            del self.entries[directory]
            assert self._observers is not None
            self._observers.remove_watch(directory)

    def add(self, path: str) -> None:
        """Watch what is needed to see any change of *path*, an absolute path."""
        directory, name = os.path.split(path)
        real = self._follow(directory)
        if real is None:
            return
        entry = os.path.join(real, name)
        self._add_entry(entry)
        if entry != path:
            self._leads_to.setdefault(entry, set()).add(path)
        if os.path.islink(entry):
            for step, kind in _walk(entry):
                self._add_step(step, kind)
                if kind is not Kind.DIRECTORY and step != path:
                    self._leads_to.setdefault(step, set()).add(path)

    def add_directory(self, directory: str) -> str | None:
        """Watch *directory* for all names; return its real path, or None if it is missing."""
        real = self._follow(directory)
        if real is not None:
            self.entries[real] = None
            self._add_watch(real)
        return real

    def paths_through(self, entry: str) -> set[str]:
        """Return the requested paths, other than *entry*, that a change of *entry* may change."""
        return self._leads_to.get(entry, set())

    def is_junction(self, entry: str) -> bool:
        """Whether a change of *entry* may make paths lead elsewhere."""
        return entry in self.entries or entry in self._junctions

    def _follow(self, directory: str) -> str | None:
        """Return the real path of *directory*, or None if it is missing; watch the way there."""
        if directory in self._real:
            return self._real[directory]
        real = None
        for step, kind in _walk(directory):
            self._add_step(step, kind)
            if kind is not Kind.LINK:
                real = step if kind is Kind.DIRECTORY else None
            if kind is Kind.FILE:
                self._junctions.add(step)  # a directory may take its place
        self._real[directory] = real
        return real

    def _add_step(self, step: str, kind: Kind) -> None:
        if kind is Kind.DIRECTORY:
            if step not in self._needed:
                self.entries.setdefault(step, set())
                self._add_watch(step)
            return
        self._add_entry(step)
        if kind is not Kind.FILE:
            self._junctions.add(step)

    def _add_entry(self, entry: str) -> None:
        directory, name = os.path.split(entry)
        names = self.entries.setdefault(directory, set())
        is_watched = directory in self._needed and names != set()
        if names is not None:
            names.add(name)
        if not is_watched:
            self._add_watch(directory)

    def _add_watch(self, directory: str) -> None:
        self._needed.add(directory)
        assert self._observers is not None
        self._observers.add_watch(directory)


def _walk(path: str) -> Iterator[tuple[str, Kind]]:
    """Yield the real path of each step on the way to *path*, and what it is.

    The last step is *path* itself, or the first that is missing or no directory. The caller watches
    each step.
    A step is yielded again if it has become another kind by then: no event reports what happened
    just before the watch was added.
    """
    here = root = os.path.splitdrive(path)[0] + os.sep
    yield root, Kind.DIRECTORY
    todo = os.path.splitdrive(path)[1].split(os.sep)[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in ("", os.curdir):
            continue
        if name == os.pardir:
            here = os.path.dirname(here)
            yield here, Kind.DIRECTORY
            continue
        step = os.path.join(here, name)
        kind = None
        while kind is not (kind := _kind(step)):
            yield step, kind
        if kind is Kind.LINK and links == MAX_LINKS:
            yield step, Kind.MISSING  # the kernel, too, follows no more links
            return
        if kind is Kind.DIRECTORY:
            here = step
        elif kind is Kind.LINK:
            links += 1
            target = _target(step)
            if os.path.isabs(target):
                here = root
                yield here, Kind.DIRECTORY
            todo.extend(target.split(os.sep)[::-1])
        else:
            return


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""  # it was replaced meanwhile: an event will follow


def _kind(step: str) -> Kind:
    status = stat_path(step, follow=False)
    if status is None:
        return Kind.MISSING
    if status.is_link:
        return Kind.LINK
    return Kind.DIRECTORY if status.is_directory else Kind.FILE
