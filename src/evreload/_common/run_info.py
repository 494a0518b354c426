"""What one run of the program passes to the next, in the environment variable EVRELOAD_RUN.

It is JSON, which the program may read, too: docs/guide.md lists the keys.

Runs in: the supervisor, on its loop's thread; the program, on the thread that calls evreload, or
that of its loop.
Owns: the count of the runs, and the contents of files that the program was restarted for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from typing import Any

from .spawn import RUN_INFO_VARIABLE

MAX_PATHS = 200  # passed to the next run
MAX_CHARACTERS = 50_000  # an environment variable holds 128 KiB on Linux
MAX_TRIES = 5  # restarts in a row for a file whose content differs after every start

logger = logging.getLogger("evreload")


class RunInfo:
    """The number of a run, the changes that led to it, and the contents it was restarted for.

    Some programs write a source or configuration file whenever they start. Such a file seems to
    change after the program has read it, and would lead to a restart after each start. So there is
    one restart for each content of such a file, and none after `MAX_TRIES` contents in a row. If
    the program has not made the change itself, there are two restarts for each content: in between
    the file may have had another content, which the program has read.
    """

    def __init__(
        self,
        generation: int,
        changed: Iterable[str],
        started_ns: int,
        tried: dict[str, list[str]],
        watched: Iterable[str] = (),
    ) -> None:
        self.generation = generation  # 0 for the first run, then 1, 2, ...
        self.changed = frozenset(changed)
        self.started_ns = started_ns  # when the run began: nanoseconds since the epoch
        self.watched = tuple(watched)  # the paths given to `watch` in the previous run
        self._tried = tried
        self._excused: dict[str, list[str]] = {}
        self._new_tries: dict[str, list[str]] = {}

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
            passed["tried"],
            passed["watched"],
        )

    def is_excused(self, path: str, *, may_be_own: bool) -> bool:
        """Whether not to restart for *path*, which changed while the program started.

        True if the program was restarted for its content before: once, if the change *may_be_own*,
        that is, made by the program or by a process that it started; else twice in a row.
        """
        tried = self._tried.get(path, [])
        content = _content_hash(path)
        enough = 1 if may_be_own else 2  # restarts in a row for the same content
        if tried[-enough:] == [content] * enough:
            self._excused[path] = tried
            return True
        if may_be_own and len(tried) >= MAX_TRIES:
            logger.warning(
                "%s is different after each start, so the program seems to write it: "
                "not restarting for it until it changes again",
                path,
            )
            self._excused[path] = tried
            return True
        self._new_tries[path] = tried if may_be_own or tried[-1:] == [content] else []
        return False

    def _tries(self, path: str) -> list[str]:
        return self._new_tries.get(path) or self._excused.get(path, [])

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
        tried = {path: [*self._tries(path), _content_hash(path)][-MAX_TRIES:] for path in changed}
        tried = {**tried, **{path: t for path, t in self._excused.items() if path not in tried}}
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
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2s").hexdigest()[:16]
    except OSError:
        return ""
