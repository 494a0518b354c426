"""The sockets of `evreload.bind_sockets`: a process that begins again in place takes them along.

The loop's thread, or whichever binds. Under the command, `_command.sockets` does it for all.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any

INTERNET = (socket.AF_INET, socket.AF_INET6)
EVERY = {"", "0.0.0.0", "::"}


class Carried:
    """The sockets that `evreload.bind_sockets` made, taken along through an exec."""

    VARIABLE = "EVRELOAD_SOCKETS"  # whose they are, and for each call its descriptors; JSON

    def __init__(self) -> None:
        self._unclaimed = self._inherited()
        self._bound: dict[str, list[socket.socket]] = {}

    def bind(self, port: int, *arguments: Any) -> list[socket.socket]:
        """Do what `tornado.netutil.bind_sockets` does, or return what it did in the last run."""
        import json

        from tornado.netutil import bind_sockets

        call = json.dumps([port, *arguments], default=str)
        if call in self._unclaimed and port:
            sockets = [socket.socket(fileno=number) for number in self._unclaimed.pop(call)]
            for sock in sockets:
                sock.setblocking(False)
        else:
            sockets = bind_sockets(port, *arguments)
        self._bound[call] = sockets
        return sockets

    def hand_over(self) -> dict[str, str]:
        """Let the sockets pass through an exec; return the environment that names them."""
        import json  # not for the command's program, which pays for all that is imported here

        bound = {call: [sock.fileno() for sock in socks] for call, socks in self._bound.items()}
        # Of what a hook has closed, the next run is to bind all anew.
        still_open = {call: numbers for call, numbers in bound.items() if -1 not in numbers}
        carried = {**self._unclaimed, **still_open}
        self._set_inheritable(carried, True)
        return {self.VARIABLE: json.dumps([os.getpid(), carried])}

    def take_back(self) -> None:
        """Undo `hand_over`: the exec has failed."""
        self._set_inheritable(self._unclaimed, False)
        for sockets in self._bound.values():
            for sock in sockets:
                with contextlib.suppress(OSError):  # it is closed
                    sock.set_inheritable(False)

    def drop_unclaimed(self) -> None:
        """Close what the program did not ask for again: it would swallow connections."""
        for call in list(self._unclaimed):
            self._drop(call)

    def make_way(self, arguments: tuple[Any, ...]) -> None:
        """Close what was not asked for, where another call is about to bind: its port is in use.

        *arguments* are those of the audit event `socket.bind`.
        """
        import json

        sock, address = arguments
        if sock.type == socket.SOCK_STREAM and sock.family in INTERNET:
            for call, numbers in list(self._unclaimed.items()):
                is_port = json.loads(call)[0] == address[1]
                if is_port and any(_excludes(_host_of(number), address[0]) for number in numbers):
                    self._drop(call)

    def _drop(self, call: str) -> None:
        for number in self._unclaimed.pop(call, ()):
            with contextlib.suppress(OSError):  # closed behind our back
                os.close(number)

    def _inherited(self) -> dict[str, list[int]]:
        import json

        try:
            owner, carried = json.loads(os.environ.pop(self.VARIABLE))
        except (KeyError, ValueError, TypeError):
            return {}  # nothing was carried
        if owner != os.getpid():
            return {}
        self._set_inheritable(carried, False)
        return dict(carried)

    @staticmethod
    def _set_inheritable(carried: dict[str, list[int]], value: bool) -> None:
        for numbers in carried.values():
            for number in numbers:
                with contextlib.suppress(OSError):  # closed behind our back
                    os.set_inheritable(number, value)


def _host_of(number: int) -> str:
    """Return the address that the socket *number* is bound to; empty if it was closed."""
    try:
        kept = socket.socket(fileno=number)
    except OSError:
        return ""
    host: str = kept.getsockname()[0]
    kept.detach()
    return host


def _excludes(kept: str, wanted: str) -> bool:
    """Whether nobody can bind *wanted* while *kept* is bound; a name may mean any address."""
    return kept == wanted or {kept, wanted} & EVERY != set() or wanted.strip("0123456789.") != ""
