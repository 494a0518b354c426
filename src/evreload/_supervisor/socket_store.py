"""Keeps listening sockets open after the end of the program that bound them.

This is the supervisor's side; `_program.kept_sockets` is the program's.

Runs in: the supervisor, on its loop's thread.
Owns: the kept descriptors, and which of them the present run has claimed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Collection

from .._common.socket_messages import (
    ANY_HOST,
    CLAIM,
    KEEP,
    RELEASE,
    UNCLAIMED,
    Address,
    Place,
    is_dual_stack,
    listening_address,
    pack_places,
    port_of,
    receive,
    send,
    unpack,
)
from .process_tree import has_open


class SocketStore:
    """The sockets kept for the next run of the program, until it claims them.

    *members* returns the processes of the program. A socket that one of them has claimed, or has
    bound, is *taken* as long as one of them has it open: no other may claim it.
    """

    def __init__(self, members: Callable[[], Collection[int]]) -> None:
        self._members = members
        self._kept: list[tuple[Address, int]] = []
        self._claimed: dict[int, int] = {}  # descriptors, and the processes that claimed them
        self._answers: dict[int, socket.socket] = {}  # by which claimed descriptors were sent

    @property
    def has_claimed(self) -> bool:
        """Whether the present run listens on a socket that is kept."""
        return bool(self._claimed)

    def begin_run(self) -> None:
        """Let the next run claim every socket that still listens."""
        for descriptor in list(self._claimed):
            self._unclaim(descriptor)
        self._close(lambda address, fd: not listening_address(fd))

    def close_unclaimed(self) -> None:
        """Close the sockets that the program has not claimed: nothing would accept from them."""
        self._close(lambda address, fd: fd not in self._claimed)

    def close(self) -> None:
        """Close all."""
        self._close(lambda address, fd: True)

    def serve(self, service: socket.socket) -> bool:
        """Handle the requests that have come on *service*.

        Return whether the program has claimed a socket, or has sent one to keep.
        """
        has_claimed = False
        while True:
            try:
                datagram, descriptors = receive(service)
            except OSError:  # there are no more requests, or the program has ended
                return has_claimed
            if len(descriptors) == 1:
                with contextlib.suppress(OSError):  # the program has ended meanwhile
                    has_claimed |= self._handle(*unpack(datagram), descriptors[0])

    def _handle(self, kind: bytes, address: Address, pid: int, descriptor: int) -> bool:
        if kind == KEEP:
            self._keep(address, pid, descriptor)
            return True
        with socket.socket(fileno=descriptor) as answer:
            if kind == UNCLAIMED:
                answer.send(pack_places(self._unclaimed_places()))
            elif kind == CLAIM and (found := self._find(address, pid)) is not None:
                send(answer, b".", found)
                self._unclaim(found)
                self._claimed[found], self._answers[found] = pid, answer.dup()
                return True
            else:
                if kind == RELEASE:
                    self._release(address, pid)
                answer.send(b".")
        return False

    def _keep(self, address: Address, pid: int, descriptor: int) -> None:
        for _, kept in self._kept:
            if os.path.sameopenfile(kept, descriptor):  # several workers listen on one socket
                os.close(descriptor)
                descriptor = kept
                break
        else:
            self._kept.append((address, descriptor))
        self._unclaim(descriptor)
        self._claimed[descriptor] = pid

    def _find(self, address: Address, pid: int) -> int | None:
        """Return the kept socket of *address* that the process *pid* may claim."""
        for kept, descriptor in self._kept:
            if kept == address and not self._is_taken(descriptor, pid):
                return descriptor
        return None

    def _release(self, address: Address, pid: int) -> None:
        """Close the sockets that keep the process *pid* from binding *address*.

        If another process has bound that very address, nothing is in the way but that.
        """
        port = port_of(address)
        taken = {
            fd: kept for kept, fd in self._kept if port_of(kept) == port and self._is_taken(fd, pid)
        }
        if address not in taken.values():
            self._close(lambda kept, fd: port_of(kept) == port and fd not in taken)

    def _unclaimed_places(self) -> list[Place]:
        """Return where sockets listen that the program has not bound: nothing accepts there."""
        places = []
        for address, descriptor in self._kept:
            place = listening_address(descriptor)
            if place and not self._is_taken(descriptor, pid=0):
                host, port = place[0], str(place[1])
                places.append((address[0], host, port))
                if is_dual_stack(address):
                    places.append((str(int(socket.AF_INET)), ANY_HOST[socket.AF_INET], port))
        return places

    def _is_taken(self, descriptor: int, pid: int) -> bool:
        """Whether a process of the present run has the kept socket open.

        If that cannot be found out, it is taken while the process that has claimed it lives,
        unless *pid* is that process itself: it knows which sockets it has open.
        """
        if descriptor not in self._claimed:
            return False
        if self._is_on_its_way(descriptor):
            return True
        members = self._members()
        answers = {has_open(member, descriptor) for member in members}
        if True in answers or None not in answers:
            return True in answers
        owner = self._claimed[descriptor]
        return owner != pid and owner in members

    def _is_on_its_way(self, descriptor: int) -> bool:
        """Whether the process that claims it has not received it yet."""
        answer = self._answers.get(descriptor)
        if answer is None:
            return False
        try:
            answer.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        del self._answers[descriptor]  # that process has closed its end
        answer.close()
        return False

    def _unclaim(self, descriptor: int) -> None:
        self._claimed.pop(descriptor, None)
        if answer := self._answers.pop(descriptor, None):
            answer.close()

    def _close(self, is_unwanted: Callable[[Address, int], bool]) -> None:
        for address, descriptor in list(self._kept):
            if is_unwanted(address, descriptor):
                self._kept.remove((address, descriptor))
                self._unclaim(descriptor)
                os.close(descriptor)
