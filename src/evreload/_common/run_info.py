"""What one run of the program tells the next, through the environment.

The owner's thread. As JSON, for the program to read, too: see docs/guide.md.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from typing import Any

from .filestat import content_hash

VARIABLE = "EVRELOAD_RUN"
MOST_PATHS = 200  # told to the next run
MOST_CHARACTERS = 50_000  # an environment variable holds 128 KiB on Linux
MOST_TRIES = 5  # restarts in a row for a file that is different at every start

logger = logging.getLogger("evreload")


class Handover:
    """Which run this is, what led to it, and which contents it was restarted for.

    A program that writes a source or configuration file whenever it starts changes it after it
    was read, or so it seems. Restarting for that must happen once for a given content, and must
    end if the content differs each time. Of somebody else's change it takes two to tell a habit:
    the file may have held something else in between, when the program read it.
    """

    def __init__(
        self,
        generation: int,
        changed: Iterable[str],
        since: int,
        tried: dict[str, list[str]],
        watched: Iterable[str] = (),
    ) -> None:
        self.generation = generation  # 0 for the first run, then 1, 2, ...
        self.changed = frozenset(changed)
        self.since = since  # when the run began: nanoseconds since the epoch
        self.watched = tuple(watched)  # by `watch`, in the run before
        self._tried = tried
        self._excused: dict[str, list[str]] = {}
        self._suspects: dict[str, list[str]] = {}

    @classmethod
    def received(cls, owner: int, since: int) -> Handover:
        """Return what was handed to the process *owner*; a first run's if nothing was.

        *since* is when the process began, for a first run. The environment is inherited by
        processes it is not meant for: hence the owner.
        """
        try:
            told = json.loads(os.environ[VARIABLE])
            if told["owner"] == owner:
                return cls._made_of(told)
        except (KeyError, ValueError, TypeError):
            pass  # absent, or not ours: nothing was handed over
        return cls(0, (), since, {})

    @classmethod
    def parse(cls, told: str) -> Handover:
        """Return what `pass_on` has told the next run, for whoever keeps account of it."""
        return cls._made_of(json.loads(told))

    @classmethod
    def _made_of(cls, told: dict[str, Any]) -> Handover:
        return cls(
            told["generation"], told["changed"], told["since"], told["tried"], told["watched"]
        )

    def excused(self, path: str, *, may_be_own: bool) -> bool:
        """Whether not to restart for *path*, which changed while the program started.

        That is so if it holds what this run was started for. If the change *may_be_own*, of the
        program or of one that it ran, then only so often.
        """
        tried = self._tried.get(path, [])
        content = content_hash(path)
        enough = 1 if may_be_own else 2
        if tried[-enough:] == [content] * enough:
            self._excused[path] = tried
            return True
        if may_be_own and len(tried) >= MOST_TRIES:
            logger.warning(
                "%s is different after each start, so the program seems to write it: "
                "not restarting for it until it changes again",
                path,
            )
            self._excused[path] = tried
            return True
        self._suspects[path] = tried if may_be_own or tried[-1:] == [content] else []
        return False

    def _tries(self, path: str) -> list[str]:
        return self._suspects.get(path) or self._excused.get(path, [])

    def pass_on(
        self,
        changes: Iterable[str],
        *,
        owner: int,
        since: int,
        watched: Iterable[str] = (),
        most: int = MOST_CHARACTERS,
    ) -> str:
        """Return what to tell the run that follows this one because of *changes*.

        *watched* is what the program has asked to watch. If all is more than *most* characters,
        some of it is left out.
        """
        changed = sorted(changes)[:MOST_PATHS]
        tried = {path: [*self._tries(path), content_hash(path)][-MOST_TRIES:] for path in changed}
        tried = {**tried, **{path: t for path, t in self._excused.items() if path not in tried}}
        watched = list(watched)[:MOST_PATHS]
        while True:
            told = {
                "generation": self.generation + 1,
                "changed": changed,
                "owner": owner,
                "since": since,
                "tried": tried,
                "watched": watched,
            }
            text = json.dumps(told)
            if len(text) <= most or not (tried or changed or watched):
                return text
            if len(watched) > len(changed):
                watched = watched[: len(watched) // 2]
            elif len(tried) > len(changed):
                tried = dict(list(tried.items())[: len(tried) // 2])
            else:
                changed = changed[: len(changed) // 2]
