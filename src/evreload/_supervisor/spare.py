"""The run that will be next: it is ready before it is needed.

The supervisor's loop. Its interpreter waits for its time, cold, or forked with everything
imported that does not change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection

from .._common import protocol as channel
from .._settings import Options
from .._watch.watcher import Want
from .preload_manager import Warm
from .program_process import Run, cold

LEARNING_DELAY = 1.0  # seconds; imports come in bursts


class Standby:
    """Stands behind the *present* run of the program.

    *want* takes files to watch; *changed* is called when there are other processes than before.
    """

    def __init__(
        self,
        options: Options,
        present: Run,
        want: Callable[[set[Want]], object],
        changed: Callable[[], object],
    ) -> None:
        self._options = options
        self._present = present
        self._changed = changed
        self._warm = Warm(options, want, self._renew)
        self._run: Run | None = None
        self._is_learning = False

    @property
    def pids(self) -> set[int]:
        """The processes that neither are the program nor descend from it."""
        return self._warm.pids | ({self._run.pid} if self._run else set())

    def make_ready(self) -> None:
        """Start the next run, up to its first line, if there is none yet."""
        if self._run is None:
            with contextlib.suppress(OSError):  # then the next start will say so
                self._run = self._start()
        self._changed()
        self._learn()

    def take(self, changes: Collection[str]) -> Run:
        """Return the next run: the one that is ready, unless it has read one of *changes*."""
        if self._warm.forget(changes):
            self._drop()
        if self._run and (self._run.has_ended() or self._is_past(self._run, changes)):
            self._drop()
        self._present, self._run = self._run or self._start(), None
        return self._present

    def note_exit(self, pid: int, status: int) -> None:
        """Take note that a process has ended; those that stand by should not have.

        *status* is as os.waitstatus_to_exitcode gives it.
        """
        if self._run and pid == self._run.pid:
            self._drop()
        self._warm.note_exit(pid, status)
        self._changed()

    def distrust(self) -> None:
        """Make the next start cold, since the last was warm and has failed."""
        self._drop()
        self._warm.distrust()

    def close(self) -> None:
        """Let everything go that waits."""
        self._drop()
        self._warm.close()

    # What the next run may find imported

    def learn_later(self) -> None:
        """Ask the present run, in a while, for what it has come to import."""
        if not self._is_learning:
            self._is_learning = True
            asyncio.get_running_loop().call_later(LEARNING_DELAY, self._learn)

    def _learn(self) -> None:
        self._is_learning = False
        if self._present.status is None and self._warm.is_behind(self._present):
            self._present.ask_for_modules()

    def learn(self) -> None:
        """Take in what the present run has told of its modules."""
        self._warm.learn(self._present)
        self._present.modules.clear()

    def _start(self) -> Run:
        return self._warm.fork() or cold(self._options)

    def _renew(self) -> None:
        self._drop()
        self.make_ready()

    @staticmethod
    def _is_past(run: Run, changes: Collection[str]) -> bool:
        """Whether *run* has read what is something else by now."""
        imported = {record[2] for record in run.peek() if record[0] == channel.FILE}
        has_read = not (imported.isdisjoint(changes) and run.loaded.keys().isdisjoint(changes))
        return has_read or run.is_outdated

    def _drop(self) -> None:
        if self._run:
            self._run.close()  # upon which it ends
            self._run = None
