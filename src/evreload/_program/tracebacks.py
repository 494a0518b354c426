"""The files that an exception passed through: a change of one of them may mend it.

Runs in: the program, on the main thread, which the exception has ended.
Owns: nothing. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .._common.paths import absolute
from .._common.unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType


def traceback_files(error: BaseException) -> Iterable[str]:
    """Return every file that *error*, its causes and its contexts passed through.

    `sys.modules` does not have them all: Python removes a module that fails to import. Nor does the
    traceback: it lacks a file with a syntax error.
    """
    files: set[str] = set()
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions
        files.update(_frames(one.__traceback__))
        try:  # the attributes of an exception may be any objects
            if isinstance(one, SyntaxError) and one.filename:
                files.add(os.fsdecode(one.filename))
            files.update(_missing_inits(one))
        except Exception:
            continue
    return set(_absolute(files))


def _absolute(files: Iterable[str]) -> Iterator[str]:
    for path in files:
        if not path.startswith("<"):
            try:
                yield absolute(path)
            except OSError:  # it is relative, and the working directory was removed
                continue


def _missing_inits(error: BaseException) -> list[str]:
    """Return where `__init__.py` could be, if *error* is about a package that has none."""
    if isinstance(error, ImportError):
        package: object = sys.modules.get(error.name or "")
    else:
        package = getattr(error, "obj", None) if isinstance(error, AttributeError) else None
    if type(package) is not ModuleType or package.__dict__.get("__file__"):
        return []
    return [os.path.join(place, "__init__.py") for place in package.__dict__.get("__path__", ())]


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
