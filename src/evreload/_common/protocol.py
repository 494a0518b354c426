"""The messages between the supervisor and the processes it starts, and how pipes carry them.

Each message is written at once, and a pipe keeps up to 4096 bytes (PIPE_BUF) together, so audit
hooks and forked workers may write to one pipe at any moment. Sockets take another way: see
`socket_messages`.

Runs in: the supervisor, on its loop's thread; the program and the fork server, on any thread.
Owns: nothing. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

import os

from . import spawn
from .record import Record

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

CODING = ("utf-8", "surrogatepass")  # any str survives, among them paths that are not UTF-8
READ_SIZE = 1 << 16  # bytes
ATOMIC_SIZE = 4096  # bytes; PIPE_BUF of Linux: a longer message might be torn
MAX_SIZE = 1 << 24  # bytes of a message; a pipe that announces more carries something else
LENGTH_SIZE = 4  # bytes of a length

KINDS: dict[str, type[Message]] = {}  # each message, by its name


class Message(Record):
    """A message; its annotations are the types of what it carries.

    These may be str, int, float, bool and tuple[str, ...].
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        KINDS[cls.__name__] = cls


# From the program to the supervisor


class Started(Message):
    """The first line of the program runs next; from now on it receives messages."""


class FileRead(Message):
    """The program runs code from *path*, or wants to.

    It read the file at *read_ns*, in nanoseconds since the epoch. *source_hash* is the hash of
    the source; empty if it is not known.
    """

    path: str
    read_ns: int
    source_hash: str = ""


class WatchRequested(Message):
    """The program called evreload.watch(path); it may have read *path* at *read_ns*."""

    path: str
    read_ns: int


class FileWritten(Message):
    """The program opened *path* for writing, or moved a file there."""

    path: str


class ProcessSpawned(Message):
    """The program started another process, which may write any file."""


class SocketBound(Message):
    """The program bound a socket at *at*, in seconds of time.monotonic."""

    at: float


class DrainTimeNeeded(Message):
    """The process *pid* wants to be drained; it needs *seconds* beyond the grace period."""

    pid: int
    seconds: float


class Drained(Message):
    """The process *pid* may be stopped.

    *answered_all*: it can tell that no request is in progress but those of the clients
    *unfinished*. Otherwise, a request that it has just accepted may be.
    """

    pid: int
    answered_all: bool
    unfinished: tuple[str, ...] = ()


class HookExited(Message):
    """A reload hook raised SystemExit: the program ends, and does not restart."""


class RestartedInPlace(Message):
    """The program restarts in its own process, since *started_ns* (nanoseconds since the epoch)."""

    started_ns: int


class RestartRequested(Message):
    """A worker asks for a restart of the whole program."""


class FailedIn(Message):
    """The program fails by an exception that passed through *path*."""

    path: str


class Exiting(Message):
    """The program has run to its end, and Python ends next."""


class ModuleListed(Message):
    """The program has imported the module *name*.

    *by_python*: by one of Python's own loaders. *places*: its file, or its directories.
    """

    name: str
    by_python: bool
    places: tuple[str, ...] = ()


class ModulesListed(Message):
    """All modules have been listed."""


# From the supervisor to the program


class Release(Message):
    """The program may run its first line.

    *started_ns*: what is saved from then on (nanoseconds since the epoch), the program may have
    read or not. *grace*: seconds for requests in progress. *run_info* is JSON, or empty for the
    first run.
    """

    grace: float
    started_ns: int
    run_info: str = ""
    keep_sockets: bool = True
    lists_modules: bool = False


class Drain(Message):
    """Finish requests, for at most *grace* seconds; run the hooks; flush; answer Drained.

    *stop_accepting*: new connections wait for the next run. *changed* are the paths that led to
    the restart. A second Drain means: without any further delay.
    """

    grace: float
    stop_accepting: bool
    changed: tuple[str, ...] = ()


class ListModules(Message):
    """Send ModuleListed for each module, then ModulesListed."""


# From the supervisor to the fork server, and back


class Preload(Message):
    """Import the modules *names*, in this order, and never the modules *excluded*.

    *outside* and *inside* are the directories of `ProjectPaths`.
    """

    names: tuple[str, ...]
    excluded: tuple[str, ...]
    outside: tuple[str, ...]
    inside: tuple[str, ...]


class Fork(Message):
    """Fork a program. Its pipes come through the socket."""


class Importing(Message):
    """The fork server imports the module *name* next."""

    name: str


class LeftOut(Message):
    """The module *name* cannot be preloaded, because of *reason*; part of it may have run."""

    name: str
    reason: str


class CannotFork(Message):
    """This fork server must never fork, because of *reason*."""

    reason: str


class PreloadDone(Message):
    """All modules were imported: it can fork."""


class Forked(Message):
    """The program that was asked for is the process *pid*."""

    pid: int


# Bytes


def encode(message: Message) -> bytes:
    """Return *message* as it goes through a pipe."""
    fields = [type(message).__name__]
    for name, annotation in message.FIELDS.items():
        value = getattr(message, name)
        if annotation.startswith("tuple"):
            fields += [str(len(value)), *value]
        else:
            fields.append(str(value))
    return _with_length(b"".join(_with_length(field.encode(*CODING)) for field in fields))


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_SIZE, "big") + data


class Decoder:
    """Puts messages together again from what is read from a pipe."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that *data* completes. Raises ValueError if it holds no message."""
        self._rest += data
        messages = []
        while len(self._rest) >= LENGTH_SIZE:
            end = LENGTH_SIZE + int.from_bytes(self._rest[:LENGTH_SIZE], "big")
            if end > MAX_SIZE:
                raise ValueError("no message is that long")
            if len(self._rest) < end:
                break
            messages.append(_decode(self._rest[LENGTH_SIZE:end]))
            self._rest = self._rest[end:]
        return messages


def _decode(body: bytes) -> Message:
    fields = _fields(body)
    kind = KINDS.get(next(fields, ""))
    if kind is None:
        raise ValueError("no message has this name")
    values: list[Any] = []
    try:
        for annotation in kind.FIELDS.values():
            first = next(fields)
            if annotation.startswith("tuple"):
                values.append(tuple(next(fields) for _ in range(_count(first))))
            elif annotation == "bool":
                values.append(_bool(first))
            else:
                values.append({"str": str, "int": int, "float": float}[annotation](first))
    except (StopIteration, RuntimeError) as error:
        raise ValueError(f"{kind.__name__} lacks a field") from error
    if next(fields, None) is not None:
        raise ValueError(f"{kind.__name__} has a field too many")
    return kind(*values)


def _fields(body: bytes) -> Iterator[str]:
    while body:
        end = LENGTH_SIZE + int.from_bytes(body[:LENGTH_SIZE], "big")
        if len(body) < end:
            raise ValueError("a field is longer than its message")
        yield body[LENGTH_SIZE:end].decode(*CODING)
        body = body[end:]


def _count(field: str) -> int:
    count = int(field)
    if count < 0:
        raise ValueError(f"{field} is no number of fields")
    return count


def _bool(field: str) -> bool:
    if field not in ("True", "False"):
        raise ValueError(f"{field!r} is no bool")
    return field == "True"


class Pipes:
    """The program's ends of the pipes to the supervisor.

    A program that becomes a daemon closes them like all descriptors, and may open other files of
    these *numbers*. Its forks inherit them; *owner* is the process they were meant for.
    """

    def __init__(self, numbers: Iterable[int], owner: int = 0) -> None:
        self.numbers = list(numbers)
        self.owner = owner or os.getpid()
        self._output, self._input, *self.service = self.numbers
        self._identities = {pipe: spawn.identity(pipe) for pipe in self.numbers}
        self._decoder = Decoder()
        spawn.set_inheritable(self.numbers, False)

    @property
    def are_own(self) -> bool:
        """Whether this process is not a fork of the one that they were meant for."""
        return os.getpid() == self.owner

    def is_open(self, pipe: int) -> bool:
        """Whether *pipe* still is the pipe it was."""
        try:
            return spawn.identity(pipe) == self._identities[pipe]
        except OSError:  # it was closed
            return False

    def close_service(self) -> None:
        """Close the socket that passes sockets: they are not kept."""
        for number in self.service:
            os.close(number)
            self.numbers.remove(number)
        self.service = []

    def send(self, message: Message) -> None:
        """Send *message* to the supervisor, if there still is a way to.

        A message too long to be written at once is not sent: no path is that long.
        """
        data = encode(message)
        try:
            if len(data) <= ATOMIC_SIZE and self.is_open(self._output):
                os.write(self._output, data)
        except (
            OSError
        ):  # the supervisor was killed, and the parent-death monitor ends this process next
            return

    def wait(self) -> list[Message]:
        """Wait for messages and return them; end the process if nothing can come any more."""
        if data := os.read(self._input, READ_SIZE):
            return self._decoder.feed(data)
        os._exit(0)  # the supervisor does not need this process, or has ended

    def receive(self) -> list[Message]:
        """Return the messages that have come since the last time, without waiting."""
        if not self.is_open(self._input):
            return []
        os.set_blocking(self._input, False)
        try:
            return self._decoder.feed(os.read(self._input, READ_SIZE))
        except BlockingIOError:  # nothing
            return []
