"""Which directories must be watched, so that no change of a wanted path goes unseen.

The owner's thread; the observers' threads only read `entries`. Directories are watched, not
files: an editor's rename takes a watch on a file away with it. And only those that hold
something wanted, whatever else lies in the tree.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator

from .._common.filestat import look
from .observers import Observers

MOST_LINKS = 40  # as in the kernel; a longer chain leads nowhere


class Step(enum.Enum):
    DIRECTORY = enum.auto()
    FILE = enum.auto()
    LINK = enum.auto()
    MISSING = enum.auto()


class Routes:
    """Arms the directories along the way to each wanted path, symbolic links followed.

    `entries` maps each watched directory, by its real path, to the names that matter in it:
    None for all, an empty set where only the fate of the directory itself does.
    """

    def __init__(self) -> None:
        self.entries: dict[str, set[str] | None] = {}
        self._observers: Observers | None = None
        self._real: dict[str, str | None] = {}  # of directories: None where the way breaks off
        self._leads_to: dict[str, set[str]] = {}  # from an entry to wanted paths of other names
        self._junctions: set[str] = set()
        self._needed: set[str] = set()

    def begin(self, observers: Observers) -> None:
        """Begin to find all routes anew, on *observers*."""
        self._observers = observers
        self._real.clear()
        self._leads_to.clear()
        self._junctions.clear()
        self._needed.clear()

    def finish(self) -> None:
        """Disarm what no route has needed since `begin`."""
        for directory in self.entries.keys() - self._needed:
            del self.entries[directory]
            self._disarm(directory)

    def lead_to(self, path: str) -> None:
        """Arm what is needed to see any change of *path*, an absolute path."""
        directory, name = os.path.split(path)
        real = self._follow(directory)
        if real is None:
            return
        entry = os.path.join(real, name)
        self._listen_for(entry)
        if entry != path:
            self._leads_to.setdefault(entry, set()).add(path)
        if os.path.islink(entry):
            for step, kind in _walk(entry):
                self._take(step, kind)
                if kind is not Step.DIRECTORY and step != path:
                    self._leads_to.setdefault(step, set()).add(path)

    def open_up(self, directory: str) -> str | None:
        """Arm *directory* for whatever may happen in it; return its real path, if it is there."""
        real = self._follow(directory)
        if real is not None:
            self.entries[real] = None
            self._arm(real)
        return real

    def meant_by(self, entry: str) -> set[str]:
        """Return the wanted paths, of other names, that a change of *entry* may change."""
        return self._leads_to.get(entry, set())

    def is_junction(self, entry: str) -> bool:
        """Whether a change of *entry* may send routes another way."""
        return entry in self.entries or entry in self._junctions

    def _follow(self, directory: str) -> str | None:
        """Return the real path of *directory*, or None if there is none yet; arm the way."""
        if directory in self._real:
            return self._real[directory]
        real = None
        for step, kind in _walk(directory):
            self._take(step, kind)
            if kind is not Step.LINK:
                real = step if kind is Step.DIRECTORY else None
            if kind is Step.FILE:
                self._junctions.add(step)  # it may make room for a directory
        self._real[directory] = real
        return real

    def _take(self, step: str, kind: Step) -> None:
        if kind is Step.DIRECTORY:
            if step not in self._needed:
                self.entries.setdefault(step, set())
                self._arm(step)
            return
        self._listen_for(step)
        if kind is not Step.FILE:
            self._junctions.add(step)

    def _listen_for(self, entry: str) -> None:
        directory, name = os.path.split(entry)
        names = self.entries.setdefault(directory, set())
        armed = directory in self._needed and names != set()
        if names is not None:
            names.add(name)
        if not armed:
            self._arm(directory)

    def _arm(self, directory: str) -> None:
        self._needed.add(directory)
        assert self._observers is not None
        self._observers.arm(directory)

    def _disarm(self, directory: str) -> None:
        assert self._observers is not None
        self._observers.disarm(directory)


def _walk(path: str) -> Iterator[tuple[str, Step]]:
    """Yield the real path of each step on the way to *path*, with what it is.

    The way ends at the first that is missing, or is no directory. A step is yielded again if it
    is another thing by the time the caller, who arms it meanwhile, comes back: what was made
    just before it was listened for will never be told of.
    """
    here = root = os.path.splitdrive(path)[0] + os.sep
    yield root, Step.DIRECTORY
    todo = os.path.splitdrive(path)[1].split(os.sep)[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name in ("", os.curdir):
            continue
        if name == os.pardir:
            here = os.path.dirname(here)
            yield here, Step.DIRECTORY
            continue
        step = os.path.join(here, name)
        kind = None
        while kind is not (kind := _kind(step)):
            yield step, kind
        if kind is Step.LINK and links == MOST_LINKS:
            yield step, Step.MISSING  # as good as
            return
        if kind is Step.DIRECTORY:
            here = step
        elif kind is Step.LINK:
            links += 1
            target = _target(step)
            if os.path.isabs(target):
                here = root
                yield here, Step.DIRECTORY
            todo.extend(target.split(os.sep)[::-1])
        else:
            return


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""  # replaced since it was seen, which will be told


def _kind(step: str) -> Step:
    status = look(step, follow=False)
    if status is None:
        return Step.MISSING
    if status.is_link:
        return Step.LINK
    return Step.DIRECTORY if status.is_directory else Step.FILE
