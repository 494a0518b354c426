"""Finishes the requests in progress of Tornado's HTTP servers before the program is replaced.

It imports nothing of Tornado, since a program that serves with Tornado has imported it. Other
servers finish their requests themselves on SIGTERM.

Runs in: the program, in both modes, on the thread of its loop.
Owns: whether Tornado's servers accept connections, from `finish` to `resume`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

POLL_INTERVAL = 0.002  # seconds; nothing signals the end of an answer
LOOP_TURNS = 2  # after which the loop has read what had arrived before
FIRST_REQUEST_TIME = 0.005  # seconds for the first request of a connection just accepted
EVENT_STREAM = "text/event-stream"  # an answer that never ends


class TornadoDrain:
    """Stops accepting connections, and waits for answers; can resume accepting."""

    def __init__(self) -> None:
        self._paused: list[Any] = []

    @property
    def has_servers(self) -> bool:
        """Whether there were servers whose requests were waited for."""
        return bool(self._paused)

    async def finish(self, seconds: float) -> list[str]:
        """Wait until no request is in progress; return the clients not answered in time.

        New connections wait in the kernel meanwhile. Idle connections, event streams and
        websockets are not waited for. If Tornado is unlike the versions known here, nothing is.
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
        first_request_end = time.monotonic() + FIRST_REQUEST_TIME
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)
        while True:
            now = time.monotonic()
            _close_idle(servers)
            unfinished = _unfinished(servers)
            awaits_first = now < first_request_end and _has_new_connection(servers)
            if now >= end or not (unfinished or awaits_first):
                return unfinished
            await asyncio.sleep(POLL_INTERVAL)

    def resume(self) -> None:
        """Accept connections again: the program is not replaced after all."""
        while self._paused:
            server = self._paused.pop()
            still_open = [one for one in server._sockets.values() if one.fileno() != -1]
            if not server._stopped:  # a hook may have done either
                server.add_sockets(still_open)

    def _pause(self, server: Any) -> None:
        # TCPServer.stop would also close the sockets, and refuse the connections that wait. A hook
        # may call it later: it calls these functions once more, which does no harm. See
        # https://github.com/tornadoweb/tornado/blob/v6.5.0/tornado/tcpserver.py
        for stop_accepting in server._handlers.values():
            stop_accepting()
        self._paused.append(server)


def _servers() -> Iterator[Any]:
    """Yield the servers that accept connections on the running loop."""
    module = sys.modules.get("tornado.httpserver")
    loop = sys.modules["tornado.ioloop"].IOLoop.current(instance=False) if module else None
    found = set()
    for _, handler in list(getattr(loop, "handlers", {}).values()):
        # The closure that `tornado.netutil.add_accept_handler` registers refers to the server.
        for callback in gc.get_referents(*(getattr(handler, "__closure__", None) or ())):
            server = getattr(callback, "__self__", None)
            if isinstance(server, module.HTTPServer):  # type: ignore[union-attr]
                found.add(server)
    yield from found


def _connections(servers: list[Any]) -> list[Any]:
    return [connection for server in servers for connection in server._connections]


def _has_new_connection(servers: list[Any]) -> bool:
    """Whether a connection was just accepted, and its first request is about to arrive."""
    return any(one.stream._total_write_index == 0 for one in _connections(servers))


def _close_idle(servers: list[Any]) -> None:
    """Close the connections between two requests: the next request would be lost."""
    for connection in _connections(servers):
        stream = connection.stream
        answered = stream._total_write_index > 0
        if answered and not stream._read_buffer_size and not _is_busy(connection):
            stream.close()


def _unfinished(servers: list[Any]) -> list[str]:
    busy = {one.stream: one for one in _connections(servers) if _is_busy(one)}
    if not busy:
        return []
    for stream in _event_streams():
        busy.pop(stream, None)
    return [str(connection.context) or "a client" for connection in busy.values()]


def _is_busy(connection: Any) -> bool:
    stream = connection.stream
    if stream.closed():
        return False
    # Only between two requests does it wait for the end of the headers of the next one.
    return stream.writing() or not stream.reading() or stream._read_regex is None


def _event_streams() -> Iterator[Any]:
    """Yield the streams of answers that never end."""
    handler = getattr(sys.modules.get("tornado.web"), "RequestHandler", None)
    if handler:
        for thing in gc.get_objects():
            if issubclass(type(thing), handler) and not getattr(thing, "_finished", True):
                kind = thing._headers.get("Content-Type", "")
                if kind.startswith(EVENT_STREAM) and thing.request.connection:
                    yield thing.request.connection.stream
