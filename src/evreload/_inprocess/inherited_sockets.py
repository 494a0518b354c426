"""The sockets of `evreload.bind_sockets`, which stay open when the process restarts in place.

In supervised mode this module is not needed: the supervisor keeps all listening sockets, see
`kept_sockets`.

Runs in: the program, in in-process mode, on the thread of its loop or any that binds.
Owns: the descriptors inherited from the previous run, until the program asks for them.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from .._common.unpatched import os

INTERNET = (socket.AF_INET, socket.AF_INET6)
ANY_ADDRESS = {"", "0.0.0.0", "::"}


class InheritedSockets:
    """The sockets that `evreload.bind_sockets` made, in this run and in the previous one."""

    # In the environment, as JSON: the process they are for, and for each call its descriptors.
    VARIABLE = "EVRELOAD_SOCKETS"

    def __init__(self) -> None:
        self._unclaimed = self._inherited()
        self._bound: dict[str, list[socket.socket]] = {}

    def bind(self, port: int, *arguments: Any) -> list[socket.socket]:
        """Bind as `tornado.netutil.bind_sockets` does, or return what the previous run bound."""
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

    def make_inheritable(self) -> dict[str, str]:
        """Keep the sockets open in an exec; return the environment that names them."""
        import json  # not at the top: under the command, the program would pay for it

        bound = {call: [sock.fileno() for sock in socks] for call, socks in self._bound.items()}
        # If a hook has closed one socket of a call, the next run must bind all of that call anew.
        still_open = {call: numbers for call, numbers in bound.items() if -1 not in numbers}
        passed = {**self._unclaimed, **still_open}
        self._set_inheritable(passed, True)
        return {self.VARIABLE: json.dumps([os.getpid(), passed])}

    def take_back(self) -> None:
        """Undo `make_inheritable`: the exec has failed."""
        self._set_inheritable(self._unclaimed, False)
        for sockets in self._bound.values():
            for sock in sockets:
                with contextlib.suppress(OSError):  # the program has closed it
                    sock.set_inheritable(False)

    def close_unclaimed(self) -> None:
        """Close the sockets that the program did not ask for: nothing would accept from them."""
        for call in list(self._unclaimed):
            self._close(call)

    def on_bind(self, arguments: tuple[Any, ...]) -> None:
        """Close the unclaimed sockets that would make a bind fail: its port would be in use.

        *arguments* are those of the audit event `socket.bind`.
        """
        import json

        sock, address = arguments
        if sock.type == socket.SOCK_STREAM and sock.family in INTERNET:
            for call, numbers in list(self._unclaimed.items()):
                is_port = json.loads(call)[0] == address[1]
                if is_port and any(_excludes(_host_of(number), address[0]) for number in numbers):
                    self._close(call)

    def _close(self, call: str) -> None:
        for number in self._unclaimed.pop(call, ()):
            with contextlib.suppress(OSError):  # the program has closed it
                os.close(number)

    def _inherited(self) -> dict[str, list[int]]:
        import json

        try:
            owner, passed = json.loads(os.environ.pop(self.VARIABLE))
        except (KeyError, ValueError, TypeError):
            return {}  # nothing was passed
        if owner != os.getpid():
            return {}
        self._set_inheritable(passed, False)
        return dict(passed)

    @staticmethod
    def _set_inheritable(passed: dict[str, list[int]], value: bool) -> None:
        for numbers in passed.values():
            for number in numbers:
                with contextlib.suppress(OSError):  # the program has closed it
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
    """Whether *wanted* cannot be bound while *kept* is; a host name may mean any address."""
    is_name = wanted.strip("0123456789.") != ""
    return kept == wanted or {kept, wanted} & ANY_ADDRESS != set() or is_name
