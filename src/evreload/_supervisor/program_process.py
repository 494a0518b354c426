"""One run of the program: its process, and what it has told of itself.

The supervisor's loop. Imported before the loop's own modules, so that the program starts first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time

from .._common import process as _process
from .._common import protocol as channel
from .._common.own_writes import Author
from .._common.protocol import MOST_AT_ONCE, Record, Records, pack
from .._program.imports import TICK

TYPE_CHECKING = False  # `typing` costs 2 ms of the program's first start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._settings import Options

PIPE_SIZE = 1 << 20  # bytes: a program imports thousands of files before we may come to read

NOTHING: Mapping[str, int] = {}
# Where Python reads the .pth files as it starts: one that waits knows nothing of later ones.
INSTALLED = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


class Run:
    """A process of the program, from its start to its end.

    At first it only gets Python and our own end ready, then waits for `go`. So the next run can
    stand by while the program runs, and need not wait for that when its time comes.
    """

    def __init__(
        self,
        start: Callable[[tuple[int, ...]], int],
        *,
        keep_sockets: bool,
        loaded: Mapping[str, int] = NOTHING,
    ) -> None:
        """Have the process made by *start*, which is given pipes to us and returns its id.

        *loaded* are the files that it has read by then, and when.
        """
        self.loaded = loaded
        self.files: dict[str, None] = {}  # that it has read since, in order
        self.modules: list[Record] = []  # that it has imported, after it was asked
        self.has_begun = False
        self.has_bound = False
        self.since = time.time_ns()
        self.status: int | None = None  # as os.waitstatus_to_exitcode gives it
        self.wishes: dict[int, float] = {}  # seconds, beyond the grace, to prepare for the end
        self.cause = 0.0  # when that happened which it is for; by time.monotonic
        self.is_up = False
        self.is_complete = False  # it has come so far, or to its proper end, and told all it wants
        self.is_serving = False
        self.has_hung_up = False  # it can tell no more, though it may run on
        self.said_goodbye = False
        self.began_by_itself = False  # through evreload.reload()
        self.was_left = False  # a hook has raised SystemExit
        self._installed = _installed()
        self.author = Author()
        self._records = Records()
        self._peeked: list[Record] = []
        self.reports, reports = os.pipe()
        requests, self._requests = os.pipe()
        _process.widen(self.reports, PIPE_SIZE)
        os.set_blocking(self.reports, False)
        os.set_blocking(self._requests, False)
        # Where users may have only so much in pipes, there is little room in one.
        self.most_told = min(MOST_AT_ONCE, _process.capacity(self._requests)) // 2
        self.service, service = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.service.setblocking(False)
        with service:
            kept = (service.fileno(),) if keep_sockets else ()
            try:
                self.pid = start((reports, requests, *kept))
            except OSError:
                self.close()
                raise
            finally:
                os.close(reports)
                os.close(requests)

    def go(self, grace: float, *handed_over: str, since: int = 0) -> None:
        """Let the program begin; what is saved *since* then, if not since now, it may not know."""
        self.since = since or time.time_ns()
        with contextlib.suppress(BrokenPipeError):  # it was killed, and will be reaped
            self.tell(channel.GO, str(grace), str(self.since), *handed_over)
            self.signal(signal.SIGCONT)  # somebody may have stopped it

    def tell(self, *record: str) -> None:
        """Tell the process something. Raises OSError if it has ended, or doesn't take it."""
        message = pack(record)
        if os.write(self._requests, message) < len(message):
            raise OSError("it is told more than it can take in")

    def widen(self, size: int) -> None:
        """Let it be told *size* bytes at once."""
        _process.widen(self._requests, size)

    def read(self) -> list[Record]:
        """Return what the program has told since the last time."""
        peeked, self._peeked = self._peeked, []
        return peeked + self._receive()

    @property
    def is_outdated(self) -> bool:
        """Whether a Python that started now might find something else installed."""
        return self._installed != _installed()

    def has_ended(self) -> bool:
        """Whether it can tell no more, though its end was not noticed yet."""
        self.peek()
        return self.has_hung_up

    def peek(self) -> list[Record]:
        """Return what was told so far, and keep it for `read`."""
        while records := self._receive():
            self._peeked += records
        return list(self._peeked)

    def _receive(self) -> list[Record]:
        try:
            data = os.read(self.reports, MOST_AT_ONCE)
        except BlockingIOError:
            return []
        self.has_hung_up = not data
        records = list(self._records.feed(data))
        for record in records:
            self._note_author(record)
        return records

    def _note_author(self, record: Record) -> None:
        """Remember what is asked for before all that was told is heeded."""
        kind, *words = record
        if kind == channel.WROTE:
            self.author.note_written(words[0])
        elif kind == channel.SPAWNED:
            self.author.note_spawned()
        elif kind == channel.FILE and len(words) == 3:
            read, path, content = words
            self.author.note_read(path, content, int(read) + TICK)

    def heed(self, record: Record) -> None:
        """Remember what *record* tells of the run."""
        kind, *words = record
        if kind == channel.FILE:
            self.files.setdefault(words[1])
        elif kind == channel.MODULE:
            self.modules.append(tuple(words))
        elif kind == channel.BOUND:
            self.has_bound = True
        elif kind == channel.BEGAN:
            self.has_begun = True
        elif kind == channel.WISHES:
            self.wishes[int(words[1])] = float(words[0])
        elif kind == channel.ENDED:
            self.said_goodbye = True
        elif kind == channel.LEFT:
            self.was_left = True
        elif kind == channel.RELOADING:
            self.since = int(words[0])
            self.began_by_itself = True
            self.has_begun = self.is_up = self.is_serving = self.said_goodbye = False
            self.wishes.clear()
            self.loaded = NOTHING

    def ask_for_modules(self) -> None:
        """Have it tell what it has imported; in vain if it waits for a signal, any signal."""
        if _process.awaits_signal(self.pid):
            return
        self.modules.clear()
        with contextlib.suppress(OSError):  # it is about to end
            self.tell(channel.TELL)
            self.signal(signal.SIGURG)

    def request_to_prepare(self, grace: float, changed: list[str]) -> bool:
        """Have requests in progress answered, and the reload hooks run; False if it can't hear."""
        request = (channel.PREPARE, str(grace))
        while len(pack((*request, *changed))) > self.most_told:
            changed = changed[: len(changed) // 2]
        try:
            self.tell(*request, *changed)
        except OSError:
            return False
        self.signal(signal.SIGURG)
        return True

    def signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        os.close(self.reports)
        os.close(self._requests)
        self.service.close()

    @property
    def ended_strangely(self) -> bool:
        """Whether it ended by a signal that nobody meant for it, or before its first line."""
        assert self.status is not None
        by_signal = self.status < 0 and self.status not in (-signal.SIGINT, -signal.SIGTERM)
        return by_signal or not self.has_begun

    def describe_end(self) -> str:
        """Say how the program ended."""
        assert self.status is not None
        if self.status >= 0:
            return f"program exited with status {self.status}"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:  # a real-time signal
            name = f"signal {-self.status}"
        return f"program was killed by {name}"


def _installed() -> list[int]:
    """Return what changes when something is."""
    found = []
    for path in INSTALLED:
        with contextlib.suppress(OSError):
            found.append(os.stat(path).st_mtime_ns)
    return found


def cold(options: Options) -> Run:
    """Return a run in a new interpreter."""

    def start(pipes: Iterable[int]) -> int:
        return _process.spawn(options.target, pipes, warm=options.warm)

    return Run(start, keep_sockets=options.keep_sockets)
