"""Python source files: how to recognise them, and what Python makes of them.

Runs in: any process, any thread. The program imports it, so it imports next to nothing.
Owns: nothing.
"""

from __future__ import annotations

import _imp
import os

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable

CODE_SUFFIXES = (".py", ".pyw", ".pyc", ".so", ".pyd")
HASH_KEY = 0  # several processes compare the hashes


def is_source(path: str) -> bool:
    """Whether *path* is Python source, by its name."""
    return path.endswith((".py", ".pyw"))


def source_hash(source: bytes) -> str:
    """Return the hash of *source* in hexadecimal digits.

    It is the hash that CPython uses for bytecode checked by hash (PEP 552). Every other hash
    would have to be imported.
    """
    hashed: bytes = _imp.source_hash(HASH_KEY, source)
    return hashed.hex()


def source_file(path: str) -> str:
    """Return the file to watch for code whose absolute file name is *path*.

    For bytecode that is its source, if there is one; for a module in an archive, the archive.
    """
    if path.endswith((".pyc", ".pyo")) and os.path.exists(path[:-1]):
        return path[:-1]
    if os.path.isfile(path):
        return path
    container = path
    while not os.path.exists(container) and container != os.path.dirname(container):
        container = os.path.dirname(container)
    return container if os.path.isfile(container) else path


def other_form(path: str) -> str | None:
    """Return where the module in the source file *path* would be as a package, or as no package.

    Return None if *path* is no source file.
    """
    directory, name = os.path.split(path)
    if name == "__init__.py":
        return directory + ".py"
    return os.path.join(path.removesuffix(".py"), "__init__.py") if is_source(path) else None


def delete_bytecode(paths: Iterable[str]) -> None:
    """Delete the cached bytecode of the source files among *paths*.

    Python trusts bytecode if the size of the source, and the second in which it was modified, are
    the same. So the second of two quick saves of equal length would never run. See
    https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
    """
    import contextlib
    import importlib.util

    for path in filter(is_source, paths):
        for optimization in ("", 1, 2):
            with contextlib.suppress(OSError, NotImplementedError):
                os.unlink(importlib.util.cache_from_source(path, optimization=optimization))
