"""Which files an exception passed through: a change of any of them may mend it.

Runs in: the program, on the thread that the exception ended.
Owns: nothing. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from .._common.paths import absolute

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType


def traceback_files(error: BaseException) -> Iterable[str]:
    """Return every file that *error*, its causes and its contexts passed through.

    A module that fails to import is not left in `sys.modules`, and a file with a syntax error is
    not part of the traceback.
    """
    files: set[str] = set()
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        todo += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        files.update(_frames(one.__traceback__))
        if isinstance(one, SyntaxError) and one.filename:
            files.add(one.filename)
        files.update(_missing_inits(one))
    return {absolute(path) for path in files if not path.startswith("<")}


def _missing_inits(error: BaseException) -> list[str]:
    """Return where `__init__.py` would be, if *error* blames a package that has none."""
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
