"""Listening sockets outlive the process that bound them.

Under the command, the program's `bind` and `listen` are intercepted, where Python makes them:
the supervisor keeps each listening descriptor, and the next program's `bind` to the same address
receives it. Connections made meanwhile wait in the kernel, and are answered by the new code.
So is `shutdown`, which would end the listening for whoever has the same socket.
`Keeper` is the program's end, on its own threads; `Shelf` is the supervisor's, on its loop.
Descriptors go over a socket pair that only our own child has inherited.
"""

from __future__ import annotations

import _socket
import _thread
import contextlib
import errno
import os
import socket
import stat
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .._common import process as _process

KEEP = b"keep"  # with the listening descriptor
CLAIM = b"claim"  # with the end of a socket pair for the answer
RELEASE = b"release"  # likewise: close what is kept for this port

INTERNET = (socket.AF_INET, socket.AF_INET6)
BACKLOG = 4096  # who waits for the next run may be more than wait for a turn; Linux allows as many
REPLY_TIMEOUT = 5.0  # seconds; the supervisor answers within one
WAKING = 0.1  # seconds in which the kernel connects us to ourselves, unless nobody else can either
MESSAGE = 1024  # bytes; an address is shorter

# What a program may set on a socket before it binds it, and must find set on the kept one.
OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE)] + [
    (socket.IPPROTO_TCP, getattr(socket, name))
    for name in ("TCP_NODELAY", "TCP_DEFER_ACCEPT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
    if hasattr(socket, name)
]

Key = tuple[str, ...]  # family, host, port, and the options that make it another address


class Keeper:
    """Puts itself before `bind`, `listen` and `shutdown` of stream sockets."""

    def __init__(self, service: int, bound: Callable[[], object], *, may_claim: bool) -> None:
        self._service = socket.socket(fileno=service)
        self._identity = _process.identity(service)
        self._bound = bound
        self._may_claim = may_claim  # nothing is kept for the first run
        self._keys: weakref.WeakKeyDictionary[socket.socket, Key | None]
        self._keys = weakref.WeakKeyDictionary()
        self._bind = socket.socket.bind
        self._listen = socket.socket.listen
        self._shutdown = socket.socket.shutdown

    def intercept(self) -> None:
        """Stand before the methods of the class that every server in Python uses."""
        keeper = self

        def bind(self: socket.socket, address: Any, /) -> None:
            keeper.bind(self, address)

        def listen(self: socket.socket, *backlog: Any) -> None:
            keeper.listen(self, *backlog)

        def shutdown(self: socket.socket, how: Any, /) -> None:
            keeper.shutdown(self, how)

        socket.socket.bind = bind  # type: ignore[method-assign, assignment]
        socket.socket.listen = listen  # type: ignore[method-assign, assignment]
        socket.socket.shutdown = shutdown  # type: ignore[method-assign, assignment]

    def bind(self, sock: socket.socket, address: Any) -> None:
        """Bind *sock*, or make it the kept socket of that address."""
        key = _key(sock, address)
        if key is None:
            self._bind(sock, address)
        elif kept := self._claim(sock, key):
            _become(sock, kept[0])
            self._bound()
        else:
            self._bind_anew(sock, address, key)
        self._keys[sock] = key
        if key:
            self._look_later(sock, key)

    def listen(self, sock: socket.socket, *backlog: Any) -> None:
        """Let *sock* listen, and have it kept."""
        self._listen(sock, *backlog)
        if sock not in self._keys:  # bound in another process, which has handed it to this one
            self._keys[sock] = _key(sock, sock.getsockname())
        if key := self._keys[sock]:
            self._keep(sock, key)

    def shutdown(self, sock: socket.socket, how: Any) -> None:
        """Shut *sock* down; if it is kept, for this process alone."""
        is_kept = self._keys.get(sock) and sock.fileno() != -1 and _is_listening(sock)
        if not is_kept or how not in (socket.SHUT_RD, socket.SHUT_RDWR):  # it goes on listening
            self._shutdown(sock, how)
            return
        del self._keys[sock]
        address = sock.getsockname()
        # As what was shut down, this accepts nobody, and may be closed.
        _become(sock, _socket.socket(sock.family, sock.type).detach())
        if sock.gettimeout() != 0 and _thread._count():
            _wake(sock.family, address)

    def has_bound(self) -> bool:
        """Whether there is a socket that does not listen yet: a worker may let it."""
        return any(not _is_listening(sock) for sock, _ in self._own())

    def keep_what_listens(self) -> None:
        """Have that kept, too, which a worker lets listen by itself, as libuv does."""
        for sock, key in self._own():
            if _is_listening(sock):
                self._keep(sock, key)

    def unkept(self) -> list[Any]:
        """Return the addresses that were free ports: the next run will have others."""
        return [
            sock.getsockname()
            for sock, key in self._keys.items()
            if key is None and sock.fileno() != -1 and _is_of_tcp(sock)
        ]

    def _own(self) -> list[tuple[socket.socket, Key]]:
        """Return the sockets bound to an address that can be kept, as far as they are open."""
        return [(sock, key) for sock, key in self._keys.items() if key and sock.fileno() != -1]

    def _others(self, sock: socket.socket) -> list[Key]:
        """Return what the program's own sockets but *sock* are bound to."""
        return [key for other, key in self._own() if other is not sock]

    def _claim(self, sock: socket.socket, key: Key) -> list[int]:
        """Return the kept socket of *key*, if there is one that the program has not taken yet."""
        is_taken = key[-1] == "0" and key in self._others(sock)
        return self._ask(CLAIM, key) if self._may_claim and not is_taken else []

    def _bind_anew(self, sock: socket.socket, address: Any, key: Key) -> None:
        try:
            self._bind(sock, address)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE and self._may_claim
            if not in_use or any(_port(key) == _port(other) for other in self._others(sock)):
                raise
            # Kept under another name of the same address, or closed and bound again.
            self._ask(RELEASE, key)
            self._bind(sock, address)

    def _keep(self, sock: socket.socket, key: Key) -> None:
        self._may_claim = True
        self._listen(sock, BACKLOG)
        with contextlib.suppress(OSError):  # the supervisor has died
            self._send(KEEP, key, sock)

    def _look_later(self, sock: socket.socket, key: Key) -> None:
        """Look, at the loop's next turn, whether libuv, on its own, has let *sock* listen."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is None:
            return
        with contextlib.suppress(RuntimeError):  # no loop is running
            loop = asyncio.get_running_loop()
            # libuv has its own by then, and may have let go of Python's.
            loop.call_soon(self._keep_if_listening, sock.dup(), key)

    def _keep_if_listening(self, copy: socket.socket, key: Key) -> None:
        with copy:
            if _is_listening(copy):
                self._keep(copy, key)

    def _ask(self, kind: bytes, key: Key) -> list[int]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(REPLY_TIMEOUT)
            try:
                self._send(kind, key, theirs)
                return _receive(ours)[1]
            except OSError:
                return []  # the supervisor has died, or hangs: do without

    def _send(self, kind: bytes, key: Key, sock: socket.socket) -> None:
        if _process.identity(self._service.fileno()) != self._identity:
            raise OSError(errno.EBADF, "the program has closed the way to the supervisor")
        socket.send_fds(self._service, [_pack(kind, key)], [sock.fileno()])


class Shelf:
    """What the supervisor keeps, until the next run of the program claims it."""

    def __init__(self) -> None:
        self._kept: list[tuple[Key, int]] = []
        self._claimed: set[int] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def begin_run(self) -> None:
        """Let everything that still listens be claimed anew."""
        self._claimed.clear()
        self._drop(lambda key, fd: not listening_at(fd))

    def drop_unclaimed(self) -> None:
        """Close what the program has not asked for: it would swallow connections."""
        self._drop(lambda key, fd: fd not in self._claimed)

    def close(self) -> None:
        self._drop(lambda key, fd: True)

    def serve(self, service: socket.socket) -> bool:
        """Do what the program asks for, without waiting; return whether it did ask."""
        has_asked = False
        while True:
            try:
                message, descriptors = _receive(service)
            except OSError:  # nothing, or nobody, is left
                return has_asked
            has_asked = True
            if len(descriptors) == 1:
                kind, *key = message.split(b"\0")
                with contextlib.suppress(OSError):  # who asks has ended meanwhile
                    self._do(kind, tuple(map(os.fsdecode, key)), descriptors[0])

    def _do(self, kind: bytes, key: Key, descriptor: int) -> None:
        if kind == KEEP:
            self._keep(key, descriptor)
            return
        with socket.socket(fileno=descriptor) as asker:
            if kind == RELEASE:
                self._drop(lambda kept, fd: kept[2] == key[2])
                asker.send(b".")
            elif (found := self._claim(key)) is not None:
                socket.send_fds(asker, [b"."], [found])
            else:
                asker.send(b".")

    def _keep(self, key: Key, descriptor: int) -> None:
        for _, kept in self._kept:
            if os.path.sameopenfile(kept, descriptor):  # several workers listen on one
                os.close(descriptor)
                descriptor = kept
                break
        else:
            self._kept.append((key, descriptor))
        self._claimed.add(descriptor)

    def _claim(self, key: Key) -> int | None:
        alone = key[-1] == "0"  # with SO_REUSEPORT each of several workers has its own
        for kept, descriptor in self._kept:
            if kept == key and (alone or descriptor not in self._claimed):
                self._claimed.add(descriptor)
                return descriptor
        return None

    def _drop(self, unwanted: Callable[[Key, int], bool]) -> None:
        for key, descriptor in list(self._kept):
            if unwanted(key, descriptor):
                self._kept.remove((key, descriptor))
                self._claimed.discard(descriptor)
                os.close(descriptor)


def _key(sock: socket.socket, address: Any) -> Key | None:
    """Return what *address* is known by; None if it is not for keeping, as a free port isn't."""
    if not _is_of_tcp(sock):
        return None
    try:
        host, port = os.fsdecode(address[0]), int(address[1])
        scope = str(address[3]) if len(address) > 3 else "0"
    except (TypeError, ValueError, IndexError, KeyError):
        return None  # bind itself will say what is wrong
    if port == 0:
        return None
    v6 = sock.family == socket.AF_INET6
    only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) if v6 else 0
    shared = sock.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", -1))
    host = host or ("::" if v6 else "0.0.0.0")
    return str(int(sock.family)), host, str(port), scope, str(only), str(int(bool(shared)))


def _port(key: Key) -> Key:
    family, _, port, *_ = key
    return family, port


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    message, descriptors, _, _ = socket.recv_fds(sock, MESSAGE, 1)
    for descriptor in descriptors:  # or the next process we start would hold it, too
        os.set_inheritable(descriptor, False)
    return message, descriptors


def _become(sock: socket.socket, kept: int) -> None:
    """Make *sock* the *kept* one, with its own options and blocking mode."""
    options = [(level, name, sock.getsockopt(level, name)) for level, name in OPTIONS]
    timeout = sock.gettimeout()
    os.dup2(kept, sock.fileno(), inheritable=False)
    os.close(kept)
    for level, name, value in options:
        if sock.getsockopt(level, name) != value:
            with contextlib.suppress(OSError):
                sock.setsockopt(level, name, value)
    sock.settimeout(timeout)


def _wake(family: int, address: Any) -> None:
    """Wake a thread that waits for somebody to accept: it was, or would be, told by a shutdown."""
    with contextlib.closing(_socket.socket(family, socket.SOCK_STREAM)) as client:
        client.settimeout(WAKING)
        with contextlib.suppress(OSError):  # nobody can come at all
            client.connect(address)


def _is_of_tcp(sock: socket.socket) -> bool:
    return sock.type == socket.SOCK_STREAM and sock.family in INTERNET


def listening_at(descriptor: int) -> Any:
    """Return the address at which *descriptor* listens; None if it does not, or isn't of IP."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        # Not the class that gevent may have replaced.
        with contextlib.closing(_socket.socket(fileno=os.dup(descriptor))) as sock:
            return sock.getsockname() if sock.family in INTERNET and _is_listening(sock) else None
    except OSError:
        return None


def _is_listening(sock: _socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _pack(kind: bytes, key: Key) -> bytes:
    return b"\0".join([kind, *map(os.fsencode, key)])
