"""The client: asks a server on loopback again and again, and notes what it is answered."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

PAUSE = 0.002  # seconds between two requests


# Below those that the system takes for clients: one that is given the very port it asks is
# connected to itself, and holds the port against the server.
PORTS = itertools.cycle(random.sample(range(15_000, 30_000), 10_000))


def free_port() -> int:
    """Return a port that nobody uses, another one each time."""
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def ask(port: int, timeout: float) -> str:
    """Return what is answered to one request on a connection of its own."""
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
    """What a client saw of one restart; times in seconds."""

    elapsed: float = 0.0
    gap: float = 0.0  # between the last answer of the old program and the first of the new
    refused: int = 0
    reset: int = 0
    lost: bool = True
    noticed: float | None = None  # until the contender said that it noticed


def follow(
    ask: Callable[[float], str],
    value: object,
    since: float,
    limit: float,
    alive: Callable[[], bool],
) -> Followed:
    """Ask again and again until the answer is *value*, or for *limit* seconds, or it is dead."""
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
