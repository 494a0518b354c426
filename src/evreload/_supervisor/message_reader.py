"""Reads the messages of the present run, many at a time: a program imports hundreds of modules.

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

DELAY = 0.02  # seconds; a change of a file in this time is still noticed


class MessageReader:
    """Calls *handle* with the messages of *process*, and *serve* when it passes sockets.

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
        """Read the messages of *process* from now on, and no longer those of the previous run."""
        self._loop.remove_reader(self._process.input)
        self._loop.remove_reader(self._process.service)
        self._process = process
        self._loop.add_reader(process.service, self._on_socket_request)
        self._listen()

    def read(self) -> None:
        """Read the messages that have come so far."""
        self._read()
        self._listen()

    def own_writes(self) -> OwnWrites:
        """Return what the run has written itself, according to all messages so far."""
        if self._process.peek():
            self._loop.call_soon(self.read)  # the pipe is empty now: nothing else calls `read`
        return self._process.own_writes

    def read_all(self) -> None:
        """Read all messages that are left: the run has ended."""
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
