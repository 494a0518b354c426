"""Paths as they are compared and watched.

Runs in: any process, any thread.
Owns: nothing.
"""

from __future__ import annotations

from .unpatched import os

STANDARD_LIBRARY = os.path.dirname(getattr(os, "__file__", "/nowhere/os.py")) + os.sep
PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def absolute(path: str) -> str:
    """Return *path* as an absolute path without ``..``.

    A ``..`` that follows a symbolic link means the parent of the directory that the link points to.
    Raises OSError if *path* is relative and the working directory was removed.
    """
    plain = os.path.abspath(path)
    above, up, below = f"{path}{os.sep}".rpartition(os.sep + os.pardir + os.sep)
    if up and os.path.realpath(path) != os.path.realpath(plain):
        return os.path.abspath(os.path.join(os.path.realpath(above + up), below))
    return plain


def is_installed(path: str) -> bool:
    """Whether *path* belongs to Python or to an installed package, by the names in it."""
    return path.startswith(STANDARD_LIBRARY) or any(name in path for name in PACKAGES)
