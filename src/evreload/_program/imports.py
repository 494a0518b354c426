"""Which files the program is made of: notes each file that Python runs code from, and when.

Runs in: the program, on each thread that imports modules or opens files; and the fork server.
Owns: the audit hook of this process. The program imports this module first, so it imports next
to nothing.
"""

from __future__ import annotations

import sys
import time
from types import CodeType, ModuleType

from .._common.own_writes import OwnWrites
from .._common.paths import absolute
from .._common.source import CODE_SUFFIXES, source_hash
from .._common.unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms, a quarter of what evreload may add to a start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType
    from typing import Any

    # Takes a path, and when Python read it, or shortly before (nanoseconds since the epoch).
    OnRead = Callable[[str, int], object]
    Listener = Callable[[tuple[Any, ...]], None]

UNKNOWN_NS = 1  # in place of a time that is not known yet
# The clock of file times advances in steps: a file may seem older than it is by one step.
CLOCK_TICK_NS = 10_000_000

# After this many known modules in a row, all others are taken as known: the loop would be blocked
# if each of thousands of modules were looked at again for every new one.
KNOWN_IN_A_ROW = 100

MAX_OPENED = 1000  # files for which the time of the last reading is kept
WRITTEN_NS = 0  # in place of the time of reading, for a file that the program has written

SPAWN_EVENTS = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system")
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR


class Imports:
    """Notes each file that Python runs code from.

    A finder on `sys.meta_path` would miss modules that are loaded without a finder, or by a finder
    in front of it, as pytest's for rewritten tests. An audit hook misses none. But it cannot be
    removed, so it must be small, and must not raise into the program.
    """

    def __init__(self) -> None:
        # When the program started. It stands for the time of reading of a file that ran from
        # bytecode, which may be older than the file: Python trusts bytecode if the size of the
        # file, and the second of its time, agree.
        self.started_ns = UNKNOWN_NS
        self.own_writes = OwnWrites()
        self._on_read: OnRead | None = None
        self._on_write: Callable[[str], object] = lambda path: None
        self._on_process: Listener = lambda arguments: None
        self._pending: dict[str, int] = {}  # files noted before `begin`, and when they were read
        self._known: set[str] = set()  # names of files, as their code has them; and paths
        self._known_modules: dict[str, int] = {}  # names of modules, and their identities
        self._missing: set[str] = set()  # names of modules that were not found
        self._compiled: dict[str, int] = {}  # names of files, and when they were compiled
        self._opened: dict[str, int] = {}  # names of files, and when; the latest come last
        self._ignores_data_writes = False
        self._listeners: dict[str, Listener | None] = {
            "exec": self._on_exec,
            "import": self._on_import,
            "compile": self._on_compile,
            "open": self._on_open,
            "os.rename": self._on_rename,
            **dict.fromkeys(SPAWN_EVENTS, self._on_spawn),
        }
        sys.addaudithook(self._hook)
        sys.meta_path.append(_MissingModules(self))

    def begin(
        self,
        on_read: OnRead,
        on_write: Callable[[str], object] = lambda path: None,
        on_process: Listener = lambda arguments: None,
    ) -> None:
        """Call *on_read* with each file noted from now on; `unreported` yields the earlier ones.

        Call *on_write* with each file that the program writes while it starts, and with "" when it
        starts another process. Call *on_process* with the arguments of each audit event of that.
        """
        self._on_read = on_read
        self._on_write = on_write
        self._on_process = on_process

    def set_listener(self, event: str, listener: Listener | None) -> Listener | None:
        """Call *listener* with the arguments of each audit *event*; call none if it is None.

        Return the listener that was set before.
        """
        before = self._listeners.get(event)
        self._listeners[event] = listener
        return before

    def files(self) -> list[str]:
        """Return the names of all files noted so far, as their code has them."""
        return list(self._known)

    def end(self) -> None:
        """Report no more files, and forget those that were noted."""
        self._on_read = None
        self._known.clear()
        self._known_modules.clear()
        self._missing.clear()

    def disable(self) -> None:
        """Note no more files: this process runs no program itself."""
        self._listeners.clear()
        sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _MissingModules)]

    def unreported(self, unknown_ns: int) -> Iterator[tuple[str, int]]:
        """Yield each file not reported yet, and when it was read: *unknown_ns* if not known.

        `sys.modules` may contain any object, and may grow meanwhile. This runs no code of a module:
        no property, no `__getattr__`, no lazy import.
        """
        for noted in list(self._pending):
            if read_ns := self._pending.pop(noted, 0):  # or another thread has just reported it
                yield noted, unknown_ns if read_ns == UNKNOWN_NS else read_ns
        found = []
        known_in_a_row = 0
        for name in reversed(list(sys.modules)):  # the latest come last
            module = sys.modules.get(name)
            if self._known_modules.get(name) == id(module):
                known_in_a_row += 1
                if known_in_a_row == KNOWN_IN_A_ROW:
                    break
            elif path := _module_file(module):
                known_in_a_row = 0
                self._known_modules[name] = id(module)
                if path not in self._known:
                    self._known.add(path)
                    found.append(path)
        for path in reversed(found):
            yield path, unknown_ns

    def last_read_ns(self, path: str) -> int:
        """Return when the program last opened the file *path* to read it.

        If it has not, return the present time: it is about to. Return that, too, if the program may
        have written the file itself, or if *path* is a directory.
        """
        now = time.time_ns()
        if os.path.isdir(path) or self.own_writes.may_have_written(path):
            return now
        name = os.path.basename(path)
        opened = [(one, read) for one, read in list(self._opened.items()) if one.endswith(name)]
        try:
            reads = [read for one, read in opened if absolute(one) == path]
        except OSError:  # the working directory was removed
            return now
        return reads[-1] - CLOCK_TICK_NS if reads and WRITTEN_NS not in reads else now

    def ignore_data_writes(self) -> None:
        """From now on, note no written files but those of code.

        To be called when the program has started, or has started a process, which may write any
        file.
        """
        self._ignores_data_writes = True

    def note_missing(self, name: str, path: Sequence[str] | None) -> None:
        """Note where the module *name*, which was not found, could be; *path* as for a finder."""
        if name in self._missing:
            return
        self._missing.add(name)
        last = name.rpartition(".")[2]
        for directory in list(sys.path if path is None else path):
            if type(directory) is str:
                place = os.path.join(absolute(directory), last)
                for candidate in (place + ".py", place, os.path.join(place, "__init__.py")):
                    self._note(candidate, time.time_ns())

    # Audit events

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if listener := self._listeners.get(event):
            try:
                listener(arguments)
            except Exception:  # it would make fail what the program does
                return

    def _on_exec(self, arguments: tuple[Any, ...]) -> None:
        code = arguments[0]
        if type(code) is CodeType and code.co_filename not in self._known:
            self._note_run(code.co_filename)

    def _on_import(self, arguments: tuple[Any, ...]) -> None:
        if type(arguments[1]) is str:  # the file of an extension module
            self._note_run(arguments[1])

    def _on_compile(self, arguments: tuple[Any, ...]) -> None:
        code, name = arguments
        if type(name) is not str or not name.endswith(".py"):
            return
        # Python has just read the file, and will run it only after it has compiled it.
        now = time.time_ns()
        if name not in self._known and _is_imported(name):
            # It is noted already here: if it has a syntax error, it never runs.
            path = absolute(name)
            self._known.add(name)
            self.own_writes.note_read(path, source_hash(code), now)
            self._note(path, now)
        else:
            self._compiled[name] = now

    def _on_open(self, arguments: tuple[Any, ...]) -> None:
        name, _, flags = arguments
        if type(name) is not str:
            return
        if name.endswith(".pyc") and "__pycache__" not in name:
            self._note_run(name)
        if type(flags) is int and flags & WRITE_FLAGS:
            self._note_write(name)
        elif "__pycache__" not in name:
            self._note_opened(name, time.time_ns())

    def _note_opened(self, name: str, read_ns: int) -> None:
        """Note when a file was read, or WRITTEN_NS, for `last_read_ns`."""
        before = self._opened.pop(name, read_ns)
        self._opened[name] = WRITTEN_NS if before == WRITTEN_NS else read_ns
        if len(self._opened) > MAX_OPENED:
            del self._opened[next(iter(self._opened))]

    def _on_rename(self, arguments: tuple[Any, ...]) -> None:
        if type(arguments[1]) is str:
            self._note_write(arguments[1])

    def _note_write(self, name: str) -> None:
        if "__pycache__" in name:  # Python writes a file there for each module that it compiles
            return
        self._note_opened(name, WRITTEN_NS)
        if not self._ignores_data_writes or name.endswith(CODE_SUFFIXES):
            path = absolute(name)
            self.own_writes.note_written(path)
            self._on_write(path)

    def _on_spawn(self, arguments: tuple[Any, ...]) -> None:
        if not self._ignores_data_writes:
            self.own_writes.note_spawned()
            self._on_write("")
        self._on_process(arguments)

    def _note_run(self, name: str) -> None:
        # Not templates: template engines compile them under their own names, and reload them.
        if name.endswith(CODE_SUFFIXES) and name not in self._known:
            self._known.add(name)
            fallback_ns = self.started_ns if name.endswith(".py") else time.time_ns()
            self._note(absolute(name), self._compiled.pop(name, 0) or fallback_ns)

    def _note(self, path: str, read_ns: int) -> None:
        if read_ns != UNKNOWN_NS:
            read_ns -= CLOCK_TICK_NS
        # First stored, then reported: so none is missed if another thread calls `begin` meanwhile.
        self._pending[path] = read_ns
        if self._on_read and self._pending.pop(path, None):
            self._on_read(path, read_ns)


class _MissingModules:
    """The last finder of `sys.meta_path`: Python asks it only for modules no other has found."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        try:
            self._imports.note_missing(name, path)
        except Exception:  # *path* may be any object; the import must not fail because of evreload
            return None
        return None


def _is_imported(name: str) -> bool:
    """Whether the file *name* is compiled because a module is imported from it.

    Any loader may do that: pytest has one that compiles tests in its own way. Code other than a
    loader may compile or parse a file that never runs.
    """
    frame: FrameType | None = sys._getframe(3)
    while frame and frame.f_code.co_name != "exec_module":
        frame = frame.f_back
    spec = getattr(frame and frame.f_locals.get("module"), "__spec__", None)
    return getattr(spec, "origin", None) == name


def _module_file(module: object) -> str | None:
    try:
        path = object.__getattribute__(module, "__dict__").get("__file__")
        return absolute(os.fsdecode(path)) if path else None
    except Exception:  # the object in `sys.modules` may raise anything; it is left out
        return None
