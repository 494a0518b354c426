"""Decides what may be preloaded: only what survives a fork, and what is the same in each run.

It imports each module and looks at what the import left behind.

Runs in: the fork server, on its only thread.
Owns: the first finder of `sys.meta_path`, until `end`.
"""

from __future__ import annotations

import _thread
import os
import sys

from .._common import startup
from .._common.paths import absolute

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType
    from typing import Any

    from .._common.project_paths import ProjectPaths
    from .._program.imports import Imports

TEMPORARY = ("tempfile.mkstemp", "tempfile.mkdtemp")
THREADS = ("_thread.start_new_thread", "_thread.start_joinable_thread")  # from Python 3.12 on
MAKING = (*TEMPORARY, *THREADS, "socket.__new__", "os.chdir")
MEMORY = "/dev/shm/"  # unlike a device, it has a content
MAX_REASON = 200  # characters


class ExcludedImport(BaseException):
    """An excluded module is about to be imported; the importing module should not catch it."""


class PreloadCheck:
    """Imports what may be preloaded, and finds what may not, with all that imports it.

    What was found is in `left_out`, with the reason; by then part of it has run, so that this
    process must not be forked.
    """

    def __init__(self, imports: Imports, project: ProjectPaths, excluded: Iterable[str]) -> None:
        self._imports = imports
        self._project = project
        self._excluded = set(excluded)
        self._latest: list[str] = []  # the imports in progress at the last look, outermost first
        self._makers: dict[str, list[str]] = {}  # of traces: what was imported then
        self._temporary: set[str] = set()
        self.left_out: dict[str, str] = {}
        self._on_exec = imports.set_listener("exec", self._check_file)
        for event in MAKING:
            imports.set_listener(event, self._look_now)
        for event in TEMPORARY:
            imports.set_listener(event, self._note_temporary)
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Let everything be imported again."""
        sys.meta_path.remove(self)
        self._imports.set_listener("exec", self._on_exec)
        for event in MAKING:
            self._imports.set_listener(event, None)

    def load(self, name: str) -> None:
        """Import the module *name*, unless it is left out."""
        if name in sys.modules or self._is_excluded(name):
            return
        known = set(self.left_out)
        self._latest = [name]
        before = self._traces()
        self._makers = {trace: [] for trace in before}
        try:
            __import__(name)
        except ExcludedImport:
            self.left_out.setdefault(name, "it imports what is left out")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too
            why = f"{type(error).__name__}: {error}"[:MAX_REASON]
            self._leave_out(why, _modules(_frames_of(error)) or [name])
        self._look([])
        for trace, why in self._traces().items():
            if trace not in before:
                self._leave_out(why, self._makers.get(trace) or [name])
        for found in self.left_out.keys() - known:
            self._excluded.add(found)
            sys.modules.pop(found, None)  # so that the next module that imports it is found, too

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse to find what is left out."""
        importing = _modules(_frames())
        if self._is_excluded(name):
            self._leave_out(f"it imports {name}", importing)
            raise ExcludedImport(name)
        self._look([*importing, name])

    def _is_excluded(self, name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[: i + 1]) in self._excluded for i in range(len(parts)))

    def _check_file(self, arguments: tuple[Any, ...]) -> None:
        if self._on_exec:
            self._on_exec(arguments)
        name = getattr(arguments[0], "co_filename", "")
        if name.endswith((".py", ".pyc")) and not self._project.is_outside(absolute(name)):
            self._leave_out(f"it runs {name}", _modules(_frames()))

    def _look_now(self, arguments: object) -> None:
        self._look(_modules(_frames()))

    def _note_temporary(self, arguments: tuple[Any, ...]) -> None:
        self._look_now(arguments)
        self._temporary.add(arguments[0])

    def _look(self, importing: list[str]) -> None:
        """Note that the imports in progress at the last look have left what is new since then.

        Python's own modules are not: they have just been imported by the one that is.
        """
        for trace in self._traces().keys() - self._makers.keys():
            self._makers[trace] = self._latest
        while importing and importing[-1].partition(".")[0] in sys.stdlib_module_names:
            importing.pop()
        self._latest = importing

    def _traces(self) -> dict[str, str]:
        """Return what an import may leave behind that two runs cannot share, and what to say."""
        traces = {name: f"it keeps open {name}" for name in _descriptors()}
        traces |= {name: "it opens a socket" for name in traces if name.startswith("socket:")}
        traces |= {f"thread {n}": "it starts a thread" for n in range(_thread._count())}
        traces |= {path: f"it makes {path}" for path in filter(os.path.exists, self._temporary)}
        traces[f"in {startup.working_directory()}"] = "it changes the working directory"
        return traces

    def _leave_out(self, why: str, chain: list[str]) -> None:
        """Leave out those of *chain*: the last because of *why*."""
        for outer, inner in zip(chain, chain[1:], strict=False):  # noqa: RUF007  # itertools
            self.left_out.setdefault(outer, f"it imports {inner}")
        if chain:
            self.left_out.setdefault(chain[-1], why)


def _frames() -> Iterator[FrameType]:
    """Yield the frames of the callers, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back


def _frames_of(error: BaseException) -> list[FrameType]:
    """Return the frames that *error* passed through, innermost first."""
    frames = []
    trace = error.__traceback__
    while trace:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames[::-1]


def _modules(frames: Iterable[FrameType]) -> list[str]:
    """Return the names of the modules that run in *frames*, outermost first."""
    names = [frame.f_globals.get("__name__") for frame in frames if _is_of_module(frame)]
    return [name for name in reversed(names) if name and name != "__main__"]


def _is_of_module(frame: FrameType) -> bool:
    return frame.f_code.co_name == "<module>"


def _descriptors() -> set[str]:
    """Return what open descriptors lead to, of the kinds that runs must not share."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the listing's own
            continue
    return {name for name in found if not name.startswith("/dev/") or name.startswith(MEMORY)}
