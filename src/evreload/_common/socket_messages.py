"""How listening sockets pass between the program and the supervisor.

Each request is one datagram on a socket pair, with one descriptor: the listening socket to keep,
or a socket for the answer.

Runs in: the program, on any thread; the supervisor, on its loop's thread.
Owns: nothing. It is imported once the program has imported `socket`.
"""

from __future__ import annotations

import _socket
import contextlib
import socket
import stat
import sys
from collections.abc import Iterable
from typing import Any

from .unpatched import os

KEEP = b"keep"  # with the listening socket: keep it
CLAIM = b"claim"  # with a socket for the answer: return the kept socket of this address, if any
RELEASE = b"release"  # with a socket for the answer: close the sockets kept for this port
UNCLAIMED = b"unclaimed"  # with a socket for the answer: return which addresses may be claimed

MAX_DATAGRAM = 1024  # bytes; an address is shorter
MAX_ANSWER = 1 << 16  # bytes
ANY_HOST: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
INTERNET = tuple(ANY_HOST)

DESCRIPTOR_SIZE = 4  # bytes of an int in C
RIGHTS_SIZE = _socket.CMSG_SPACE(DESCRIPTOR_SIZE)
# Not the methods of socket.socket, which the program may replace.
_sendmsg = _socket.socket.sendmsg
_recvmsg = _socket.socket.recvmsg

# An address, to compare: family, host, port, scope, and the options IPV6_V6ONLY and SO_REUSEPORT.
Address = tuple[str, ...]
# Where a socket listens: family, host as a number, port.
Place = tuple[str, str, str]


def kept_address(sock: socket.socket, address: Any) -> Address | None:
    """Return *address*, of *sock*, to compare; None if a socket bound there is not kept.

    Only TCP sockets are kept, and not those bound to port 0, which get another port each time.
    """
    if not is_tcp(sock):
        return None
    try:
        host, port = os.fsdecode(address[0]), int(address[1])
        scope = str(address[3]) if len(address) > 3 else "0"
    except (TypeError, ValueError, IndexError, KeyError):
        return None  # bind itself will raise
    if port == 0:
        return None
    v6 = sock.family == socket.AF_INET6
    only_v6 = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) if v6 else 0
    reuse_port = sock.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", -1))
    host = host or ANY_HOST[sock.family]
    family = str(int(sock.family))
    return family, host, str(port), scope, str(only_v6), str(int(bool(reuse_port)))


def family_and_port(address: Address) -> Address:
    """Return the part of *address* that is the same for all hosts."""
    return address[0], port_of(address)


def port_of(address: Address) -> str:
    """Return the port of *address*, as text."""
    return address[2]


def reuses_port(address: Address) -> bool:
    """Whether SO_REUSEPORT is set: each of several workers then has a socket of its own."""
    return address[-1] == "1"


def is_dual_stack(address: Address) -> bool:
    """Whether a socket at *address*, of IPv6, accepts connections of IPv4, too."""
    return address[0] == str(int(socket.AF_INET6)) and address[4] == "0" and address[1] == "::"


def pack(kind: bytes, address: Address) -> bytes:
    """Return the datagram of a request of this process."""
    return b"\0".join([kind, b"%d" % os.getpid(), *map(os.fsencode, address)])


def unpack(datagram: bytes) -> tuple[bytes, Address, int]:
    """Return the kind of a request, its address, and the process that has sent it."""
    kind, pid, *fields = datagram.split(b"\0")
    return kind, tuple(map(os.fsdecode, fields)), int(pid)


def pack_places(places: Iterable[Place]) -> bytes:
    """Return the answer to UNCLAIMED."""
    return b"\0".join([b"", *(" ".join(place).encode() for place in places), b""])


def unpack_places(answer: bytes) -> set[Place]:
    """Return what the answer to UNCLAIMED says."""
    places = (entry.decode().split(" ") for entry in answer.split(b"\0") if entry)
    return {(family, host, port) for family, host, port in places}


def send(sock: _socket.socket, data: bytes, descriptor: int) -> None:
    """Send *data* with *descriptor*. Raises OSError."""
    rights = descriptor.to_bytes(DESCRIPTOR_SIZE, sys.byteorder)
    _sendmsg(sock, [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def receive(sock: _socket.socket, size: int = MAX_DATAGRAM) -> tuple[bytes, list[int]]:
    """Return the next datagram and its descriptors. Raises OSError if there is none."""
    data, messages, _, _ = _recvmsg(sock, size, RIGHTS_SIZE)
    found = [
        int.from_bytes(rights[:DESCRIPTOR_SIZE], sys.byteorder)
        for level, kind, rights in messages
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
    ]
    for descriptor in found:  # processes that are started here must not inherit it
        os.set_inheritable(descriptor, False)
    return data, found


def is_tcp(sock: socket.socket) -> bool:
    """Whether *sock* is a TCP socket, of IPv4 or IPv6."""
    return sock.type == socket.SOCK_STREAM and sock.family in INTERNET


def is_listening(sock: _socket.socket) -> bool:
    """Whether *sock* listens."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def listening_address(descriptor: int) -> Any:
    """Return the address at which the IP socket *descriptor* listens; None if it does not."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        # Not socket.socket, which gevent may have replaced.
        with contextlib.closing(_socket.socket(fileno=os.dup(descriptor))) as sock:
            return sock.getsockname() if sock.family in INTERNET and is_listening(sock) else None
    except OSError:
        return None
