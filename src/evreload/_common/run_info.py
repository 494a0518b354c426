"""What one run of the program passes to the next, in the environment variable EVRELOAD_RUN.

It is JSON, which the program may read, too: docs/guide.md lists the keys.

Runs in: the supervisor, on its loop's thread; the program, on the thread that calls evreload, or
that of its loop.
Owns: the count of the runs, and the contents of files that the program was restarted for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from .spawn import RUN_INFO_VARIABLE
from .unpatched import chunks, os

MAX_PATHS = 200  # passed to the next run
MAX_CHARACTERS = 50_000  # an environment variable holds 128 KiB on Linux
MAX_TRIES = 4  # restarts in a row, without a pause, for a file that changes at every start
# The first pause, in seconds, and by how much each further one is longer.
PAUSE = (5.0, 4)
EDIT_PAUSE = (1.0, 2)  # for a file that nothing but edits seems to change


class Tries(NamedTuple):
    """The runs in a row at whose start a file changed, and its latest contents, as hashes."""

    runs: int = 0
    contents: tuple[str, ...] = ()

    def and_then(self, content: str) -> Tries:
        """Return these tries with one more, for *content*."""
        return Tries(self.runs + 1, (*self.contents, content)[-2:])


class RunInfo:
    """The number of a run, the changes that led to it, and the contents it was restarted for.

    Some programs write a source, configuration or data file whenever they start. Such a file seems
    to change after the program has read it, and would lead to a restart after each start. If the
    content is the same after each start, one or two restarts are enough. If it differs each time,
    the pauses between the restarts become longer. No change is dropped: it may be an edit.
    """

    def __init__(
        self,
        generation: int,
        changed: Iterable[str],
        started_ns: int,
        tried: dict[str, Tries],
        watched: Iterable[str] = (),
    ) -> None:
        self.generation = generation  # 0 for the first run, then 1, 2, ...
        self.changed = frozenset(changed)
        self.started_ns = started_ns  # when the run began: nanoseconds since the epoch
        self.watched = tuple(watched)  # the paths given to `watch` in the previous run
        self._tried = tried
        self._repeated: dict[str, Tries] = {}  # of the files that have changed at this start, too

    @classmethod
    def from_environment(cls, owner: int, started_ns: int) -> RunInfo:
        """Return what was passed to the process *owner*, or the info of a first run.

        *started_ns* is when the process began, for a first run. Other processes inherit the
        variable, too: hence *owner*.
        """
        try:
            passed = json.loads(os.environ[RUN_INFO_VARIABLE])
            if passed["owner"] == owner:
                return cls._from_json(passed)
        except (KeyError, ValueError, TypeError):
            pass  # absent, or not written by evreload: nothing was passed
        return cls(0, (), started_ns, {})

    @classmethod
    def _from_json(cls, passed: dict[str, Any]) -> RunInfo:
        return cls(
            passed["generation"],
            passed["changed"],
            passed["since"],
            {
                path: Tries(runs, tuple(contents))
                for path, (runs, contents) in passed["tried"].items()
            },
            passed["watched"],
        )

    def delay(self, path: str, *, may_be_own: bool, is_soon: bool, is_code: bool) -> float | None:
        """Return how many seconds to wait before a restart for *path*; None if there is no need.

        *path* has changed some seconds after the start of the run at most. *is_soon*: it has
        changed as the program started. *may_be_own*: the program, or a process that it started,
        may have made the change. *is_code*: the program has read the file as code.

        There is no need if the run was started for this very content. If the change may not be the
        program's own, the same must hold for the previous run: in between the file may have had
        another content, which the program has read. Once the program has started, the user may have
        touched the file, so that a restart only waits.
        """
        tried = self._tried.get(path, Tries())
        content = _content_hash(path)
        is_same = tried.contents == (content, content)
        self._repeated[path] = tried if is_soon or is_same else tried._replace(runs=0)
        if is_soon and (is_same or (may_be_own and tried.contents[-1:] == (content,))):
            return None
        free = 1 if is_same else MAX_TRIES
        if not (is_soon or is_same) or tried.runs < free:
            return 0.0
        first, factor = EDIT_PAUSE if is_code and not may_be_own else PAUSE
        return first * float(factor) ** (tried.runs - free)

    def forget_tries(self, path: str) -> None:
        """Note that *path* has changed at another time than at the start."""
        self._repeated.pop(path, None)

    def next_run(
        self,
        changes: Iterable[str],
        *,
        owner: int,
        started_ns: int,
        watched: Iterable[str] = (),
        limit: int = MAX_CHARACTERS,
    ) -> tuple[RunInfo, str]:
        """Return the info of the next run, as an object and as JSON.

        *changes* led to it, and *watched* are the paths that the program asked to watch. Some paths
        are left out if the JSON would be longer than *limit* characters.
        """
        changed = sorted(changes)[:MAX_PATHS]
        tried = dict(self._repeated)
        for path in changed:
            tried[path] = tried.get(path, Tries()).and_then(_content_hash(path))
        # If some must be left out, then not those of the paths that led to this run.
        tried = {path: tried[path] for path in [*changed, *tried]}
        watched = list(watched)[:MAX_PATHS]
        while True:
            passed = {
                "generation": self.generation + 1,
                "changed": changed,
                "owner": owner,
                "since": started_ns,
                "tried": tried,
                "watched": watched,
            }
            text = json.dumps(passed)
            if len(text) <= limit or not (tried or changed or watched):
                return self._from_json(passed), text
            if len(watched) > len(changed):
                watched = watched[: len(watched) // 2]
            elif len(tried) > len(changed):
                tried = dict(list(tried.items())[: len(tried) // 2])
            else:
                changed = changed[: len(changed) // 2]


def _content_hash(path: str) -> str:
    """Return a short hash of the content of *path*; empty if it cannot be read."""
    try:
        content = hashlib.blake2s()
        for chunk in chunks(path):
            content.update(chunk)
        return content.hexdigest()[:16]
    except OSError:
        return ""
