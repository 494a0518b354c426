"""Whether what changed compiles, and how to say that it does not.

The loop's thread. Both stories ask before they let go of a program that works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ._files import compile_error
from ._watching.watcher import Changes

logger = logging.getLogger("evreload")


class Broken:
    """Remembers what was said of which file, so as not to say it again.

    *runs* tells whether the program runs a file: what merely lies in a watched directory, as
    samples for tests do, may be as broken as it likes.
    """

    def __init__(self, runs: Callable[[str], bool]) -> None:
        self._runs = runs
        self._told: Changes = {}

    async def sound(
        self,
        current: Callable[[], Changes],
        consequence: str,
        name: Callable[[str], str] = str,
    ) -> Changes | None:
        """Return the *current* changes once they all compile; None if some don't.

        Log why, with the *consequence*; *name* tells how to call a path there. More may change
        meanwhile, hence the function.
        """
        considered: Changes | None = None
        while considered is not current():
            considered = current()
            if await self._check(considered, consequence, name) and considered is current():
                return None
        return considered

    async def _check(self, changes: Changes, consequence: str, name: Callable[[str], str]) -> bool:
        errors = []
        for path, fingerprint in changes.items():
            if fingerprint and self._runs(path) and (error := compile_error(path)):
                errors.append((path, error))
            await asyncio.sleep(0)  # one file at a time: the old program goes on serving
        for path, error in errors:
            if self._told.get(path) != changes[path]:
                logger.error("%s; %s", describe(name(path), error), consequence)
        self._told = {path: changes[path] for path, _ in errors}
        return bool(errors)


def describe(path: str, error: SyntaxError | ValueError) -> str:
    """Say in one line what keeps *path* from compiling."""
    line = getattr(error, "lineno", None)
    place = f"{path}:{line}" if line else path
    return f"{place}: {type(error).__name__}: {getattr(error, 'msg', None) or error}"
