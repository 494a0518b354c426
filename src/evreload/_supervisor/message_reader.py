"""Reads the messages of the present run, many at a time: a program imports by the hundred.

Runs in: the supervisor, on its loop's thread.
Owns: the readers of the loop for the pipes of the present run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from socket import socket

from .._common.own_writes import OwnWrites
from .._common.protocol import Message
from .program_process import ProgramProcess

DELAY = 0.02  # seconds; what changes until then is noticed all the same


class MessageReader:
    """Calls *handle* with the messages of *process*, and *serve* when it asks for a socket.

    They are read without delay while *is_urgent* returns True.
    """

    def __init__(
        self,
        process: ProgramProcess,
        handle: Callable[[list[Message]], object],
        serve: Callable[[socket], object],
        is_urgent: Callable[[], bool],
    ) -> None:
        self._process = process
        self._handle = handle
        self._serve = serve
        self._is_urgent = is_urgent
        self._loop = asyncio.get_running_loop()

    def attach(self, process: ProgramProcess) -> None:
        """Read the messages of *process* from now on, and no more those of the previous run."""
        self._loop.remove_reader(self._process.input)
        self._loop.remove_reader(self._process.service)
        self._process = process
        self._loop.add_reader(process.service, self._on_socket_request)
        self._listen()

    def read(self) -> None:
        """Read what has come until now."""
        self._read()
        self._listen()

    def own_writes(self) -> OwnWrites:
        """Return what the run has written itself, by all messages that have come until now."""
        if self._process.peek():
            self._loop.call_soon(self.read)  # nothing more may come that would trigger it
        return self._process.own_writes

    def read_all(self) -> None:
        """Read to the end: the run has ended."""
        while self._read():
            pass
        self._serve(self._process.service)

    def _listen(self) -> None:
        if self._process.is_running and not self._process.is_at_end:
            self._loop.add_reader(self._process.input, self._on_readable)

    def _on_readable(self) -> None:
        self._loop.remove_reader(self._process.input)
        self._loop.call_later(0 if self._is_urgent() else DELAY, self.read)

    def _on_socket_request(self) -> None:
        self._read()
        self._serve(self._process.service)

    def _read(self) -> bool:
        messages = self._process.read()
        self._handle(messages)
        return bool(messages)
