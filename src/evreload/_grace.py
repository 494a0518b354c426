"""Requests in progress are answered before the program is replaced.

The loop of the program. Knows Tornado's HTTP servers; imports nothing of it, since a program
that serves with Tornado has. Others have their own way to end on SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from typing import Any

NEXT_LOOK = 0.005  # seconds
EVENTS = "text/event-stream"  # an answer that never ends


class Grace:
    """Lets no more connections in, and waits for answers; they can be let in again."""

    def __init__(self) -> None:
        self._paused: list[Any] = []

    async def finish(self, seconds: float) -> list[str]:
        """Wait until nothing is being answered; return what was not in time.

        New connections wait meanwhile. Idle ones, event streams and websockets are not waited
        for.
        """
        end = time.monotonic() + seconds
        servers = list(_servers())
        for server in servers:
            self._pause(server)
        if any(server._connections for server in servers):
            await asyncio.sleep(NEXT_LOOK)  # what was let in last may not have asked yet
        while (  # noqa: ASYNC110  # nobody tells of an answer's end
            unfinished := _unfinished(servers)
        ) and time.monotonic() < end:
            await asyncio.sleep(NEXT_LOOK)
        return unfinished

    def resume(self) -> None:
        """Let connections in again: the program goes on after all."""
        while self._paused:
            server = self._paused.pop()
            server.add_sockets(list(server._sockets.values()))

    def _pause(self, server: Any) -> None:
        # Not TCPServer.stop, which closes the sockets: those who wait would be refused.
        for stop_accepting in server._handlers.values():
            stop_accepting()
        server._handlers.clear()
        self._paused.append(server)


def serves_with_tornado() -> bool:
    """Whether there may be anything to wait for."""
    return "tornado.httpserver" in sys.modules


def _servers() -> Iterator[Any]:
    module = sys.modules.get("tornado.httpserver")
    if module:
        kinds = [module.HTTPServer]
        for kind in kinds:
            kinds += type.__subclasses__(kind)
        # Each refers to its type: the collector finds them in a third of the time that it takes
        # to look at all there is.
        for thing in gc.get_referrers(*kinds):
            if type(thing) in kinds and thing._handlers:
                yield thing


def _unfinished(servers: list[Any]) -> list[str]:
    connections = [one for server in servers for one in server._connections]
    busy = {connection.stream: connection for connection in connections if _is_busy(connection)}
    if not busy:
        return []
    for stream in _endless():
        busy.pop(stream, None)
    return [str(connection.context) for connection in busy.values()]


def _is_busy(connection: Any) -> bool:
    stream = connection.stream
    if stream.closed():
        return False
    # Between two requests, and only then, it waits for the end of the next one's headers.
    return stream.writing() or not stream.reading() or stream._read_regex is None


def _endless() -> Iterator[Any]:
    """Yield the streams of answers that never end."""
    module = sys.modules.get("tornado.web")
    if module:
        for thing in gc.get_objects():
            if issubclass(type(thing), module.RequestHandler) and not thing._finished:
                kind = thing._headers.get("Content-Type", "")
                if kind.startswith(EVENTS) and thing.request.connection:
                    yield thing.request.connection.stream
