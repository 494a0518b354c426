"""Stops the program from accepting connections, shortly before the supervisor stops it.

A connection that it accepted now would be reset. Connections that it does not accept wait in the
kernel, and the next run accepts them.

Runs in: the program, under the supervisor, on its main thread or the thread of its loop.
Owns: nothing; it cannot be undone.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Collection, Iterator
from typing import Any

from .._common.socket_messages import INTERNET, listening_address
from .._common.unpatched import os, read_bytes, sleep

BLOCKED_ACCEPT_TIME = 0.05  # seconds in which the program certainly gets the stop signal
DESCRIPTORS = "/proc/self/fd"


def stop_accepting(except_at: Collection[Any]) -> None:
    """Accept no more connections, except at the addresses *except_at*, whose sockets are not kept.

    This stops Python's `accept`, and, on Linux, loops in C that use epoll, such as libuv. It does
    not stop gevent.
    """
    _mute_epolls(except_at)
    _replace_accept(except_at)


def _mute_epolls(except_at: Collection[Any]) -> None:
    """Make the loops that use epoll ignore new connections: Linux only."""
    if not hasattr(select, "epoll"):  # gevent and eventlet remove it
        return
    for descriptor in _epolls():
        with (
            contextlib.suppress(OSError),  # another thread has closed it, or no descriptor is free
            contextlib.closing(select.epoll.fromfd(os.dup(descriptor))) as epoll,
        ):
            for watched in _watched_by(descriptor):
                if listening_address(watched) not in (None, *except_at):
                    with contextlib.suppress(OSError):  # the number is that of another file now
                        _mute(epoll, watched)


def _mute(epoll: select.epoll, descriptor: int) -> None:
    """Make *epoll* report no event of *descriptor*, which its loop may unregister later."""
    try:
        epoll.modify(descriptor, 0)
    except OSError:  # it was registered with EPOLLEXCLUSIVE
        epoll.unregister(descriptor)


def _replace_accept(except_at: Collection[Any]) -> None:
    accept = socket.socket.accept

    def refuse(self: socket.socket) -> Any:
        if _is_kept(self, except_at):
            if self.gettimeout() == 0:
                raise BlockingIOError(errno.EAGAIN, "this program is about to be stopped")
            sleep(BLOCKED_ACCEPT_TIME)
        return accept(self)

    socket.socket.accept = refuse  # type: ignore[method-assign]


def _is_kept(sock: socket.socket, except_at: Collection[Any]) -> bool:
    try:
        return sock.family in INTERNET and sock.getsockname() not in except_at
    except OSError:  # it was closed: `accept` itself will raise
        return False


def _epolls() -> Iterator[int]:
    """Yield the epoll descriptors of this process."""
    with contextlib.suppress(OSError):  # no /proc
        for name in os.listdir(DESCRIPTORS):
            with contextlib.suppress(OSError):  # that of the listing itself
                if os.readlink(f"{DESCRIPTORS}/{name}") == "anon_inode:[eventpoll]":
                    yield int(name)


def _watched_by(epoll: int) -> list[int]:
    """Return the descriptors registered with *epoll*; see proc_pid_fdinfo(5)."""
    lines = read_bytes(f"/proc/self/fdinfo/{epoll}").splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith(b"tfd:")]
