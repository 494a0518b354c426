"""Messages between the supervisor and the program it runs.

Two pipes of records, each a kind and its words, ended by NULs. The program's end is written to
from audit hooks and forked workers, so a record goes out in one write, which a pipe keeps whole
up to 4096 bytes. Imported into the program itself, so it imports next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterator

CODING = ("utf-8", "surrogateescape")  # of paths, too: both ends have them as text
Record = tuple[str, ...]

# From the program.
FILE = "file"  # when it was read (nanoseconds since the epoch), its path
WATCH = "watch"  # when it was asked for, a path
WROTE = "wrote"  # a path the program opened for writing as it started
SPAWNED = "spawned"  # the program ran another as it started
BOUND = "bound"  # when the program bound a socket to an address (time.monotonic, in seconds)
WISHES = "wishes"  # seconds, beyond the grace, that a process wants before it is stopped; which
PREPARED = "prepared"  # which process may be stopped; HELD or OPEN; what was not finished
LEFT = "left"  # a hook has ended the program
HELD, OPEN = "held", "open"  # whether nobody is let in any more
HOLDS = "holds"  # as it was asked to: nobody is let in any more
RELOADING = "reloading"  # the program begins again by itself, in its place
RELOAD = "reload"  # a worker asks for the whole program to be started again
FAILED = "failed"  # a path that the failure passed through
ENDED = "ended"  # the program has come to its end, one way or another
BEGAN = "began"  # the program's first line is next
MODULE = "module"  # a name; "plain" if Python's own loaders loaded it; its file, or directories
MODULES = "modules"  # that was all of them

# To the program.
GO = "go"  # begin; seconds for requests in progress, since when, what is handed over, if anything
PREPARE = "prepare"  # seconds for requests in progress, the paths that changed
HOLD = "hold"  # let no more connections in: it is about to be stopped
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
