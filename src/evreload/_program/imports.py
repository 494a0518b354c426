"""What the program is made of, as the interpreter tells it.

Any thread: modules are imported on whichever. Asks, and decides nothing. Imported into the
program itself, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys
import time
from types import CodeType, ModuleType

from .._common.own_writes import Author, source_hash

TYPE_CHECKING = False  # `typing` costs 2 ms, a quarter of what we may add to a program's start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import FrameType, TracebackType
    from typing import Any

    # A path, and when the interpreter read it, or shortly before (nanoseconds since the epoch).
    Note = Callable[[str, int], object]
    Listener = Callable[[tuple[Any, ...]], None]

UNKNOWN = 1  # for a time that nobody has told yet
# The clock that stamps files ticks coarsely: a file may seem this much older than it is.
TICK = 10_000_000  # nanoseconds

# To ask each of thousands of modules again, for every new one, would hold up the loop.
ENOUGH = 100  # modules in a row that were asked before: the others were, too

MOST_OPENED = 1000  # files to remember the reading of
WRITTEN = 0  # instead of when that was

SPAWNS = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system")
WRITING = os.O_WRONLY | os.O_RDWR
# Where Python's own loaders are from: of files, of bytecode, of archives, of what is built in.
LOADERS = ("_frozen_importlib", "_frozen_importlib_external", "zipimport")
CODE = (".py", ".pyw", ".pyc", ".so", ".pyd")


class Imports:
    """Notes each file the interpreter runs code from, when it does.

    A finder on `sys.meta_path` alone would miss what is loaded without one, or claimed by a
    finder put before it (pytest's rewritten tests). An audit hook sees all, but cannot be
    removed: it must stay tiny, and `note` must never raise.
    """

    def __init__(self) -> None:
        # When the program did. What came from bytecode may be older than its file by as much:
        # Python trusts bytecode if the size of the file and the second of its time are the same.
        self.began = UNKNOWN
        self._note: Note | None = None
        self._wrote: Callable[[str], object] = lambda path: None
        self._noted: dict[str, int] = {}  # while there was nobody to take note
        self._known: set[str] = set()
        self._asked: dict[str, int] = {}  # names of modules whose files are known: identities
        self._missed: set[str] = set()
        self._compiled: dict[str, int] = {}
        self.author = Author()
        self._opened: dict[str, int] = {}  # by the program, and when; the latest come last
        self._has_started = False
        self._listeners: dict[str, Listener | None] = {
            "exec": self._on_exec,
            "import": self._on_import,
            "compile": self._on_compile,
            "open": self._on_open,
            "os.rename": self._on_rename,
            **dict.fromkeys(SPAWNS, self._on_spawn),
        }
        sys.addaudithook(self._hook)
        sys.meta_path.append(_Missing(self))

    def begin(self, note: Note, wrote: Callable[[str], object] = lambda path: None) -> None:
        """Tell *note* of each file from now on; `so_far` tells of the others.

        *wrote* is told of each file written while the program starts; of none by its name if
        another program was run.
        """
        self._note = note
        self._wrote = wrote

    def listen(self, event: str, listener: Listener | None) -> Listener | None:
        """Have *listener* called with the arguments of an audit *event*; None for no more.

        Returns who was called until now.
        """
        before = self._listeners.get(event)
        self._listeners[event] = listener
        return before

    def files(self) -> list[str]:
        """Return what was noted so far, by the names the code goes by."""
        return list(self._known)

    def end(self) -> None:
        """Tell nobody any more, and forget what was told."""
        self._note = None
        self._known.clear()
        self._asked.clear()
        self._missed.clear()

    def so_far(self, unknown: int) -> Iterator[tuple[str, int]]:
        """Yield each file that nobody was told of, and when it was read, if not *unknown*.

        `sys.modules` may hold anything and may grow meanwhile. Modules are read without waking
        them: no property, no `__getattr__`, no lazy import runs.
        """
        for noted in list(self._noted):
            if read := self._noted.pop(noted, 0):  # or another thread has just told of it
                yield noted, unknown if read == UNKNOWN else read
        found = []
        familiar = 0
        for name in reversed(list(sys.modules)):  # the latest come last
            module = sys.modules.get(name)
            if self._asked.get(name) == id(module):
                familiar += 1
                if familiar == ENOUGH:
                    break
            elif path := _file(module):
                familiar = 0
                self._asked[name] = id(module)
                if path not in self._known:
                    self._known.add(path)
                    found.append(path)
        for path in reversed(found):
            yield path, unknown

    def read_at(self, path: str) -> int:
        """Return when the program last opened the file *path* to read it, or now: it is about to.

        Also if it may have written the file itself.
        """
        now = time.time_ns()
        if os.path.isdir(path) or self.author.may_have_written(path):
            return now
        name = os.path.basename(path)
        opened = [(one, read) for one, read in list(self._opened.items()) if one.endswith(name)]
        try:
            reads = [read for one, read in opened if absolute(one) == path]
        except OSError:  # the working directory was removed
            return now
        return reads[-1] - TICK if reads and WRITTEN not in reads else now

    def has_started(self) -> None:
        """Take no interest any more in what the program writes, but for code.

        It is up; or it may have written anything by now.
        """
        self._has_started = True
        for event in SPAWNS:
            self._listeners.pop(event, None)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if listener := self._listeners.get(event):
            try:
                listener(arguments)
            except Exception:  # what the event is about must not fail for our sake
                return

    def _on_exec(self, arguments: tuple[Any, ...]) -> None:
        code = arguments[0]
        if type(code) is CodeType and code.co_filename not in self._known:
            self._ran(code.co_filename)

    def _on_import(self, arguments: tuple[Any, ...]) -> None:
        if type(arguments[1]) is str:  # the file of an extension module
            self._ran(arguments[1])

    def _on_compile(self, arguments: tuple[Any, ...]) -> None:
        code, name = arguments
        if type(name) is not str or not name.endswith(".py"):
            return
        # The file was read just before; it runs only after it was compiled.
        now = time.time_ns()
        if name not in self._known and _is_imported(name):
            # It is told now: it may not compile, and then it never runs.
            path = absolute(name)
            self._known.add(name)
            self.author.note_read(path, source_hash(code), now)
            self._tell(path, now)
        else:
            self._compiled[name] = now

    def _on_open(self, arguments: tuple[Any, ...]) -> None:
        name, _, flags = arguments
        if type(name) is not str:
            return
        if name.endswith(".pyc") and "__pycache__" not in name:
            self._ran(name)
        if type(flags) is int and flags & WRITING:
            self._write(name)
        elif "__pycache__" not in name:
            self._note_opened(name, time.time_ns())

    def _note_opened(self, name: str, read: int) -> None:
        """Note when a file was *read* which the program may ask to be watched, or WRITTEN."""
        before = self._opened.pop(name, read)
        self._opened[name] = WRITTEN if before == WRITTEN else read
        if len(self._opened) > MOST_OPENED:
            del self._opened[next(iter(self._opened))]

    def _on_rename(self, arguments: tuple[Any, ...]) -> None:
        if type(arguments[1]) is str:
            self._write(arguments[1])

    def _write(self, name: str) -> None:
        if "__pycache__" in name:  # Python writes as many as it imports
            return
        self._note_opened(name, WRITTEN)
        if not self._has_started or name.endswith(CODE):
            path = absolute(name)
            self.author.note_written(path)
            self._wrote(path)

    def _on_spawn(self, arguments: tuple[Any, ...]) -> None:
        self.author.note_spawned()
        self._wrote("")

    def _ran(self, name: str) -> None:
        # Templates are compiled under their own names, and their engines reload them.
        if name.endswith(CODE) and name not in self._known:
            self._known.add(name)
            otherwise = self.began if name.endswith(".py") else time.time_ns()
            self._tell(absolute(name), self._compiled.pop(name, 0) or otherwise)

    def _tell(self, path: str, read: int) -> None:
        if read != UNKNOWN:
            read -= TICK
        # First noted, then told: whoever begins to listen meanwhile misses nothing.
        self._noted[path] = read
        if self._note and self._noted.pop(path, None):
            self._note(path, read)

    def missed(self, name: str, path: Sequence[str] | None) -> None:
        """Note where the module *name*, which could not be found, would be."""
        if name in self._missed:
            return
        self._missed.add(name)
        last = name.rpartition(".")[2]
        for directory in list(sys.path if path is None else path):
            if type(directory) is str:
                place = os.path.join(absolute(directory), last)
                for candidate in (place + ".py", place, os.path.join(place, "__init__.py")):
                    self._tell(candidate, time.time_ns())


class _Missing:
    """The last finder of all: it is asked only for what no other has found."""

    def __init__(self, imports: Imports) -> None:
        self._imports = imports

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        try:
            self._imports.missed(name, path)
        except Exception:  # path may be anything; an import must not fail for our sake
            return None
        return None


def _is_imported(name: str) -> bool:
    """Whether the file *name* is compiled since a module is being imported from it.

    By whatever loader: pytest has one that compiles tests in its own way. Others that compile it,
    or merely parse it, may never run it.
    """
    frame: FrameType | None = sys._getframe(3)
    while frame and frame.f_code.co_name != "exec_module":
        frame = frame.f_back
    spec = getattr(frame and frame.f_locals.get("module"), "__spec__", None)
    return getattr(spec, "origin", None) == name


def imported() -> Iterator[tuple[str, bool, list[str]]]:
    """Yield the name of each module, in the order in which their imports ended.

    With it, whether one of Python's own loaders has loaded it, and the file or directories it
    is from. Modules by another name than their own are left out, and what has no name at all.
    """
    for name, module in list(sys.modules.items()):
        try:
            spec = object.__getattribute__(module, "__dict__").get("__spec__")
            if spec is None or spec.name != name:
                continue
            loader = spec.loader if isinstance(spec.loader, type) else type(spec.loader)
            places = [spec.origin] if spec.has_location else list(_places(spec))
            yield name, loader.__module__ in LOADERS, [absolute(one) for one in places]
        except Exception:  # a hostile module is none to import in advance
            continue


def _places(spec: ModuleSpec) -> Iterable[str]:
    return spec.submodule_search_locations or ()


def is_source(path: str) -> bool:
    """Whether *path* is Python source, by its name."""
    return path.endswith((".py", ".pyw"))


def other_form(path: str) -> str | None:
    """Return where the module in the source file *path* would be as a package, or as no package."""
    directory, name = os.path.split(path)
    if name == "__init__.py":
        return directory + ".py"
    return os.path.join(path.removesuffix(".py"), "__init__.py") if is_source(path) else None


def absolute(path: str) -> str:
    """Return *path* from the root. A ``..`` in it leads up from where a link before it leads."""
    plain = os.path.abspath(path)
    above, up, beneath = f"{path}{os.sep}".rpartition(os.sep + os.pardir + os.sep)
    if up and os.path.realpath(path) != os.path.realpath(plain):
        return os.path.abspath(os.path.join(os.path.realpath(above + up), beneath))
    return plain


def source(path: str) -> str:
    """Return the file to watch for code said to come from *path*, an absolute path.

    For bytecode that is its source, where there is one; inside an archive, the archive.
    """
    if path.endswith((".pyc", ".pyo")) and os.path.exists(path[:-1]):
        return path[:-1]
    if os.path.isfile(path):
        return path
    container = path
    while not os.path.exists(container) and container != os.path.dirname(container):
        container = os.path.dirname(container)
    return container if os.path.isfile(container) else path


def traceback_files(error: BaseException) -> Iterable[str]:
    """Return every file that *error*, its causes and its context passed through.

    A module that fails to import never reaches `sys.modules`, and the file with a syntax error
    never reaches the traceback.
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
        files.update(_forgotten(one))
    return {absolute(path) for path in files if not path.startswith("<")}


def _forgotten(error: BaseException) -> list[str]:
    """Return where the `__init__.py` would be of a package that has none, and is blamed for it."""
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


def _file(module: object) -> str | None:
    try:
        path = object.__getattribute__(module, "__dict__").get("__file__")
        return absolute(os.fsdecode(path)) if path else None
    except Exception:  # whatever a hostile module makes of it: the others stay watched
        return None
