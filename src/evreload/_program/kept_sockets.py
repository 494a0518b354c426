"""Listening sockets outlive the program that bound them: the program's side.

`SocketInterceptor` replaces some methods of Python's sockets. It sends each listening socket to the
supervisor, which keeps it; `bind` of the same address in the next run gets it back. Connections of
clients wait in the kernel meanwhile. Those of the program itself are refused, as without evreload.

Runs in: the program, under the supervisor, on any thread.
Owns: the methods `bind`, `listen`, `shutdown`, `connect` and `connect_ex` of `socket.socket`.
"""

from __future__ import annotations

import _socket
import _thread
import contextlib
import errno
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .._common.socket_messages import (
    ANY_HOST,
    CLAIM,
    KEEP,
    MAX_ANSWER,
    RELEASE,
    UNCLAIMED,
    Address,
    Place,
    family_and_port,
    is_listening,
    is_tcp,
    kept_address,
    pack,
    receive,
    reuses_port,
    send,
    unpack_places,
)
from .._common.startup import identity
from .._common.unpatched import os

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
    """Sends listening sockets to the supervisor, and gets those of the previous run from it.

    Its methods raise nothing but what those of `socket.socket` would raise.
    """

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
        self._service = _socket.socket(fileno=service)
        self._identity = identity(service)
        self._on_bind = on_bind
        self._on_listen = on_listen
        self._may_claim = may_claim
        self._addresses: weakref.WeakKeyDictionary[socket.socket, Address | None]
        self._addresses = weakref.WeakKeyDictionary()
        self._unclaimed: set[Place] | None = None if may_claim else set()  # None: not known yet
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
        if self._may_claim:
            self._intercept_connect()

    def _intercept_connect(self) -> None:
        interceptor = self
        real_connect = socket.socket.connect
        real_connect_ex = socket.socket.connect_ex

        def connect(self: socket.socket, address: Any, /) -> None:
            if interceptor.refuses(self, address):
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            real_connect(self, address)

        def connect_ex(self: socket.socket, address: Any, /) -> int:
            if interceptor.refuses(self, address):
                return errno.ECONNREFUSED
            return real_connect_ex(self, address)

        socket.socket.connect = connect  # type: ignore[method-assign, assignment]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign, assignment]

    def bind(self, sock: socket.socket, address: Any) -> None:
        """Bind *sock*, or turn it into the kept socket of that address."""
        try:
            kept = kept_address(sock, address)
        except Exception:  # it was closed, or *address* is any object: `bind` itself will raise
            kept = None
        if kept is None:
            self._bind(sock, address)
        elif not (self._may_claim and self._claim(sock, kept)):
            self._bind_anew(sock, address, kept)
        with contextlib.suppress(Exception):
            self._addresses[sock] = kept
            if is_tcp(sock):
                self._check_later(sock, kept)

    def listen(self, sock: socket.socket, *backlog: Any) -> None:
        """Make *sock* listen, and send it to the supervisor."""
        self._listen(sock, *backlog)
        with contextlib.suppress(Exception):
            if sock not in self._addresses:  # another process has bound it
                self._addresses[sock] = kept_address(sock, sock.getsockname())
            if address := self._addresses[sock]:
                self._keep(sock, address)
            if is_tcp(sock):
                self._on_listen()

    def shutdown(self, sock: socket.socket, how: Any) -> None:
        """Shut *sock* down; if it is kept, in this process only: its copy must go on listening."""
        is_for_reading = how in (socket.SHUT_RD, socket.SHUT_RDWR)
        if not (is_for_reading and self._addresses.get(sock) and _listens(sock)):
            self._shutdown(sock, how)
            return
        del self._addresses[sock]
        address = sock.getsockname()
        # A new socket behaves like one that was shut down: it accepts nothing, and may be closed.
        _become(sock, _socket.socket(sock.family, sock.type).detach())
        if sock.gettimeout() != 0 and _thread._count():
            _wake_accepting_thread(sock.family, address)

    def refuses(self, sock: socket.socket, address: Any) -> bool:
        """Whether a connection of *sock* to *address* would reach a socket that nothing serves.

        The previous run has bound it, and this one has not yet. Without evreload the connection
        would be refused: so a program may find out whether its port is free.
        """
        if self._unclaimed == set():
            return False
        with contextlib.suppress(Exception):
            if is_tcp(sock):
                if self._unclaimed is None:
                    self._unclaimed = self._ask_for_unclaimed()
                if _reaches(self._unclaimed, sock.family, address):
                    self._unclaimed = self._ask_for_unclaimed()
                    return _reaches(self._unclaimed, sock.family, address)
        return False

    def has_bound(self) -> bool:
        """Whether a bound socket does not listen yet: a worker that inherits it may do that."""
        return any(not _listens(sock) for sock, _ in self._open_sockets())

    def keep_listening(self) -> None:
        """Keep the sockets, too, that a worker or libuv has made listen, not `listen` above."""
        for sock, address in self._open_sockets():
            with contextlib.suppress(OSError):  # another thread has closed it
                if is_listening(sock):
                    self._keep(sock, address)

    def unkept(self) -> list[Any]:
        """Return the addresses of sockets bound to port 0: they are not kept."""
        found = []
        for sock, address in list(self._addresses.items()):
            with contextlib.suppress(OSError):  # it is closed
                if address is None and is_tcp(sock):
                    found.append(sock.getsockname())
        return found

    def _open_sockets(self) -> list[tuple[socket.socket, Address]]:
        """Return the open sockets that are bound to an address that can be kept."""
        bound = list(self._addresses.items())
        return [(sock, address) for sock, address in bound if address and sock.fileno() != -1]

    def _other_addresses(self, sock: socket.socket) -> list[Address]:
        """Return what the program's sockets other than *sock* are bound to."""
        return [address for other, address in self._open_sockets() if other is not sock]

    def _claim(self, sock: socket.socket, address: Address) -> bool:
        """Turn *sock* into the kept socket of *address*; return whether there is one to claim.

        There is none if the program has bound that address already.
        """
        try:
            if not reuses_port(address) and address in self._other_addresses(sock):
                return False
            claimed = self._ask(CLAIM, address)[1]
            if not claimed:
                return False
            _become(sock, claimed[0])
        except Exception:  # it was closed meanwhile
            return False
        with contextlib.suppress(Exception):
            self._on_bind()
        return True

    def _bind_anew(self, sock: socket.socket, address: Any, kept: Address) -> None:
        try:
            self._bind(sock, address)
            return
        except OSError as error:
            others = map(family_and_port, self._other_addresses(sock))
            if error.errno != errno.EADDRINUSE or family_and_port(kept) in others:
                raise
        # Perhaps only by the supervisor: another process has closed its socket, of which there is a
        # copy; or one is kept for another name of this address.
        if self._may_claim or not self._claim(sock, kept):
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

    def _ask_for_unclaimed(self) -> set[Place]:
        return unpack_places(self._ask(UNCLAIMED, ())[0])

    def _ask(self, kind: bytes, address: Address) -> tuple[bytes, list[int]]:
        """Send a request; return the answer, and the descriptors in it, of which there may be none.

        If the supervisor was killed, or hangs, both are empty.
        """
        own_end, supervisor_end = _socket.socketpair()
        try:
            own_end.settimeout(REPLY_TIMEOUT)
            self._send(kind, address, supervisor_end)
            return receive(own_end, MAX_ANSWER)
        except OSError:
            return b"", []
        finally:
            own_end.close()
            supervisor_end.close()

    def _send(self, kind: bytes, address: Address, sock: _socket.socket) -> None:
        if identity(self._service.fileno()) != self._identity:
            raise OSError(errno.EBADF, "the program has closed the socket to the supervisor")
        send(self._service, pack(kind, address), sock.fileno())


def _listens(sock: socket.socket) -> bool:
    """Whether *sock* listens; False, too, if it is closed."""
    try:
        return is_listening(sock)
    except OSError:
        return False


def _reaches(places: set[Place], family: int, address: Any) -> bool:
    """Whether a connection to *address* reaches one of *places*, where sockets of here listen."""
    host, port = address[:2]
    hosts = {(kind, kept) for kind, kept, kept_port in places if kept_port == str(port)}
    if not hosts:
        return False
    with contextlib.closing(_socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((host, 0, *address[2:]))  # this succeeds for the addresses of this machine
        except OSError:
            return False
        own = str(int(family)), probe.getsockname()[0]
    any_host = str(int(family)), ANY_HOST[family]
    return own == any_host or not hosts.isdisjoint({own, any_host})


def _become(sock: socket.socket, kept: int) -> None:
    """Make *sock* the socket *kept*, but leave it its options and its timeout."""
    try:
        options = [(level, name, sock.getsockopt(level, name)) for level, name in OPTIONS]
        timeout = sock.gettimeout()
        os.dup2(kept, sock.fileno(), inheritable=False)
    finally:
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
