"""Decides which modules may be preloaded: those that survive a fork, and are the same in each run.

It imports each module, and looks for *traces* of the import: what it leaves behind in the process
that two runs cannot share, such as a thread, an open file, or another working directory.

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

# Audit events of actions that leave a trace.
TEMPORARY_FILE_EVENTS = ("tempfile.mkstemp", "tempfile.mkdtemp")
THREAD_EVENTS = ("_thread.start_new_thread", "_thread.start_joinable_thread")  # Python 3.12 on
TRACE_EVENTS = (*TEMPORARY_FILE_EVENTS, *THREAD_EVENTS, "socket.__new__", "os.chdir")

SHARED_MEMORY = "/dev/shm/"  # the only files below /dev that have a content
MAX_REASON = 200  # characters


class ExcludedImport(BaseException):
    """An excluded module would be imported. It is no Exception, so that modules do not catch it."""


class PreloadCheck:
    """Imports modules, and finds those that may not be preloaded, with all that import them.

    It puts these into `left_out`, each with the reason. Part of their code has run by then, so this
    process must not be forked.
    """

    def __init__(self, imports: Imports, project: ProjectPaths, excluded: Iterable[str]) -> None:
        self._imports = imports
        self._project = project
        self._excluded = set(excluded)
        # The modules that were being imported at the last look for traces, outermost first.
        self._latest_imports: list[str] = []
        self._imports_by_trace: dict[str, list[str]] = {}  # that were in progress when it was left
        self._temporary_files: set[str] = set()
        self.left_out: dict[str, str] = {}
        self._on_exec = imports.set_listener("exec", self._check_file)
        for event in TRACE_EVENTS:
            imports.set_listener(event, self._on_trace_event)
        for event in TEMPORARY_FILE_EVENTS:
            imports.set_listener(event, self._on_temporary_file)
        sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Stop checking imports, and refusing the excluded ones."""
        sys.meta_path.remove(self)
        self._imports.set_listener("exec", self._on_exec)
        for event in TRACE_EVENTS:
            self._imports.set_listener(event, None)

    def load(self, name: str) -> None:
        """Import the module *name*, unless it is excluded, and add to `left_out`."""
        if name in sys.modules or self._is_excluded(name):
            return
        known = set(self.left_out)
        self._latest_imports = [name]
        before = self._traces()
        self._imports_by_trace = {trace: [] for trace in before}
        try:
            __import__(name)
        except ExcludedImport:
            self.left_out.setdefault(name, "it imports what is left out")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module may even raise SystemExit
            why = f"{type(error).__name__}: {error}"[:MAX_REASON]
            self._leave_out(why, _modules(_frames_of(error)) or [name])
        self._look_for_traces([])
        for trace, why in self._traces().items():
            if trace not in before:
                self._leave_out(why, self._imports_by_trace.get(trace) or [name])
        for found in self.left_out.keys() - known:
            self._excluded.add(found)
            sys.modules.pop(found, None)  # so that `find_spec` notices when it is imported again

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise ExcludedImport for an excluded module; find no other."""
        importing = _modules(_frames())
        if self._is_excluded(name):
            self._leave_out(f"it imports {name}", importing)
            raise ExcludedImport(name)
        self._look_for_traces([*importing, name])

    def _is_excluded(self, name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[: i + 1]) in self._excluded for i in range(len(parts)))

    def _check_file(self, arguments: tuple[Any, ...]) -> None:
        if self._on_exec:
            self._on_exec(arguments)
        name = getattr(arguments[0], "co_filename", "")
        if name.endswith((".py", ".pyc")) and not self._project.is_outside(absolute(name)):
            self._leave_out(f"it runs {name}", _modules(_frames()))

    def _on_trace_event(self, arguments: object) -> None:
        self._look_for_traces(_modules(_frames()))

    def _on_temporary_file(self, arguments: tuple[Any, ...]) -> None:
        self._on_trace_event(arguments)
        self._temporary_files.add(arguments[0])

    def _look_for_traces(self, importing: list[str]) -> None:
        """Attribute each new trace to the imports that were in progress at the last look.

        *importing* are those in progress now. Of these, the innermost modules of the standard
        library are not blamed for what follows, but the module that imports them.
        """
        for trace in self._traces().keys() - self._imports_by_trace.keys():
            self._imports_by_trace[trace] = self._latest_imports
        while importing and importing[-1].partition(".")[0] in sys.stdlib_module_names:
            importing.pop()
        self._latest_imports = importing

    def _traces(self) -> dict[str, str]:
        """Return all traces, each with the reason not to preload the module that has left it."""
        traces = {name: f"it keeps open {name}" for name in _descriptors()}
        traces |= {name: "it opens a socket" for name in traces if name.startswith("socket:")}
        traces |= {f"thread {n}": "it starts a thread" for n in range(_thread._count())}
        temporary = filter(os.path.exists, self._temporary_files)
        traces |= {path: f"it makes {path}" for path in temporary}
        traces[f"in {startup.working_directory()}"] = "it changes the working directory"
        return traces

    def _leave_out(self, why: str, chain: list[str]) -> None:
        """Leave out the modules of *chain*, each of which imports the next: the last for *why*."""
        # Not `pairwise`: it would import itertools.
        for outer, inner in zip(chain, chain[1:], strict=False):  # noqa: RUF007
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
    """Return the names of the open files and sockets that two runs must not share."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # it was that of the listing
            continue
    return {
        name for name in found if not name.startswith("/dev/") or name.startswith(SHARED_MEMORY)
    }
