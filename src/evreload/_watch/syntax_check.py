"""Whether what changed compiles, and how to say that it does not.

The loop's thread. Both stories ask before they let go of a program that works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .._common.filestat import compile_error
from .._common.log import name_some
from .watcher import Changes

logger = logging.getLogger("evreload")


class Broken:
    """Remembers what was said of which file, so as not to say it again.

    *is_code* tells whether the program runs a file as Python source: what merely lies in a
    watched directory, as samples for tests do, may be as broken as it likes.
    """

    def __init__(self, is_code: Callable[[str], bool]) -> None:
        self._is_code = is_code
        self._told: Changes = {}
        self._considered: Changes = {}

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
            if fingerprint and self._is_code(path) and (error := compile_error(path)):
                errors.append((path, error))
            await asyncio.sleep(0)  # one file at a time: the old program goes on serving
        new = [(path, error) for path, error in errors if self._told.get(path) != changes[path]]
        for path, error in new:
            logger.error("%s; %s", describe(name(path), error), consequence)
        if errors and not new and changes != self._considered:
            names = name_some(name(path) for path, _ in errors)
            logger.error("%s still does not compile; %s", names, consequence)
        self._told = {path: changes[path] for path, _ in errors}
        self._considered = changes
        return bool(errors)


def describe(path: str, error: SyntaxError | ValueError) -> str:
    """Say in one line what keeps *path* from compiling."""
    line = getattr(error, "lineno", None)
    place = f"{path}:{line}" if line else path
    return f"{place}: {type(error).__name__}: {getattr(error, 'msg', None) or error}"
