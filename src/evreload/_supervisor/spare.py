"""The spare: the process of the next run, ready before it is needed.

It is a new interpreter (cold), or a fork of the fork server (warm), which has imported the modules
that do not change. It waits for its release.

Runs in: the supervisor, on its loop's thread.
Owns: the spare, and the preload manager.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from .._common import protocol
from .._settings import Settings
from .._watch.listener import WatchRequest
from .preload_manager import PreloadManager
from .program_process import ProgramProcess, start_cold

LEARN_DELAY = 1.0  # seconds; imports come in bursts


class Spare:
    """Keeps a spare for the *present* run of the program.

    *request* takes files to watch; *on_change* is called when `pids` may have changed.
    """

    def __init__(
        self,
        settings: Settings,
        present: ProgramProcess,
        request: Callable[[set[WatchRequest]], object],
        on_change: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._present = present
        self._on_change = on_change
        self._preload = PreloadManager(settings, request, self._renew)
        self._process: ProgramProcess | None = None
        self._will_learn = False

    @property
    def pids(self) -> set[int]:
        """The spare and the fork servers, which are not part of the program."""
        return self._preload.pids | ({self._process.pid} if self._process else set())

    def make_ready(self) -> None:
        """Start the next run, up to its first line, if there is no spare yet."""
        if self._process is None:
            with contextlib.suppress(OSError):  # the next restart tries again, and logs the error
                self._process = self._start()
        self._on_change()
        self._learn()

    def take(self, changes: Collection[str]) -> ProgramProcess:
        """Return the next run: the spare, unless it has read one of *changes*. Raises OSError."""
        if self._preload.forget(changes):
            self._drop()
        if self._process and (self._process.has_hung_up() or _is_past(self._process, changes)):
            self._drop()
        self._present, self._process = self._process or self._start(), None
        return self._present

    def on_exit(self, pid: int, status: int) -> None:
        """Note that a process has ended; the spare and the fork servers should not have.

        *status* is as os.waitstatus_to_exitcode returns it.
        """
        if self._process and pid == self._process.pid:
            self._drop()
        self._preload.on_exit(pid, status)
        self._on_change()

    def distrust(self) -> None:
        """Make the next start cold: the last one was warm and has failed."""
        self._drop()
        self._preload.distrust()

    def close(self) -> None:
        """End the spare and the fork servers."""
        self._drop()
        self._preload.close()

    # What the next run may find imported

    def learn_later(self) -> None:
        """Ask the present run after LEARN_DELAY for the modules that it has imported."""
        if not self._will_learn:
            self._will_learn = True
            asyncio.get_running_loop().call_later(LEARN_DELAY, self._learn)

    def _learn(self) -> None:
        self._will_learn = False
        if self._present.is_running and self._preload.is_behind(self._present):
            self._present.ask_for_modules()

    def learn(self) -> None:
        """Use the list of modules that the present run has sent."""
        self._preload.learn(self._present)
        self._present.modules.clear()

    def _start(self) -> ProgramProcess:
        return self._preload.fork() or start_cold(self._settings.target)

    def _renew(self) -> None:
        self._drop()
        self.make_ready()

    def _drop(self) -> None:
        if self._process:
            self._process.close()  # it reads the end of its pipe, and ends
            self._process = None


def _is_past(process: ProgramProcess, changes: Collection[str]) -> bool:
    """Whether *process* has read files or packages that have changed since."""
    read = {message.path for message in process.peek() if isinstance(message, protocol.FileRead)}
    has_read = not (read.isdisjoint(changes) and process.loaded.keys().isdisjoint(changes))
    return has_read or process.is_outdated
