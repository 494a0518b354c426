"""Finishes the requests in progress of Tornado's HTTP servers before the program is replaced.

It imports nothing of Tornado: if Tornado is not imported, there are no such servers. Other servers
finish their requests themselves on SIGTERM.

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

POLL_INTERVAL = 0.002  # seconds; no event reports that an answer is finished
LOOP_TURNS = 2  # turns of the loop, after which it has read the data that had arrived before
FIRST_REQUEST_TIME = 0.005  # seconds in which a connection just accepted sends its first request
EVENT_STREAM = "text/event-stream"  # the type of answers that never end


logger = logging.getLogger("evreload")


class TornadoDrain:
    """Pauses the servers and waits for the requests in progress; can resume the servers."""

    def __init__(self) -> None:
        self._paused: list[Any] = []

    @property
    def has_servers(self) -> bool:
        """Whether there were servers whose requests were waited for."""
        return bool(self._paused)

    async def finish(self, seconds: float) -> list[str]:
        """Wait until no request is in progress; return the clients not answered in time.

        New connections wait in the kernel meanwhile. This does not wait for idle connections, event
        streams and websockets; nor for anything, if Tornado's internals differ from those known
        here.
        """
        try:
            return await self._finish(seconds)
        except Exception:
            logger.exception("requests in progress cannot be waited for")
            self.resume()
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
        """Accept connections again: there was no restart."""
        while self._paused:
            server = self._paused.pop()
            try:
                for stop_accepting in server._handlers.values():  # some may accept still
                    stop_accepting()
                still_open = [one for one in server._sockets.values() if one.fileno() != -1]
                if not server._stopped:  # a hook may have stopped the server, or closed sockets
                    server.add_sockets(still_open)
            except Exception:
                logger.exception("a server does not accept connections any more")

    def _pause(self, server: Any) -> None:
        # TCPServer.stop would also close the sockets, and so reset the connections that wait. If a
        # hook calls it later, it calls these functions a second time, which does no harm. See
        # https://github.com/tornadoweb/tornado/blob/v6.5.0/tornado/tcpserver.py
        handlers = list(server._handlers.values())
        self._paused.append(server)
        for stop_accepting in handlers:
            stop_accepting()


def _servers() -> Iterator[Any]:
    """Yield the servers that accept connections on the running loop."""
    module = sys.modules.get("tornado.httpserver")
    loop = sys.modules["tornado.ioloop"].IOLoop.current(instance=False) if module else None
    found = set()
    for _, handler in list(getattr(loop, "handlers", {}).values()):
        # The handler is a closure of `tornado.netutil.add_accept_handler`, which refers to a method
        # of the server.
        for callback in gc.get_referents(*(getattr(handler, "__closure__", None) or ())):
            server = getattr(callback, "__self__", None)
            if isinstance(server, module.HTTPServer):  # type: ignore[union-attr]
                found.add(server)
    yield from found


def _connections(servers: list[Any]) -> list[Any]:
    return [connection for server in servers for connection in server._connections]


def _has_new_connection(servers: list[Any]) -> bool:
    """Whether a connection has had no answer yet: its first request may be about to arrive."""
    return any(one.stream._total_write_index == 0 for one in _connections(servers))


def _close_idle(servers: list[Any]) -> None:
    """Close the connections that wait for another request, before that comes and is lost."""
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
    # A stream reads up to a regex, the end of the headers, only while it waits for a request.
    return stream.writing() or not stream.reading() or stream._read_regex is None


def _event_streams() -> Iterator[Any]:
    """Yield the streams of the answers that are event streams."""
    handler = getattr(sys.modules.get("tornado.web"), "RequestHandler", None)
    if handler:
        for thing in gc.get_objects():
            if issubclass(type(thing), handler) and not getattr(thing, "_finished", True):
                kind = thing._headers.get("Content-Type", "")
                if kind.startswith(EVENT_STREAM) and thing.request.connection:
                    yield thing.request.connection.stream
