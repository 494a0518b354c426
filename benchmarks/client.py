"""The client: sends requests to a server on loopback, and records the answers."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

PAUSE = 0.002  # seconds between two requests


# Below the ports that the system assigns to clients. A client whose own port is the server's port
# connects to itself, and then the server cannot bind that port.
PORTS = itertools.cycle(random.sample(range(15_000, 30_000), 10_000))


def free_port() -> int:
    """Return a port that no process uses, a different one each time."""
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def ask(port: int, timeout: float) -> str:
    """Send one request on a new connection; return the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while data := connection.recv(4096):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError
    return body.decode(errors="replace")


@dataclass
class Followed:
    """What a client measured during one restart; times in seconds."""

    elapsed: float = 0.0
    gap: float = 0.0  # between the last answer of the old program and the first of the new
    refused: int = 0
    reset: int = 0
    lost: bool = True
    noticed: float | None = None  # until the contender printed that it noticed the save


def follow(
    ask: Callable[[float], str],
    value: object,
    since: float,
    limit: float,
    alive: Callable[[], bool],
) -> Followed:
    """Send requests until the answer is *value*, or *limit* is over, or the program has ended.

    *limit* is in seconds after *since*.
    """
    seen = Followed()
    last = since
    while (left := since + limit - time.perf_counter()) > 0 and alive():
        try:
            answer = ask(left)
        except ConnectionRefusedError:
            seen.refused += 1
        except OSError:
            seen.reset += 1
        else:
            now = time.perf_counter()
            if answer == str(value):
                return Followed(now - since, now - last, seen.refused, seen.reset, lost=False)
            last = now
        time.sleep(PAUSE)
    return seen
