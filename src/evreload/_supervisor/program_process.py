"""One run of the program: its process, its state, and what it has sent.

Runs in: the supervisor, on its loop's thread.
Owns: the supervisor's ends of the pipes to the process, and its state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping

from .._common import protocol, spawn
from .._common.own_writes import OwnWrites
from .._common.protocol import READ_SIZE, Decoder, Message, encode
from .._program.imports import CLOCK_TICK_NS
from .life_cycle import Event, State, next_state
from .process_tree import waits_for_signal

NO_FILES: Mapping[str, int] = {}
# Python reads the .pth files there when it starts, so a spare does not know later ones.
PACKAGE_DIRECTORIES = [
    path for path in sys.path if path.endswith(("site-packages", "dist-packages"))
]

logger = logging.getLogger("evreload")


class ProgramProcess:
    """A process of the program, from its start to its end.

    At first only the interpreter and the client start, and then wait for `release`. So the
    supervisor can start the next run while the present one runs.
    """

    def __init__(
        self,
        pid: int,
        pipes: tuple[int, int, int],
        loaded: Mapping[str, int] = NO_FILES,
        received: bytes = b"",
    ) -> None:
        """Take over the process *pid*, with *pipes* as `spawn.start_with_pipes` returns them.

        *loaded* are the files that it has read so far, and when (nanoseconds since the epoch).
        *received* was read from the pipe already.
        """
        self.pid = pid
        self.input, self._output, service = pipes
        self.service = socket.socket(fileno=service)
        self.state = State.SPARE
        self.exited_from: State | None = None  # its last state but EXITED
        # As os.waitstatus_to_exitcode returns it; set just before the state is EXITED.
        self.status: int | None = None
        self.loaded = loaded
        self.started_ns = time.time_ns()
        self.released_at = time.monotonic()
        self.triggered_at = 0.0  # when the change came that led to this run; by time.monotonic
        self.is_at_end = False  # no more messages can come, though it may still run
        # What its messages have said
        self.files: dict[str, None] = {}  # that it has read, in order
        self.modules: list[protocol.ModuleListed] = []
        self.own_writes = OwnWrites()
        self.listening_at: float | None = None  # when it first listened; by time.monotonic
        self.drain_times: dict[int, float] = {}  # seconds beyond the grace, by process ID
        self.announced_exit = False
        self.hook_exited = False
        self.has_restarted_in_place = False
        self.has_executed = False
        self.executed = ""  # what it has executed in its own place, and which has sent nothing yet
        self.was_up = False  # since it started, or last restarted in place
        self._packages = _package_times()
        self._has_warned = False
        self._decoder = Decoder()
        self._peeked = self._decode(received)
        # Linux may limit how much the pipes of a user hold.
        self.max_message = min(READ_SIZE, spawn.capacity(self._output)) // 2

    @classmethod
    def start(
        cls, start: Callable[[tuple[int, ...]], int], loaded: Mapping[str, int] = NO_FILES
    ) -> ProgramProcess:
        """Start a process by *start*; see `spawn.start_with_pipes`. Raises OSError."""
        return cls(*spawn.start_with_pipes(start), loaded)

    # Its state

    def advance(self, event: Event) -> bool:
        """Set the state to the one after *event*; return whether it differs.

        Nothing else sets the state.
        """
        before, self.state = self.state, next_state(self.state, event)
        if event is Event.UP and self.state is State.LIVING:
            self.was_up = True
        elif event is Event.RESTARTED_IN_PLACE:
            self.was_up = False
        if event is Event.EXIT and before is not State.EXITED:
            self.exited_from = before
        return self.state is not before

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.state is not State.EXITED

    @property
    def has_requested_all(self) -> bool:
        """Whether it ran long enough to have requested all the files that it needs."""
        if self.is_running or self.exited_from is State.STOPPING:
            return self.was_up
        return self.status == 0

    @property
    def ended_strangely(self) -> bool:
        """Whether it ended by a signal that was not sent to end it, or before its first line."""
        assert self.status is not None
        by_signal = self.status < 0 and self.status not in (-signal.SIGINT, -signal.SIGTERM)
        return by_signal or self.exited_from is State.SPARE

    def describe_end(self) -> str:
        """Return how the program ended."""
        assert self.status is not None
        if self.status >= 0:
            return f"program exited with status {self.status}"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:  # a real-time signal
            name = f"signal {-self.status}"
        return f"program was killed by {name}"

    # To the process

    def release(self, message: protocol.Release) -> None:
        """Let the program begin."""
        self.started_ns = message.started_ns
        self.released_at = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it was killed, and SIGCHLD follows
            self.send(message)
            self.signal(signal.SIGCONT)  # it may have been stopped

    def send(self, message: Message) -> None:
        """Send *message*. Raises OSError if the process has ended, or does not read."""
        data = encode(message)
        if os.write(self._output, data) < len(data):
            raise OSError("the pipe to the program is full")

    def set_capacity(self, size: int) -> None:
        """Make room for *size* bytes at once in the pipe to the process."""
        spawn.set_capacity(self._output, size)

    def signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.is_running:
            os.kill(self.pid, number)

    def drain(self, grace: float, changed: list[str], *, stop_accepting: bool) -> None:
        """Ask the program to drain itself, naming as many *changed* paths as the pipe takes.

        The caller sends SIGURG. Raises OSError if the program does not read messages.
        """
        message = protocol.Drain(grace, stop_accepting, tuple(changed))
        while len(encode(message)) > self.max_message and message.changed:
            half = message.changed[: len(message.changed) // 2]
            message = message.replace(changed=half)
        self.send(message)

    def ask_for_modules(self) -> None:
        """Ask the program for its modules, unless it waits for a signal: SIGURG would be one.

        Nor if it has executed another program: that would lose what was imported in advance.
        """
        if self.has_executed or waits_for_signal(self.pid):
            return
        self.modules.clear()
        with contextlib.suppress(OSError):  # it is about to end
            self.send(protocol.ListModules())
            self.signal(signal.SIGURG)

    def close(self) -> None:
        """Close the pipes. A process that waits for its release then ends."""
        os.close(self.input)
        os.close(self._output)
        self.service.close()

    # From the process

    def read(self) -> list[Message]:
        """Return the messages that have come since the last time."""
        peeked, self._peeked = self._peeked, []
        return peeked + self._receive()

    def peek(self) -> list[Message]:
        """Return the messages that have come so far, and keep them for `read`."""
        while messages := self._receive():
            self._peeked += messages
        return list(self._peeked)

    def has_hung_up(self) -> bool:
        """Whether it can send nothing more, though SIGCHLD may not have come yet."""
        self.peek()
        return self.is_at_end

    def _receive(self) -> list[Message]:
        if self.is_at_end:
            return []
        try:
            data = os.read(self.input, READ_SIZE)
        except BlockingIOError:
            return []
        self.is_at_end = not data
        return self._decode(data)

    def _decode(self, data: bytes) -> list[Message]:
        try:
            messages = self._decoder.feed(data)
        except ValueError as error:
            if not self._has_warned:
                logger.warning("the program has written into evreload's pipe: %s", error)
            self._has_warned = True
            self._decoder = Decoder()  # messages that come later begin anew
            return []
        for message in messages:
            self._note_write(message)
        return messages

    def _note_write(self, message: Message) -> None:
        """Note what the program wrote and read: `own_writes` has it before `note` does."""
        match message:
            case protocol.FileWritten(path):
                self.own_writes.note_written(path)
            case protocol.ProcessSpawned():
                self.own_writes.note_spawned()
            case protocol.FileRead(path, read_ns, source_hash):
                self.own_writes.note_read(path, source_hash, read_ns + CLOCK_TICK_NS)

    def note(self, message: Message) -> None:
        """Note what *message* says about the run."""
        match message:
            case protocol.FileRead(path):
                self.files.setdefault(path)
            case protocol.ModuleListed():
                self.modules.append(message)
            case protocol.ServerListening(at):
                if self.listening_at is None:
                    self.listening_at = at
            case protocol.Started():
                self.executed = ""
                self.advance(Event.STARTED)
            case protocol.Executed(path):
                self.executed = path
                self.has_executed = True
                self.drain_times.clear()
                self.loaded = NO_FILES
            case protocol.DrainTimeNeeded(pid, seconds):
                self.drain_times[pid] = seconds
            case protocol.Exiting():
                self.announced_exit = True
            case protocol.HookExited():
                self.hook_exited = True
            case protocol.RestartedInPlace(started_ns):
                self.started_ns = started_ns
                self.has_restarted_in_place = True
                self.announced_exit = False
                self.listening_at = None
                self.drain_times.clear()
                self.loaded = NO_FILES

    @property
    def is_outdated(self) -> bool:
        """Whether packages may have been installed or removed since it started."""
        return self._packages != _package_times()


def _package_times() -> list[int]:
    """Return numbers that differ once a package was installed or removed."""
    found = []
    for path in PACKAGE_DIRECTORIES:
        with contextlib.suppress(OSError):
            found.append(os.stat(path).st_mtime_ns)
    return found


def start_cold(target: list[str]) -> ProgramProcess:
    """Start *target* in a new interpreter, which waits for its release. Raises OSError."""
    return ProgramProcess.start(lambda pipes: spawn.spawn(target, pipes))
