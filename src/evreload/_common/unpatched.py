"""The functions of the operating system, as they were before the program could replace them.

A program may forbid calls that block its event loop: blockbuster, Home Assistant and others replace
`os.stat`, `open` and the like by functions that raise, or print a warning. A debugger replaces
`os.execve`. What evreload does in the program must neither fail nor be reported because of that.

Runs in: any process. The thread that imports evreload first copies the functions.
Owns: the copies. The program imports it, so it imports next to nothing.
"""

from __future__ import annotations

import os as _os
import sys
import time

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import os as os
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

# The functions of `os.path` that look at the file system, and those that they call.
PATH_FUNCTIONS = (
    *("abspath", "exists", "isdir", "isfile", "islink", "lexists", "realpath", "_joinrealpath"),
    *("samefile", "sameopenfile"),
)
CHUNK = 1 << 18  # bytes that are read at once

sleep = time.sleep


def _copy_os() -> ModuleType:
    """Return a copy of `os`; of its Python functions, those of PATH_FUNCTIONS use the copy, too."""
    import posix
    import posixpath

    kind: Any = type(_copy_os)
    copy, path = type(_os)("os"), type(_os)("posixpath")
    vars(copy).update(vars(_os), path=path)
    # The functions of `posix` are the real ones even if those of `os` have been replaced already.
    for name, value in vars(posix).items():
        if type(value) is type(posix.stat) and hasattr(_os, name):
            setattr(copy, name, value)
    vars(path).update(vars(posixpath), os=copy)
    for name in PATH_FUNCTIONS:
        function: Any = getattr(posixpath, name, None)
        if type(function) is kind:  # some are written in C in newer versions
            rebound = kind(function.__code__, vars(path), name, function.__defaults__)
            rebound.__kwdefaults__ = function.__kwdefaults__
            setattr(path, name, rebound)
    return copy


if not TYPE_CHECKING:
    os = _copy_os() if "posix" in sys.builtin_module_names else _os


def chunks(path: str) -> Iterator[bytes]:
    """Yield the content of the file *path*, some of it at a time. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        while data := os.read(descriptor, CHUNK):
            yield data
    finally:
        os.close(descriptor)


def read_bytes(path: str) -> bytes:
    """Return the content of the file *path*. Raises OSError."""
    return b"".join(chunks(path))
