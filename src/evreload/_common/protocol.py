"""The messages between the supervisor and the processes it starts, and how pipes carry them.

Each message is one write. Linux does not mix writes of up to 4096 bytes (PIPE_BUF) with others, so
threads, audit hooks and forked workers may write to the same pipe at any time. Sockets are passed
in another way: see `socket_messages`.

Runs in: the supervisor, on its loop's thread; the program and the fork server, on any thread.
Owns: nothing. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

from . import spawn, startup
from .record import Record
from .unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

CODING = ("utf-8", "surrogatepass")  # any str survives, among them paths that are not UTF-8
READ_SIZE = 1 << 16  # bytes
ATOMIC_SIZE = 4096  # bytes; PIPE_BUF of Linux: a longer message might be mixed with another
MAX_SIZE = 1 << 24  # bytes; a greater length shows that the pipe carries something else
LENGTH_SIZE = 4  # bytes that hold the length of a message or field

KINDS: dict[str, type[Message]] = {}  # the classes of the messages, by name


class Message(Record):
    """A message; its fields may be str, int, float, bool and tuple[str, ...]."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        KINDS[cls.__name__] = cls


# From the program to the supervisor


class Started(Message):
    """The first line of the program runs next. From now on the program receives messages."""


class FileRead(Message):
    """The program runs code from *path*, or would, if that file existed.

    It read the file at *read_ns*, in nanoseconds since the epoch. *source_hash* is the hash of
    the source; empty if it is not known. *is_plain*: as far as is known, Python compiles the file
    as it is; see `Imports.is_plain`.
    """

    path: str
    read_ns: int
    source_hash: str = ""
    is_plain: bool = True


class BytecodeCached(Message):
    """The program caches bytecode below the directory *prefix*: its `sys.pycache_prefix`."""

    prefix: str


class WatchRequested(Message):
    """The program called evreload.watch(path); *read_ns* as in FileRead."""

    path: str
    read_ns: int


class FileWritten(Message):
    """The program opened *path* for writing, or moved a file there."""

    path: str


class ProcessSpawned(Message):
    """The program started another process, which may write any file."""


class OwnReloaderStarted(Message):
    """The program has started its own reloader; *remedy* says how to turn that off."""

    remedy: str


class ServerListening(Message):
    """The program listens on a TCP port, since *at* (seconds of time.monotonic)."""

    at: float


class DrainTimeNeeded(Message):
    """The process *pid* asks to be drained, for *seconds* beyond the grace period at most."""

    pid: int
    seconds: float


class Drained(Message):
    """The process *pid* may be stopped.

    *unfinished* are clients whose requests are still in progress. *answered_all*: no others are.
    If False, the process does not know that: others may be in progress, too.
    """

    pid: int
    answered_all: bool
    unfinished: tuple[str, ...] = ()


class HookExited(Message):
    """A reload hook raised SystemExit: the program ends, and does not restart."""


class RestartedInPlace(Message):
    """The program restarts in its own process.

    The new run begins at *started_ns*, in nanoseconds since the epoch.
    """

    started_ns: int


class Executed(Message):
    """The program executes *path* in its own place. If that is Python, Started may follow."""

    path: str


class RestartRequested(Message):
    """A worker asks for a restart of the whole program."""


class FailedIn(Message):
    """An exception ends the program; it passed through code of *path*."""

    path: str


class Exiting(Message):
    """The program has ended, and its interpreter exits next."""


class ModuleListed(Message):
    """The program has imported the module *name*.

    *by_python*: one of Python's own loaders has loaded it. *places*: its file, or, if it has none,
    its directories.
    """

    name: str
    by_python: bool
    places: tuple[str, ...] = ()


class ModulesListed(Message):
    """All modules have been listed."""


# From the supervisor to the program


class Release(Message):
    """The program may run its first line.

    *grace*: seconds for requests in progress. *started_ns* (nanoseconds since the epoch): the
    program may not know the content of a file that is saved after it. *run_info* is JSON, or empty
    for the first run. *full_exit*: Python deletes all objects at the end; see `quick_exit`.
    """

    grace: float
    started_ns: int
    run_info: str = ""
    keep_sockets: bool = True
    lists_modules: bool = False
    full_exit: bool = False


class Stop(Message):
    """The stop signal comes next, and after the end of the program another run begins.

    No SIGURG comes with it: the program reads it only when it ends.
    """


class Drain(Message):
    """Finish requests, for at most *grace* seconds; run the hooks; flush; answer Drained.

    *stop_accepting*: accept no more connections, which then wait for the next run. *changed* are
    the paths that led to the restart. The program answers a second Drain at once.
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
    """Fork the program. Its pipes come through the socket."""


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
    """The fork server has tried all imports. It can fork, if no module was left out."""


class Forked(Message):
    """The fork server has forked the program: it is the process *pid*."""

    pid: int


# Messages as bytes


def encode(message: Message) -> bytes:
    """Return the bytes of *message*."""
    fields = [type(message).__name__]
    for name, annotation in message.FIELDS.items():
        value = getattr(message, name)
        if annotation.startswith("tuple"):
            fields += [str(len(value)), *value]
        else:
            fields.append(str(value))
    parts = []
    for field in fields:  # in line, since a program sends hundreds of messages as it starts
        data = field.encode(*CODING)
        parts += [len(data).to_bytes(LENGTH_SIZE, "big"), data]
    body = b"".join(parts)
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


class Decoder:
    """Makes messages of the bytes read from a pipe."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that *data* completes. Raises ValueError if it is no message."""
        self._rest += data
        messages = []
        begin = 0
        while len(self._rest) - begin >= LENGTH_SIZE:
            body = begin + LENGTH_SIZE
            end = body + int.from_bytes(self._rest[begin:body], "big")
            if end - begin > MAX_SIZE:
                raise ValueError("no message is that long")
            if len(self._rest) < end:
                break
            messages.append(_decode(self._rest[body:end]))
            begin = end
        self._rest = self._rest[begin:]
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
    """The ends of the pipes to the supervisor, in the program or the fork server.

    A program that becomes a daemon closes all descriptors, and may then open other files, which get
    these *numbers*. Forks of the program inherit the pipes; *owner* is the process that received
    them from the supervisor.
    """

    def __init__(self, numbers: Iterable[int], owner: int = 0) -> None:
        self.numbers = list(numbers)
        self.owner = owner or os.getpid()
        self._output, self._input, *self.service = self.numbers
        self._identities = {pipe: startup.identity(pipe) for pipe in self.numbers}
        self._decoder = Decoder()
        spawn.set_inheritable(self.numbers, False)

    @property
    def are_own(self) -> bool:
        """Whether this process received the pipes itself; False in its forks and workers."""
        return os.getpid() == self.owner

    def is_open(self, pipe: int) -> bool:
        """Whether the number *pipe* still means the same pipe."""
        try:
            return startup.identity(pipe) == self._identities[pipe]
        except OSError:  # it was closed
            return False

    def close_service(self) -> None:
        """Close the socket that passes sockets: the supervisor keeps none."""
        for number in self.service:
            os.close(number)
            self.numbers.remove(number)
        self.service = []

    def send(self, message: Message) -> None:
        """Send *message* to the supervisor, if the pipe is still open.

        A message longer than `ATOMIC_SIZE` is not sent: no path is that long.
        """
        data = encode(message)
        try:
            if len(data) <= ATOMIC_SIZE and self.is_open(self._output):
                os.write(self._output, data)
        except OSError:  # the supervisor was killed, and its monitor ends this process next
            return

    def wait(self) -> list[Message]:
        """Wait for messages and return them; end the process if the pipe was closed."""
        data = os.read(self._input, READ_SIZE)
        if not data:  # the supervisor does not need this process any more, or has ended
            os._exit(0)
        return self._decoder.feed(data)

    def receive(self) -> list[Message]:
        """Return the messages that have come since the last call, without waiting."""
        if not self.is_open(self._input):
            return []
        os.set_blocking(self._input, False)
        try:
            return self._decoder.feed(os.read(self._input, READ_SIZE))
        except (BlockingIOError, ValueError):  # nothing, or a message that was cut off
            return []
