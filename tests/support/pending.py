"""A request that is sent first, and whose answer is read later."""

from __future__ import annotations

import contextlib
import http.client

from support.deadline import DEADLINE


@contextlib.contextmanager
def pending_request(port, path="/", host="127.0.0.1", **headers):
    """Send a request; yield the function that waits for the answer and returns it."""
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        yield lambda: connection.getresponse().read()
