"""Whether the changed source files compile, before a program that works is stopped for them.

Some sources only the program can compile: it has registered a codec for them, or an import hook
that transforms them. These are not judged.

Runs in: the supervisor and the program, on the thread of their loop.
Owns: which errors it has logged.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import tokenize
import warnings
from collections.abc import Callable

from .._common.log import name_some
from .._common.unpatched import read_bytes
from .listener import Changes

logger = logging.getLogger("evreload")


class SyntaxCheck:
    """Compiles changed files, and logs each error once.

    *is_code* returns whether the program runs a file as Python source: a file that merely lies in
    a watched directory, such as a sample for tests, need not compile. *transformed* returns the
    content of a file that the program runs, if it may have transformed that; else None. *shorten*
    returns a path as messages show it.
    """

    def __init__(
        self,
        is_code: Callable[[str], bool],
        transformed: Callable[[str], bytes | None],
        shorten: Callable[[str], str] = str,
    ) -> None:
        self._is_code = is_code
        self._transformed = transformed
        self._shorten = shorten
        self._broken: Changes = {}  # what did not compile the last time
        self._checked: Changes = {}  # the last time

    async def wait_until_checked(
        self, latest: Callable[[], Changes], stance: str
    ) -> Changes | None:
        """Return the *latest* changes if they all compile; None if some do not.

        *latest* is a function, since more may change meanwhile. An error is logged with *stance*,
        which says what the program does now.
        """
        checked: Changes | None = None
        while checked is not latest():
            checked = latest()
            if await self._find_errors(checked, stance) and checked is latest():
                return None
        return checked

    async def _find_errors(self, changes: Changes, stance: str) -> bool:
        errors = []
        for path, fingerprint in changes.items():
            if fingerprint and self._is_code(path) and (error := self._error(path)):
                errors.append((path, error))
            await asyncio.sleep(0)  # one file at a time: the program goes on serving
        new = [(path, error) for path, error in errors if self._broken.get(path) != changes[path]]
        for path, error in new:
            logger.error("%s; %s", describe(self._shorten(path), error), stance)
        if errors and not new and changes != self._checked:
            names = name_some(self._shorten(path) for path, _ in errors)
            logger.error("%s still does not compile; %s", names, stance)
        self._broken = {path: changes[path] for path, _ in errors}
        self._checked = changes
        return bool(errors)

    def _error(self, path: str) -> SyntaxError | ValueError | None:
        error = compile_error(path)
        if error:
            before = self._transformed(path)
            if before is not None and source_error(before, path):
                return None  # the program runs that: it does not compile the file as it is
        return error


def compile_error(path: str) -> SyntaxError | ValueError | None:
    """Return why the source file *path* does not compile; None if it does, or may do so elsewhere.

    A file that cannot be read any more has no error.
    """
    try:
        source = read_bytes(path)
    except OSError:
        return None
    return source_error(source, path)


def source_error(source: bytes, path: str) -> SyntaxError | ValueError | None:
    """Return why *source*, the content of *path*, does not compile; None as `compile_error`."""
    try:
        with warnings.catch_warnings(action="ignore"):  # the program's own import will warn
            compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL in the source, before 3.12
        return None if _has_unknown_encoding(source) else error
    except (RecursionError, MemoryError):  # too deeply nested for this process: let it run
        return None
    return None


def _has_unknown_encoding(source: bytes) -> bool:
    """Whether *source* declares an encoding that this process does not know; the program may."""
    for line in source.splitlines()[:2]:
        if found := tokenize.cookie_re.match(line.decode("latin-1")):
            try:
                codecs.lookup(found[1])
            except LookupError:
                return True
        if not tokenize.blank_re.match(line):
            return False
    return False


def describe(path: str, error: SyntaxError | ValueError) -> str:
    """Return one line that says what keeps *path* from compiling."""
    line = getattr(error, "lineno", None)
    place = f"{path}:{line}" if line else path
    return f"{place}: {type(error).__name__}: {getattr(error, 'msg', None) or error}"
