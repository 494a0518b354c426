"""What a run of the program tells, taken in bit by bit.

The supervisor's loop. A program imports by the hundred, so it is read in one go what comes in a
moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from socket import socket

from .._common.own_writes import Author
from .._common.protocol import Record
from .program_process import Run

DELAY = 0.02  # seconds; what changes until then is noticed all the same


class Reports:
    """Has *heed* called with what *run* tells, and *serve* when it asks for a socket, in order.

    It is read without delay while *is_urgent* says so; and only once it is attended to.
    """

    def __init__(
        self,
        run: Run,
        heed: Callable[[list[Record]], object],
        serve: Callable[[socket], object],
        is_urgent: Callable[[], bool],
    ) -> None:
        self._run = run
        self._heed = heed
        self._serve = serve
        self._is_urgent = is_urgent
        self._loop = asyncio.get_running_loop()

    def attend(self, run: Run) -> None:
        """Read what *run* tells from now on, and no more what the run before does."""
        self._loop.remove_reader(self._run.reports)
        self._loop.remove_reader(self._run.service)
        self._run = run
        self._loop.add_reader(run.service, self._on_request)
        self._listen()

    def read(self) -> None:
        """Read what was told until now."""
        self._read()
        self._listen()

    def author(self) -> Author:
        """Return what is known of the run's writing, by all that was told until now."""
        if self._run.peek():
            self._loop.call_soon(self.read)  # though nothing more may come
        return self._run.author

    def read_all(self) -> None:
        """Read to the end: the run has ended."""
        while self._read():
            pass
        self._serve(self._run.service)

    def _listen(self) -> None:
        if self._run.status is None and not self._run.has_hung_up:
            self._loop.add_reader(self._run.reports, self._on_report)

    def _on_report(self) -> None:
        self._loop.remove_reader(self._run.reports)
        self._loop.call_later(0 if self._is_urgent() else DELAY, self.read)

    def _on_request(self) -> None:
        self._read()
        self._serve(self._run.service)

    def _read(self) -> bool:
        records = self._run.read()
        self._heed(records)
        return bool(records)
