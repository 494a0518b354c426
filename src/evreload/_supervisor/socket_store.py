"""Keeps listening sockets open after the end of the program that bound them.

This is the supervisor's side; `_program.kept_sockets` is the program's.

Runs in: the supervisor, on its loop's thread.
Owns: the kept descriptors.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from .._common.socket_messages import (
    KEEP,
    RELEASE,
    Address,
    listening_address,
    port_of,
    receive,
    reuses_port,
    unpack,
)


class SocketStore:
    """The sockets kept for the next run of the program, until it claims them."""

    def __init__(self) -> None:
        self._kept: list[tuple[Address, int]] = []
        self._claimed: set[int] = set()

    def begin_run(self) -> None:
        """Let the next run claim every socket that still listens."""
        self._claimed.clear()
        self._close(lambda address, fd: not listening_address(fd))

    def close_unclaimed(self) -> None:
        """Close the sockets that the program has not claimed: nothing would accept from them."""
        self._close(lambda address, fd: fd not in self._claimed)

    def close(self) -> None:
        """Close all."""
        self._close(lambda address, fd: True)

    def serve(self, service: socket.socket) -> bool:
        """Handle the requests that have come on *service*; return whether there were any."""
        was_asked = False
        while True:
            try:
                datagram, descriptors = receive(service)
            except OSError:  # there are no more requests, or the program has ended
                return was_asked
            was_asked = True
            if len(descriptors) == 1:
                kind, address = unpack(datagram)
                with contextlib.suppress(OSError):  # the program has ended meanwhile
                    self._handle(kind, address, descriptors[0])

    def _handle(self, kind: bytes, address: Address, descriptor: int) -> None:
        if kind == KEEP:
            self._keep(address, descriptor)
            return
        with socket.socket(fileno=descriptor) as answer:
            if kind == RELEASE:
                self._close(lambda kept, fd: port_of(kept) == port_of(address))
                answer.send(b".")
            elif (found := self._claim(address)) is not None:
                socket.send_fds(answer, [b"."], [found])
            else:
                answer.send(b".")

    def _keep(self, address: Address, descriptor: int) -> None:
        for _, kept in self._kept:
            if os.path.sameopenfile(kept, descriptor):  # several workers listen on one socket
                os.close(descriptor)
                descriptor = kept
                break
        else:
            self._kept.append((address, descriptor))
        self._claimed.add(descriptor)

    def _claim(self, address: Address) -> int | None:
        is_shared = not reuses_port(address)
        for kept, descriptor in self._kept:
            if kept == address and (is_shared or descriptor not in self._claimed):
                self._claimed.add(descriptor)
                return descriptor
        return None

    def _close(self, is_unwanted: Callable[[Address, int], bool]) -> None:
        for address, descriptor in list(self._kept):
            if is_unwanted(address, descriptor):
                self._kept.remove((address, descriptor))
                self._claimed.discard(descriptor)
                os.close(descriptor)
