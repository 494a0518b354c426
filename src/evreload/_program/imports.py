"""Which files the program is made of: notes each file that Python runs code from, and when.

Runs in: the program, on each thread that imports modules or opens files; and the fork server.
Owns: the audit hook of this process. The program imports this module first, so it imports next
to nothing.
"""

from __future__ import annotations

import stat
import sys
import time
from types import CodeType

from .._common.own_writes import OwnWrites
from .._common.paths import absolute
from .._common.source import CACHE, CODE_SUFFIXES, source_file, source_hash
from .._common.unpatched import os

TYPE_CHECKING = False  # `typing` costs 2 ms, a quarter of what evreload may add to a start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    # Takes a path, and when Python read it, or shortly before (nanoseconds since the epoch).
    OnRead = Callable[[str, int], object]
    Listener = Callable[[tuple[Any, ...]], None]

# Methods of Python's own loaders. One defined elsewhere may compile something else than the file.
LOADING = ("get_data", "source_to_code", "get_code", "exec_module")
PYTHON_LOADERS = ("_frozen_importlib", "_frozen_importlib_external", "zipimport")
UNKNOWN_NS = 1  # in place of a time that is not known yet
# The clock of file times advances in steps: a file may seem older than it is by one step.
CLOCK_TICK_NS = 10_000_000

# After this many known modules in a row, all others are taken as known: the loop would be blocked
# if each of thousands of modules were looked at again for every new one.
KNOWN_IN_A_ROW = 100

NO_FILES = ("built-in", "frozen", "namespace")  # what modules without a file say they come from
EXTENSIONS = (".so", ".pyd")
MAX_OPENED = 1000  # files for which the time of the last reading is kept
MAX_NAMES = 1000  # names of code that are known to be no files
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
        # The directories in which Python has cached bytecode, other than ``__pycache__``.
        self.bytecode_prefixes: set[str] = set()
        self._latest_prefix: str | None = None
        self._noted: dict[str, int] = {}  # paths of all files noted, and when they were read
        self._pending: dict[str, int] = {}  # the same, of those not reported yet
        self._known = set(NO_FILES)  # names of files, as their code has them; and paths
        self._no_files: set[str] = set()  # names of code that is in no file
        self._transformed: set[str] = set()  # paths; see `is_plain`
        self._early = set(sys.modules)  # names of modules that are older than the hook
        self._known_modules = set(self._early)  # names of modules not to look at
        self._module_count = len(sys.modules)
        self._missing: set[str] = set()  # names of modules that were not found
        self._opened: dict[str, int] = {}  # names of files, and when; the latest come last
        self._latest_opened = ""  # to read it, if nothing was compiled since
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

    @property
    def paths(self) -> list[str]:
        """The paths of all files noted so far."""
        return list(self._noted)

    def files(self) -> list[str]:
        """Return the names of all files noted so far, as their code has them."""
        return list(self._known)

    def is_plain(self, path: str) -> bool:
        """Whether Python compiles the file *path* as it is, as far as is known.

        If not, a loader of the program, or the program itself, may transform it before.
        """
        return path not in self._transformed

    def end(self) -> None:
        """Report no more files; `unreported` then yields all again."""
        self._on_read = None
        self._pending.update(self._noted)
        self._known = set(NO_FILES)
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
        for _, path in self._look_at_modules():
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
        if len(sys.modules) != self._module_count:
            self._note_new_modules()
        code = arguments[0]
        if type(code) is CodeType and code.co_filename not in self._known:
            self._note_run(code.co_filename)

    def _on_import(self, arguments: tuple[Any, ...]) -> None:
        module, file = arguments[:2]
        if type(file) is str:  # of an extension module
            self._note_run(file)
            if "pyximport" in sys.modules:  # it names only what it has made of the source
                end = f"{os.sep}{module.rpartition('.')[2]}.pyx"
                for name in [one for one in self._opened if one.endswith(end)]:
                    self._note_run(name)
        if len(sys.modules) != self._module_count:
            self._note_new_modules()

    def _on_compile(self, arguments: tuple[Any, ...]) -> None:
        """Note the file that the program compiles, since it may run it at any time later.

        A file that has a syntax error never runs, but its fix counts.
        """
        source, name = arguments[:2]
        if type(source) is bytes and type(name) is str:
            if name == "<string>" and self._latest_opened:
                name = self._latest_opened if _size(self._latest_opened) == len(source) else name
            self._latest_opened = ""
            is_own = self._opened.get(name) == WRITTEN_NS
            if is_own or name not in self._known:
                self._note_compiled(name, source, is_own=is_own)
        if len(sys.modules) != self._module_count:
            self._note_new_modules()

    def _note_compiled(self, name: str, source: bytes, *, is_own: bool) -> None:
        size = -1 if name.startswith("<") else _size(name)
        if size < 0:
            return
        now = time.time_ns()
        path = absolute(name)
        self._known.add(name)
        if size != len(source):
            self._transformed.add(path)
        if is_own and not self.own_writes.may_have_written(path):
            self.own_writes.note_written(path)
            self._on_write(path)
        self.own_writes.note_read(path, source_hash(source), now)
        self._note(path, self._opened.get(name) or now)

    def _on_open(self, arguments: tuple[Any, ...]) -> None:
        name, _, flags = arguments
        if type(name) is not str:
            return
        if type(flags) is int and flags & WRITE_FLAGS:
            self._note_write(name)
        elif not _is_bytecode(name):
            self._note_opened(name, time.time_ns())
            self._latest_opened = name
            # A source file is compiled next, or run from its bytecode: another event follows.
            if len(sys.modules) != self._module_count and not name.endswith(".py"):
                self._note_new_modules()

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
        if _is_bytecode(name):  # Python writes such a file for each module that it compiles
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
        if name.startswith("<") or name in self._no_files or name in self._known:
            return
        if not os.path.isfile(source_file(name)):
            if len(self._no_files) == MAX_NAMES:
                self._no_files.clear()
            self._no_files.add(name)
            return
        self._known.add(name)
        self._note(absolute(name), self._read_ns(name))

    def _note_new_modules(self) -> None:
        """Note the files that the latest modules say they come from.

        A loader may read a file in any way, and run code under another name, or none at all.
        """
        count = len(sys.modules)
        for name, path in self._look_at_modules(count - self._module_count):
            self._note(path, self._read_ns(name))
        self._module_count = count

    def _look_at_modules(self, growth: int | None = None) -> list[tuple[str, str]]:
        """Return the names and paths of files that modules say they come from, as far as new.

        They are in the order of the imports. *growth*: `sys.modules` has grown by so many since the
        last look; then modules that are older than the hook are left out.
        """
        found: list[tuple[str, str]] = []
        known_in_a_row = new = 0
        limit = KNOWN_IN_A_ROW
        if growth is None and self._early:  # they are behind all others
            self._known_modules -= self._early
            self._early.clear()
            limit = len(sys.modules)
        # A copy costs too much for each import; if there is no copy, and another thread imports
        # meanwhile, this raises, and is tried again at the next event.
        names = list(sys.modules) if growth is None else sys.modules
        for name in reversed(names):  # the latest come last
            if name in self._known_modules:
                known_in_a_row += 1
                if known_in_a_row >= limit or (growth is not None and new >= growth):
                    break
            else:
                new += 1
                files = self._new_files(sys.modules.get(name))
                if files is not None:
                    known_in_a_row = 0
                    self._known_modules.add(name)
                    found += files
        return found[::-1]

    def _new_files(self, module: object) -> list[tuple[str, str]] | None:
        """Return the names and paths of the files that *module* says it comes from, if not known.

        Return None if it says none. The object in `sys.modules` may raise anything; then, too.
        """
        try:
            attributes = object.__getattribute__(module, "__dict__")
            spec = attributes.get("__spec__")
            spec = object.__getattribute__(spec, "__dict__") if spec else {}
            names = _file_names(attributes, spec.get("origin"))
            loader = spec.get("loader")
            is_transformed = _may_transform(loader)
            if is_transformed:
                names += _files_of_loader(loader)
            found = []
            for name in names:
                if name not in self._known or is_transformed:
                    path = absolute(name)
                    # If it is transformed, it may have been noted as a plain file already.
                    if name not in self._known or path not in self._transformed:
                        found.append((name, path))
                    if is_transformed:
                        self._transformed.add(path)
                    self._known.add(name)
        except Exception:
            return None
        return found if names else None

    def _read_ns(self, name: str) -> int:
        """Return when the file *name*, which runs next, was read; a time before, if not known."""
        if name.endswith(EXTENSIONS):  # the system's linker opens it next
            # The program may just have made it: that is no change.
            return os.stat(name).st_ctime_ns + CLOCK_TICK_NS + 1
        return self._opened.get(name) or self.started_ns

    def _note(self, path: str, read_ns: int) -> None:
        if read_ns != UNKNOWN_NS:
            read_ns -= CLOCK_TICK_NS
        if sys.pycache_prefix != self._latest_prefix and sys.pycache_prefix:
            self._latest_prefix = sys.pycache_prefix
            self.bytecode_prefixes.add(absolute(sys.pycache_prefix))
        self.own_writes.note_run(path, read_ns)
        # First stored, then reported: so none is missed if another thread calls `begin` meanwhile.
        self._noted[path] = self._pending[path] = read_ns
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


def _is_bytecode(name: str) -> bool:
    """Whether *name* is a file that Python itself writes, to load a module faster."""
    prefix = sys.pycache_prefix
    return CACHE in name or (prefix is not None and name.startswith(prefix))


def _size(name: str) -> int:
    """Return the size of the regular file *name*; -1 if there is none."""
    try:
        here = os.stat(name)
    except (OSError, ValueError):
        return -1
    return here.st_size if stat.S_ISREG(here.st_mode) else -1


def _file_names(attributes: dict[str, Any], origin: object) -> list[str]:
    """Return the names of files that a module with *attributes* and *origin* says it comes from."""
    file = attributes.get("__file__")
    if type(file) is str and file and (file == origin or origin in NO_FILES):
        return [file]
    names = [os.fsdecode(file)] if file else []
    if type(origin) is str and origin not in (*NO_FILES, *names) and os.path.isfile(origin):
        names.append(origin)
    if not names and type(cached := attributes.get("__cached__")) is str:
        names.append(cached)
    return names


def _files_of_loader(loader: object) -> list[str]:
    """Return the files that *loader*, which is not one of Python's own, keeps the names of.

    It may load a module from a file that it has compiled from another one, as pyximport does.
    """
    values = getattr(loader, "__dict__", {}).values()
    return [one for one in values if type(one) is str and os.sep in one and os.path.isfile(one)]


def _may_transform(loader: object) -> bool:
    """Whether *loader* may compile something else than the source."""
    if loader is None:
        return False
    kind = loader if isinstance(loader, type) else type(loader)
    for step in LOADING:
        method = getattr(kind, step, None)
        if method is not None and method.__module__ not in PYTHON_LOADERS:
            return True
    return False
