"""Python source files, and the bytecode and archives that Python runs instead of them.

Runs in: any process, any thread. The program imports it, so it imports next to nothing.
Owns: nothing.
"""

from __future__ import annotations

import _imp

from .unpatched import os, read_bytes

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CACHE = "__pycache__"
CODE_SUFFIXES = (".py", ".pyw", ".pyc", ".so", ".pyd")
BYTECODE_HEADER = 16  # bytes before the code; see PEP 552
SIZE_FIELD = slice(12, 16)  # of the header: the size of the source
HASH_KEY = 0  # the same in all processes, since they compare the hashes


def is_source(path: str) -> bool:
    """Whether *path* is Python source, by its name."""
    return path.endswith((".py", ".pyw"))


def source_hash(source: bytes) -> str:
    """Return the hash of *source* in hexadecimal digits.

    It is the hash that CPython uses for bytecode checked by hash (PEP 552). Any other hash
    function would have to be imported.
    """
    hashed: bytes = _imp.source_hash(HASH_KEY, source)
    return hashed.hex()


def source_file(path: str) -> str:
    """Return the file to watch for code whose absolute file name is *path*.

    It is the source file of bytecode, if there is one, and the archive of a module in an archive.
    """
    if path.endswith((".pyc", ".pyo")):
        directory, name = os.path.split(path)
        if os.path.basename(directory) == CACHE:
            source = os.path.join(os.path.dirname(directory), name.partition(".")[0] + ".py")
        else:
            source = path[:-1]
        if os.path.exists(source):
            return source
    if os.path.isfile(path):
        return path
    container = path
    while not os.path.exists(container) and container != os.path.dirname(container):
        container = os.path.dirname(container)
    return container if os.path.isfile(container) else path


def other_form(path: str) -> str | None:
    """Return the other file that the module in the source file *path* could be imported from.

    It is ``a/__init__.py`` for ``a.py``, and ``a.py`` for ``a/__init__.py``. None if *path* is no
    source file.
    """
    directory, name = os.path.split(path)
    if name == "__init__.py":
        return directory + ".py"
    return os.path.join(path.removesuffix(".py"), "__init__.py") if is_source(path) else None


def bytecode_time(path: str) -> int | None:
    """Return when Python has cached the bytecode of the source file *path*.

    In nanoseconds since the epoch. None if the bytecode is not that of the present content.
    """
    import importlib.util
    import marshal

    try:
        cached = importlib.util.cache_from_source(path)
        cached_ns = os.stat(cached).st_mtime_ns
        bytecode, source = read_bytes(cached), read_bytes(path)
        # A comment changes the size, but not the code.
        is_same_size = int.from_bytes(bytecode[SIZE_FIELD], "little") == len(source)
        code = marshal.loads(bytecode[BYTECODE_HEADER:])
        if is_same_size and code == compile(source, path, "exec", dont_inherit=True):
            return cached_ns
    except (OSError, NotImplementedError, ValueError, SyntaxError, EOFError, TypeError):
        pass  # there is no bytecode, or it is none that this interpreter knows
    return None


def delete_bytecode(paths: Iterable[str], prefixes: Iterable[str] = ()) -> None:
    """Delete the cached bytecode of the files *paths*, in ``__pycache__`` and below *prefixes*.

    *prefixes* are values that `sys.pycache_prefix` has had in the program. That of this process is
    always one. Python trusts bytecode if it records the size of the source, and the second in which
    that was modified. So the second of two quick saves of equal length would never run. See
    https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
    Others, such as pytest, add to the name of the bytecode, and may trust it likewise.
    """
    import contextlib

    beginnings: dict[str, list[str]] = {}  # of the names of bytecode, by directory
    for path in paths:
        for cached in _cached(path, prefixes):
            directory, name = os.path.split(cached)
            beginnings.setdefault(directory, []).append(name)
    for directory, names in beginnings.items():
        with contextlib.suppress(OSError):
            known = tuple(names)
            for name in os.listdir(directory):
                if name.startswith(known) and name.endswith(".pyc"):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(directory, name))


def _cached(path: str, prefixes: Iterable[str]) -> Iterator[str]:
    """Yield how the paths of the bytecode of *path* begin."""
    import importlib.util
    import sys

    try:
        cached = os.path.basename(importlib.util.cache_from_source(path, optimization=""))
    except NotImplementedError:  # this Python caches no bytecode
        return
    beginning = cached.removesuffix(".pyc")
    directory = os.path.dirname(path)
    yield os.path.join(directory, CACHE, beginning)
    for prefix in {*prefixes, sys.pycache_prefix or ""} - {""}:
        yield os.path.join(prefix, directory.lstrip(os.sep), beginning)
