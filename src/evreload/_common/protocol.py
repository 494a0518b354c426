"""Messages between the supervisor and the program it runs.

Two pipes of records, each a kind and its words, ended by NULs. The program's end is written to
from audit hooks and forked workers, so a record goes out in one write, which a pipe keeps whole
up to 4096 bytes. Imported into the program itself, so it imports next to nothing.
"""

from __future__ import annotations

import os

from . import process as _process

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterator

CODING = ("utf-8", "surrogateescape")  # of paths, too: both ends have them as text
Record = tuple[str, ...]
MOST_AT_ONCE = 1 << 16  # bytes read at one go

# From the program.
FILE = "file"  # when it was read (nanoseconds since the epoch), its path, the hash of its source
WATCH = "watch"  # when it was read, or asked for; a path
WROTE = "wrote"  # a path the program opened for writing as it started
SPAWNED = "spawned"  # the program ran another as it started
BOUND = "bound"  # when the program bound a socket to an address (time.monotonic, in seconds)
WISHES = "wishes"  # seconds, beyond the grace, that a process wants before it is stopped; which
PREPARED = "prepared"  # which process may be stopped; HELD or OPEN; what was not finished
LEFT = "left"  # a hook has ended the program
HELD, OPEN = "held", "open"  # whether nobody is let in any more
HOLDS = "holds"  # it has done what HOLD asks for
RELOADING = "reloading"  # the program begins again by itself, in its place
RELOAD = "reload"  # a worker asks for the whole program to be started again
FAILED = "failed"  # a path that the failure passed through
ENDED = "ended"  # the program has come to its end, one way or another
BEGAN = "began"  # the program's first line is next, and what it is asked for is heard
MODULE = "module"  # a name; "plain" if Python's own loaders loaded it; its file, or directories
MODULES = "modules"  # that was all of them

# To the program.
GO = "go"  # begin; seconds for requests in progress, since when, what is handed over, if anything
PREPARE = "prepare"  # seconds for requests in progress, the paths that changed
HOLD = "hold"  # write out what is held back: it is about to be stopped; HELD or OPEN
TELL = "tell"  # which modules it has imported

# To the fork server, and from it.
OUTSIDE = "outside"  # directories that are not of the project
INSIDE = "inside"  # directories that are, even so
COLD = "cold"  # modules that it may not import
PRELOAD = "preload"  # modules to import, in this order, now
LOADING = "loading"  # a module
LEFT_OUT = "left out"  # a module, and why; after that it must not fork
UNFIT = "unfit"  # to fork, ever; why
READY = "ready"  # to fork
FORK = "fork"  # a program for the pipes sent to its service
FORKED = "forked"  # its process id


def pack(record: Record) -> bytes:
    """Return *record* as it goes through the pipe."""
    return "\0".join((*record, "\0")).encode(*CODING)


class Records:
    """Puts records together again from what a pipe gives."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Record]:
        """Yield the records that *data* completes."""
        *complete, self._rest = (self._rest + data).split(b"\0\0")
        for one in complete:
            yield tuple(one.decode(*CODING).split("\0"))


class Pipes:
    """The ends of the pipes that a process of ours was started with.

    A program that becomes a daemon closes them like everything else, and may come to have other
    files by their *numbers*. Its forks inherit them: *owner* is the process they were meant for.
    """

    def __init__(self, numbers: list[int], owner: int | None = None) -> None:
        self.numbers = numbers
        self.owner = owner or os.getpid()
        self._reports, self._requests, *self.service = numbers
        self._identities = {pipe: _process.identity(pipe) for pipe in numbers}
        self._records = Records()
        _process.set_inheritable(numbers, False)

    @property
    def are_own(self) -> bool:
        """Whether this process is no fork, which has inherited a copy of everything."""
        return os.getpid() == self.owner

    def has_still(self, pipe: int) -> bool:
        """Whether *pipe* is what it was."""
        try:
            return _process.identity(pipe) == self._identities[pipe]
        except OSError:  # it was closed
            return False

    def report(self, *record: str) -> None:
        """Tell the supervisor something, if there is still a way to."""
        try:
            if self.has_still(self._reports):
                os.write(self._reports, pack(record))
        except OSError:  # the supervisor has died, and we shall shortly
            return

    def wait(self) -> list[Record]:
        """Wait until told something, and return it; end the process if nobody is left who could."""
        if data := os.read(self._requests, MOST_AT_ONCE):
            return list(self._records.feed(data))
        os._exit(0)  # the supervisor has let go of us, or died

    def receive(self) -> list[Record]:
        """Return what was told since the last time."""
        if not self.has_still(self._requests):
            return []
        os.set_blocking(self._requests, False)
        try:
            return list(self._records.feed(os.read(self._requests, MOST_AT_ONCE)))
        except BlockingIOError:  # nothing
            return []
