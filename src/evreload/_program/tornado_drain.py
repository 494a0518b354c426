"""Requests in progress are answered before the program is replaced.

The loop of the program. Knows Tornado's HTTP servers; imports nothing of it, since a program
that serves with Tornado has. Others have their own way to end on SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

NEXT_LOOK = 0.002  # seconds; nobody tells of an answer's end
TURNS = 2  # of the loop, after which it has read what had come in before
TO_ASK = 0.005  # seconds, for whoever was let in last
EVENTS = "text/event-stream"  # an answer that never ends


class Grace:
    """Lets no more connections in, and waits for answers; they can be let in again."""

    def __init__(self) -> None:
        self._paused: list[Any] = []

    @property
    def are_paused(self) -> bool:
        """Whether there were servers to pause."""
        return bool(self._paused)

    async def finish(self, seconds: float) -> list[str]:
        """Wait until nothing is being answered; return what was not in time.

        New connections wait meanwhile. Idle ones, event streams and websockets are not waited
        for. Nor is anything where the servers are not as we know them.
        """
        try:
            return await self._finish(seconds)
        except Exception:
            logging.getLogger("evreload").exception("requests in progress cannot be waited for")
            return []

    async def _finish(self, seconds: float) -> list[str]:
        end = time.monotonic() + seconds
        servers = list(_servers())
        for server in servers:
            self._pause(server)
        ask_by = time.monotonic() + TO_ASK
        for _ in range(TURNS):
            await asyncio.sleep(0)
        while True:
            now = time.monotonic()
            _part_with_idle(servers)
            unfinished = _unfinished(servers)
            if now >= end or not (unfinished or (now < ask_by and _has_newcomer(servers))):
                return unfinished
            await asyncio.sleep(NEXT_LOOK)

    def resume(self) -> None:
        """Let connections in again: the program goes on after all."""
        while self._paused:
            server = self._paused.pop()
            still_open = [one for one in server._sockets.values() if one.fileno() != -1]
            if not server._stopped:  # a hook may have done either
                server.add_sockets(still_open)

    def _pause(self, server: Any) -> None:
        # Not TCPServer.stop, which closes the sockets: those who wait would be refused. It may
        # follow, though, in a hook, and calls these once more, which does no harm.
        for stop_accepting in server._handlers.values():
            stop_accepting()
        self._paused.append(server)


def _servers() -> Iterator[Any]:
    """Yield the servers that accept connections on the running loop."""
    module = sys.modules.get("tornado.httpserver")
    loop = sys.modules["tornado.ioloop"].IOLoop.current(instance=False) if module else None
    found = set()
    for _, handler in list(getattr(loop, "handlers", {}).values()):
        # One cell of `tornado.netutil.add_accept_handler` holds what takes new connections.
        for callback in gc.get_referents(*(getattr(handler, "__closure__", None) or ())):
            server = getattr(callback, "__self__", None)
            if isinstance(server, module.HTTPServer):  # type: ignore[union-attr]
                found.add(server)
    yield from found


def _connections(servers: list[Any]) -> list[Any]:
    return [connection for server in servers for connection in server._connections]


def _has_newcomer(servers: list[Any]) -> bool:
    """Whether somebody who has just been let in is about to ask."""
    return any(one.stream._total_write_index == 0 for one in _connections(servers))


def _part_with_idle(servers: list[Any]) -> None:
    """Close what is kept alive between two requests, before the next one comes, and is lost."""
    for connection in _connections(servers):
        stream = connection.stream
        answered = stream._total_write_index > 0
        if answered and not stream._read_buffer_size and not _is_busy(connection):
            stream.close()


def _unfinished(servers: list[Any]) -> list[str]:
    busy = {one.stream: one for one in _connections(servers) if _is_busy(one)}
    if not busy:
        return []
    for stream in _endless():
        busy.pop(stream, None)
    return [str(connection.context) or "somebody" for connection in busy.values()]


def _is_busy(connection: Any) -> bool:
    stream = connection.stream
    if stream.closed():
        return False
    # Between two requests, and only then, it waits for the end of the next one's headers.
    return stream.writing() or not stream.reading() or stream._read_regex is None


def _endless() -> Iterator[Any]:
    """Yield the streams of answers that never end."""
    handler = getattr(sys.modules.get("tornado.web"), "RequestHandler", None)
    if handler:
        for thing in gc.get_objects():
            if issubclass(type(thing), handler) and not getattr(thing, "_finished", True):
                kind = thing._headers.get("Content-Type", "")
                if kind.startswith(EVENTS) and thing.request.connection:
                    yield thing.request.connection.stream
