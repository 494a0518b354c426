"""Listening sockets outlive the program that bound them: the program's side.

`SocketInterceptor` replaces `bind`, `listen` and `shutdown` of Python's sockets. It sends each
listening socket to the supervisor, which keeps it; `bind` of the same address in the next run gets
it back. Connections made meanwhile wait in the kernel.

Runs in: the program, under the supervisor, on any thread.
Owns: the methods `bind`, `listen` and `shutdown` of `socket.socket`.
"""

from __future__ import annotations

import _socket
import _thread
import contextlib
import errno
import os
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .._common.socket_messages import (
    CLAIM,
    KEEP,
    RELEASE,
    Address,
    family_and_port,
    is_listening,
    is_tcp,
    kept_address,
    pack,
    receive,
    reuses_port,
)
from .._common.spawn import identity

# Until the next run accepts, more connections wait than the program has allowed for. Linux allows
# this many (net.core.somaxconn).
BACKLOG = 4096
REPLY_TIMEOUT = 5.0  # seconds; the supervisor answers within one
SELF_CONNECT_TIMEOUT = 0.1  # seconds; the kernel connects at once, unless the queue is full

# Options that a program may set on a socket before it binds it. They are copied to the kept one.
OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE)] + [
    (socket.IPPROTO_TCP, getattr(socket, name))
    for name in ("TCP_NODELAY", "TCP_DEFER_ACCEPT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    if hasattr(socket, name)
]


class SocketInterceptor:
    """Sends listening sockets to the supervisor, and gets those of the previous run from it."""

    def __init__(
        self,
        service: int,
        on_bind: Callable[[], object],
        on_listen: Callable[[], object],
        *,
        may_claim: bool,
    ) -> None:
        """Reach the supervisor through *service*.

        *on_bind* is called when `bind` gets a kept socket, which makes no audit event; *on_listen*
        when a TCP socket listens. *may_claim*: the supervisor may have kept sockets;
        it has none in the first run.
        """
        self._service = socket.socket(fileno=service)
        self._identity = identity(service)
        self._on_bind = on_bind
        self._on_listen = on_listen
        self._may_claim = may_claim
        self._addresses: weakref.WeakKeyDictionary[socket.socket, Address | None]
        self._addresses = weakref.WeakKeyDictionary()
        self._bind = socket.socket.bind
        self._listen = socket.socket.listen
        self._shutdown = socket.socket.shutdown

    def intercept(self) -> None:
        """Replace the methods of the class that every server in Python uses."""
        interceptor = self

        def bind(self: socket.socket, address: Any, /) -> None:
            interceptor.bind(self, address)

        def listen(self: socket.socket, *backlog: Any) -> None:
            interceptor.listen(self, *backlog)

        def shutdown(self: socket.socket, how: Any, /) -> None:
            interceptor.shutdown(self, how)

        socket.socket.bind = bind  # type: ignore[method-assign, assignment]
        socket.socket.listen = listen  # type: ignore[method-assign, assignment]
        socket.socket.shutdown = shutdown  # type: ignore[method-assign, assignment]

    def bind(self, sock: socket.socket, address: Any) -> None:
        """Bind *sock*, or turn it into the kept socket of that address."""
        kept = kept_address(sock, address)
        if kept is None:
            self._bind(sock, address)
        elif claimed := self._claim(sock, kept):
            _become(sock, claimed[0])
            self._on_bind()
        else:
            self._bind_anew(sock, address, kept)
        self._addresses[sock] = kept
        if is_tcp(sock):
            self._check_later(sock, kept)

    def listen(self, sock: socket.socket, *backlog: Any) -> None:
        """Make *sock* listen, and send it to the supervisor."""
        self._listen(sock, *backlog)
        if sock not in self._addresses:  # another process has bound it
            self._addresses[sock] = kept_address(sock, sock.getsockname())
        if address := self._addresses[sock]:
            self._keep(sock, address)
        if is_tcp(sock):
            self._on_listen()

    def shutdown(self, sock: socket.socket, how: Any) -> None:
        """Shut *sock* down; if it is kept, in this process only: its copy must go on listening."""
        is_kept = self._addresses.get(sock) and sock.fileno() != -1 and is_listening(sock)
        if not is_kept or how not in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._shutdown(sock, how)
            return
        del self._addresses[sock]
        address = sock.getsockname()
        # A new socket behaves like one that was shut down: it accepts nothing, and may be closed.
        _become(sock, _socket.socket(sock.family, sock.type).detach())
        if sock.gettimeout() != 0 and _thread._count():
            _wake_accepting_thread(sock.family, address)

    def has_bound(self) -> bool:
        """Whether a bound socket does not listen yet: a worker that inherits it may do that."""
        return any(not is_listening(sock) for sock, _ in self._open_sockets())

    def keep_listening(self) -> None:
        """Keep the sockets, too, that a worker or libuv has made listen, not `listen` above."""
        for sock, address in self._open_sockets():
            if is_listening(sock):
                self._keep(sock, address)

    def unkept(self) -> list[Any]:
        """Return the addresses of sockets bound to port 0: they are not kept."""
        return [
            sock.getsockname()
            for sock, address in self._addresses.items()
            if address is None and sock.fileno() != -1 and is_tcp(sock)
        ]

    def _open_sockets(self) -> list[tuple[socket.socket, Address]]:
        """Return the open sockets that are bound to an address that can be kept."""
        bound = self._addresses.items()
        return [(sock, address) for sock, address in bound if address and sock.fileno() != -1]

    def _other_addresses(self, sock: socket.socket) -> list[Address]:
        """Return what the program's sockets other than *sock* are bound to."""
        return [address for other, address in self._open_sockets() if other is not sock]

    def _claim(self, sock: socket.socket, address: Address) -> list[int]:
        """Return the kept socket of *address*, if there is one, and the program has none yet."""
        is_taken = not reuses_port(address) and address in self._other_addresses(sock)
        return self._ask(CLAIM, address) if self._may_claim and not is_taken else []

    def _bind_anew(self, sock: socket.socket, address: Any, kept: Address) -> None:
        try:
            self._bind(sock, address)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE and self._may_claim
            port = family_and_port(kept)
            others = map(family_and_port, self._other_addresses(sock))
            if not in_use or port in others:
                raise
            # A socket is kept for another name of this address; or the program has closed its
            # socket, of which there is a kept copy, and binds another.
            self._ask(RELEASE, kept)
            self._bind(sock, address)

    def _keep(self, sock: socket.socket, address: Address) -> None:
        self._may_claim = True
        self._listen(sock, BACKLOG)
        with contextlib.suppress(OSError):  # the supervisor was killed
            self._send(KEEP, address, sock)

    def _check_later(self, sock: socket.socket, address: Address | None) -> None:
        """Check in the next turn of the loop whether libuv has made *sock* listen, in C."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is None:
            return
        with contextlib.suppress(RuntimeError):  # no loop is running
            loop = asyncio.get_running_loop()
            # A copy: by then libuv may have closed *sock*, and use a descriptor of its own.
            loop.call_soon(self._keep_if_listening, sock.dup(), address)

    def _keep_if_listening(self, copy: socket.socket, address: Address | None) -> None:
        with copy:
            if is_listening(copy):
                if address:
                    self._keep(copy, address)
                self._on_listen()

    def _ask(self, kind: bytes, address: Address) -> list[int]:
        """Send a request; return the descriptors in the answer, of which there may be none."""
        own_end, supervisor_end = socket.socketpair()
        with own_end, supervisor_end:
            own_end.settimeout(REPLY_TIMEOUT)
            try:
                self._send(kind, address, supervisor_end)
                return receive(own_end)[1]
            except OSError:
                return []  # the supervisor was killed, or hangs: bind as without it

    def _send(self, kind: bytes, address: Address, sock: socket.socket) -> None:
        if identity(self._service.fileno()) != self._identity:
            raise OSError(errno.EBADF, "the program has closed the socket to the supervisor")
        socket.send_fds(self._service, [pack(kind, address)], [sock.fileno()])


def _become(sock: socket.socket, kept: int) -> None:
    """Make *sock* the socket *kept*, but leave it its options and its timeout."""
    options = [(level, name, sock.getsockopt(level, name)) for level, name in OPTIONS]
    timeout = sock.gettimeout()
    os.dup2(kept, sock.fileno(), inheritable=False)
    os.close(kept)
    for level, name, value in options:
        if sock.getsockopt(level, name) != value:
            with contextlib.suppress(OSError):
                sock.setsockopt(level, name, value)
    sock.settimeout(timeout)


def _wake_accepting_thread(family: int, address: Any) -> None:
    """Wake a thread that blocks in `accept`, as a real shutdown would, by a connection to it."""
    with contextlib.closing(_socket.socket(family, socket.SOCK_STREAM)) as client:
        client.settimeout(SELF_CONNECT_TIMEOUT)
        with contextlib.suppress(OSError):  # no client can connect at all
            client.connect(address)
