"""Whom a program lets in just before it is stopped, it lets down; so it lets nobody in any more.

The program's own threads. Who comes waits in the kernel, for the next run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Collection, Iterator
from typing import Any

from .kept_sockets import INTERNET, listening_at

TO_BE_STOPPED = 0.05  # seconds in which a held program has surely got its signal
DESCRIPTORS = "/proc/self/fd"


def hold(spared: Collection[Any]) -> None:
    """Let nobody in any more, but at the addresses *spared*: no next run listens there.

    Whatever accepts is held: Python, or, on Linux, a loop's own C, as libuv; but not gevent.
    """
    _leave_epolls(spared)
    _refuse_to_accept(spared)


def _leave_epolls(spared: Collection[Any]) -> None:
    """Have no loop woken for those who come: Linux only."""
    if not hasattr(select, "epoll"):  # gevent and eventlet take it away
        return
    for descriptor in _epolls():
        with (
            contextlib.suppress(OSError),  # another thread has closed it, or there is no more room
            contextlib.closing(select.epoll.fromfd(os.dup(descriptor))) as epoll,
        ):
            for awaited in _awaited(descriptor):
                if listening_at(awaited) not in (None, *spared):
                    with contextlib.suppress(OSError):  # another file has its number now
                        _await_nothing(epoll, awaited)


def _await_nothing(epoll: select.epoll, awaited: int) -> None:
    """Have *epoll* hold its tongue about *awaited*, which its loop may yet unregister."""
    try:
        epoll.modify(awaited, 0)
    except OSError:  # with EPOLLEXCLUSIVE, that can't be
        epoll.unregister(awaited)


def _refuse_to_accept(spared: Collection[Any]) -> None:
    accept = socket.socket.accept

    def refuse(self: socket.socket) -> Any:
        if self.family in INTERNET and self.getsockname() not in spared:
            if self.gettimeout() == 0:
                raise BlockingIOError(errno.EAGAIN, "this program is about to be stopped")
            time.sleep(TO_BE_STOPPED)
        return accept(self)

    socket.socket.accept = refuse  # type: ignore[method-assign]


def _epolls() -> Iterator[int]:
    """Yield the descriptors of this process that wait for others."""
    with contextlib.suppress(OSError):  # no /proc
        for name in os.listdir(DESCRIPTORS):
            with contextlib.suppress(OSError):  # that of the list itself
                if os.readlink(f"{DESCRIPTORS}/{name}") == "anon_inode:[eventpoll]":
                    yield int(name)


def _awaited(epoll: int) -> list[int]:
    """Return the descriptors that *epoll* waits for; see proc_pid_fdinfo(5)."""
    with open(f"/proc/self/fdinfo/{epoll}") as file:
        return [int(line.split()[1]) for line in file if line.startswith("tfd:")]
