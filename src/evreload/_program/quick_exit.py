"""Ends the process without Python's teardown, when the supervisor stops it for the next run.

After the program's shutdown code and exit handlers, Python deletes all modules and objects. For a
large program that may take as long as a start. The kernel releases memory, locks and sockets
anyway. So the last exit handler writes what is still buffered, and ends the process by `os._exit`.

Runs in: the program, under the supervisor, and its workers; on the main thread.
Owns: the first exit handler of `atexit`, which Python calls last. The program imports it, so it
imports next to nothing.
"""

from __future__ import annotations

import atexit
import sys

from .._common.startup import suppress
from .._common.unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

CANNOT_FLUSH = 120  # Python's own exit status if the standard streams cannot be flushed
DESCRIPTORS = "/dev/fd"
STANDARD = 3  # the descriptors below are those of the standard streams
# Classes of the standard library that write the rest, or remove a file, when Python deletes their
# objects. The objects of one class may write into those of a later one.
CLOSED_BY_DELETION = (
    ("shelve", "Shelf"),
    ("dbm.dumb", "_Database"),
    ("wave", "Wave_write"),
    ("zipfile", "_ZipWriteFile"),
    ("zipfile", "ZipFile"),
    ("gzip", "GzipFile"),
    ("bz2", "BZ2File"),
    ("lzma", "LZMAFile"),
    ("tempfile", "_TemporaryFileCloser"),
)
WITHOUT_DESCRIPTOR = {"shelve", "dbm.dumb"}  # their objects open a file only when they write


class QuickExit:
    """Leaves once all exit handlers have run, if the supervisor has stopped this run.

    As a context manager, it notes the exit status that the program ends with. If the program has
    not ended in that context, or if there were exit handlers before this object, Python ends the
    process as usual: handlers of `sitecustomize`, say, run only after this one.
    """

    def __init__(self) -> None:
        self._is_stopped: Callable[[], bool] = lambda: False
        self._pipes: Collection[int] = ()
        self._status: int | None = None
        handlers = getattr(atexit, "_ncallbacks", None)  # CPython only
        if handlers and handlers() == 0:
            atexit.register(self._on_exit)

    def attach(self, is_stopped: Callable[[], bool], pipes: Collection[int]) -> None:
        """Leave if *is_stopped* returns True at the end. *pipes*: those to the supervisor."""
        self._is_stopped = is_stopped
        self._pipes = pipes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._status = _exit_status(error)

    def _on_exit(self) -> None:
        try:
            if self._status is not None and self._is_stopped():
                is_flushed = _flush_standard_streams()
                _write_files(self._pipes)
                os._exit(self._status if is_flushed else CANNOT_FLUSH)
        except Exception:  # an odd program: Python ends it
            return


def _exit_status(error: BaseException | None) -> int | None:
    """Return the exit status of a program that *error* ends; None if a signal will be its end."""
    if error is None:
        return 0
    if isinstance(error, KeyboardInterrupt):
        return None
    if not isinstance(error, SystemExit):
        return 1
    if isinstance(error.code, int):
        return error.code & 0xFF
    return 0 if error.code is None else 1


def _flush_standard_streams() -> bool:
    """Flush the standard streams as Python does last; return whether that has succeeded."""
    is_flushed = True
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception:
            is_flushed = False
    return is_flushed


def _write_files(pipes: Collection[int]) -> None:
    """Write what the objects of open files have in their buffers; *pipes* have none."""
    if not _may_write_files(pipes):
        return  # there may be millions of objects
    import gc

    kinds = {kind: index for index, kind in enumerate(_kinds_of_files())}
    gc.unfreeze()  # frozen objects are not listed
    files: list[Any] = [file for file in gc.get_objects() if type(file) in kinds]
    files.sort(key=lambda file: kinds[type(file)])
    for file in files:
        with suppress(Exception):  # it is closed already, or the disk is full
            if _is_plain_file(type(file)):
                file.flush()  # not closed: another one may write into it
            else:
                file.__del__()


def _may_write_files(pipes: Collection[int]) -> bool:
    """Whether a file, pipe or terminal is open for writing, besides *pipes* and standard streams.

    A socket does not count: a connection with a buffer is cut off anyway.
    """
    if WITHOUT_DESCRIPTOR & sys.modules.keys():
        return True
    try:
        import fcntl
        import stat

        for name in os.listdir(DESCRIPTORS):
            number = int(name)
            with suppress(OSError):  # that of the listing itself
                mode = os.fstat(number).st_mode
                is_file = stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
                if number < STANDARD or number in pipes or not is_file:
                    continue
                if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    except (ImportError, OSError):  # the system does not list descriptors
        return True
    return False


def _kinds_of_files() -> Iterator[type]:
    """Yield the classes of file objects that may hold data back, in the order to write it."""
    import io

    yield from _with_subclasses(io.TextIOWrapper)
    for module, name in CLOSED_BY_DELETION:
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and hasattr(kind, "__del__"):
            yield from _with_subclasses(kind)
    for kind in (io.BufferedWriter, io.BufferedRandom):
        yield from _with_subclasses(kind)


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    subclasses: list[type] = type.__subclasses__(kind)
    for subclass in subclasses:
        yield from _with_subclasses(subclass)


def _is_plain_file(kind: Any) -> bool:
    import io

    return issubclass(kind, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom))
