"""Warm restarts: a process that has imported what does not change, and forks the program.

Its only thread. It imports what the last run imported from outside the project, then waits to
be told to fork; what it forks is the program, before its first line. Nothing may be in it that
a fork would not survive, or that is not as it would be in a cold start. Linux only.
"""

from __future__ import annotations

import _socket
import _thread
import gc
import os
import sys

from . import _channel, _process
from ._channel import Records, pack

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType
    from typing import Any

    from ._modules import Imports

TEMPORARY = ("tempfile.mkstemp", "tempfile.mkdtemp")
THREADS = ("_thread.start_new_thread", "_thread.start_joinable_thread")  # from Python 3.12 on
MAKING = (*TEMPORARY, *THREADS, "socket.__new__", "os.chdir")
WISHES = (_channel.OUTSIDE, _channel.INSIDE, _channel.COLD, _channel.PRELOAD)
MOST_PIPES = 3
MEMORY = "/dev/shm/"  # unlike a device, it has a content
LONGEST_REASON = 200  # characters


class Cold(BaseException):
    """A module that may not be in here is about to be imported; nobody is meant to catch it."""


class ForkServer:
    """Told what to import through the pipes of a run, and then, as often as wished, to fork."""

    def __init__(self, mode: str, imports: Imports) -> None:
        self._reports, self._requests, self._service = _process.pipes_of(mode)
        for descriptor in (self._reports, self._requests, self._service):
            os.set_inheritable(descriptor, False)
        self._records = Records()
        self._imports = imports

    def serve(self) -> str:
        """Import, then fork; return in each fork, with the mode of the program it is to be."""
        try:
            self._preload()
            while True:
                for record in self._receive():
                    if record[0] == _channel.FORK and (mode := self._fork()):
                        return mode
        except KeyboardInterrupt:
            os._exit(130)
        except OSError:  # the supervisor has died while it was told something, or no fork works
            os._exit(1)

    def _report(self, *record: str) -> None:
        os.write(self._reports, pack(record))

    def _receive(self) -> Iterable[_channel.Record]:
        if data := os.read(self._requests, 1 << 16):
            return self._records.feed(data)
        os._exit(0)  # the supervisor has let go of us, or died

    # Imports

    def _preload(self) -> None:
        import warnings

        wishes: dict[str, list[str]] = {kind: [] for kind in WISHES}
        while not wishes[_channel.PRELOAD]:
            for kind, *words in self._receive():
                wishes[kind] += words
        if _thread._count():  # of sitecustomize, say
            self._report(_channel.UNFIT, "Python starts a thread before the program begins")
        was_batch = _schedule(os.SCHED_OTHER, os.SCHED_BATCH)  # nobody waits for us
        self._imports.begin(lambda path, read: self._report(_channel.FILE, str(read), path))
        for path, read in self._imports.so_far(_process.STARTED):
            self._report(_channel.FILE, str(read), path)
        outside = Outside(wishes[_channel.OUTSIDE], wishes[_channel.INSIDE])
        guard = Guard(self._imports, outside, wishes[_channel.COLD])
        silence = ("ignore", None, Warning, None, 0)  # the first run has warned already
        warnings.filters.insert(0, silence)  # type: ignore[attr-defined]
        for name in wishes[_channel.PRELOAD]:
            self._report(_channel.LOADING, name)
            guard.load(name)
        guard.dismiss()
        # Not one that is merely equal: a package may want silence, too.
        warnings.filters[:] = [one for one in warnings.filters if one is not silence]  # type: ignore[index]
        for name, why in guard.left_out.items():
            self._report(_channel.LEFT_OUT, name, why)
        if was_batch:
            _schedule(os.SCHED_BATCH, os.SCHED_OTHER)
        self._get_ready(outside)
        self._report(_channel.READY)

    def _get_ready(self, outside: Outside) -> None:
        if "socket" in sys.modules:
            from . import _sockets  # noqa: F401  # the program would, at its first socket
        _forget_directories(outside)
        _process.flush()  # or every fork would write it
        gc.collect()
        gc.freeze()  # or each collection would copy all of it, for its marks

    # Forks

    def _fork(self) -> str | None:
        """Fork the program as a child of the supervisor's; return None in this process.

        It is forked by a fork, whose end makes an orphan of it: these come to the supervisor.
        """
        pipes = self._receive_pipes()
        receiver, sender = os.pipe()
        between = _fork_quietly()
        if between == 0:
            program = _fork_quietly()
            if program == 0:
                for descriptor in (receiver, sender, *self._own()):
                    os.close(descriptor)
                self._imports.forget_writes()
                return _process.mode_for(pipes, warm=True)
            os.write(sender, str(program).encode())
            os._exit(0)
        for descriptor in (sender, *pipes):
            os.close(descriptor)
        os.waitpid(between, 0)
        told = os.read(receiver, 32)
        os.close(receiver)
        if not told:
            raise ChildProcessError("there is no room for another process")
        self._report(_channel.FORKED, told.decode())
        return None

    def _own(self) -> tuple[int, ...]:
        return self._reports, self._requests, self._service

    def _receive_pipes(self) -> list[int]:
        # Not `socket`: the program may not have imported it.
        service = _socket.socket(fileno=self._service)
        try:
            space = _socket.CMSG_SPACE(4 * MOST_PIPES)
            _, ancillary, _, _ = service.recvmsg(64, space)
        finally:
            service.detach()
        data = ancillary[0][2]
        return [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]


class Outside:
    """Tells what lies outside the project: of all directories around a file the innermost says."""

    def __init__(self, outside: Iterable[str], inside: Iterable[str]) -> None:
        told = {**dict.fromkeys(outside, True), **dict.fromkeys(inside, False)}
        self._roots = sorted(told.items(), key=lambda one: len(one[0]), reverse=True)

    def directories(self, are_outside: bool) -> list[str]:
        """Return what was told, to tell somebody else."""
        return [root for root, is_outside in self._roots if is_outside == are_outside]

    def __contains__(self, path: str) -> bool:
        for root, is_outside in self._roots:
            if path == root or path.startswith(root.rstrip(os.sep) + os.sep):
                return is_outside
        return False


class Guard:
    """Imports what may be preloaded, and finds what may not, with all that imports it.

    What was found is in `left_out`, with the reason; by then part of it has run, so that this
    process must not be forked.
    """

    def __init__(self, imports: Imports, outside: Outside, cold: Iterable[str]) -> None:
        self._imports = imports
        self._outside = outside
        self._cold = set(cold)
        self._latest: list[str] = []  # what was imported when last we looked, outermost first
        self._makers: dict[str, list[str]] = {}  # of traces: what was imported then
        self._temporary: set[str] = set()
        self.left_out: dict[str, str] = {}
        self._on_exec = imports.listen("exec", self._check_file)
        for event in MAKING:
            imports.listen(event, self._look_now)
        for event in TEMPORARY:
            imports.listen(event, self._note_temporary)
        sys.meta_path.insert(0, self)

    def dismiss(self) -> None:
        """Let everything be imported again."""
        sys.meta_path.remove(self)
        self._imports.listen("exec", self._on_exec)
        for event in MAKING:
            self._imports.listen(event, None)

    def load(self, name: str) -> None:
        """Import the module *name*, unless it is left out."""
        if name in sys.modules or self._is_cold(name):
            return
        known = set(self.left_out)
        self._latest = [name]
        before = self._traces()
        self._makers = {trace: [] for trace in before}
        try:
            __import__(name)
        except Cold:
            self.left_out.setdefault(name, "it imports what is left out")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too
            why = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
            self._leave_out(why, _modules(_frames_of(error)) or [name])
        self._look([])
        for trace, why in self._traces().items():
            if trace not in before:
                self._leave_out(why, self._makers.get(trace) or [name])
        for found in self.left_out.keys() - known:
            self._cold.add(found)
            sys.modules.pop(found, None)  # whoever imports it next shall be found, too

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse to find what is left out."""
        importing = _modules(_frames())
        if self._is_cold(name):
            self._leave_out(f"it imports {name}", importing)
            raise Cold(name)
        self._look([*importing, name])

    def _is_cold(self, name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[: i + 1]) in self._cold for i in range(len(parts)))

    def _check_file(self, arguments: tuple[Any, ...]) -> None:
        if self._on_exec:
            self._on_exec(arguments)
        name = getattr(arguments[0], "co_filename", "")
        if name.endswith((".py", ".pyc")) and os.path.abspath(name) not in self._outside:
            self._leave_out(f"it runs {name}", _modules(_frames()))

    def _look_now(self, arguments: object) -> None:
        self._look(_modules(_frames()))

    def _note_temporary(self, arguments: tuple[Any, ...]) -> None:
        self._look_now(arguments)
        self._temporary.add(arguments[0])

    def _look(self, importing: list[str]) -> None:
        """Take what was imported until now for the maker of what has come to be since.

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
        traces[f"in {_process.directory()}"] = "it changes the working directory"
        return traces

    def _leave_out(self, why: str, chain: list[str]) -> None:
        """Leave out those of *chain*: the last because of *why*."""
        for outer, inner in zip(chain, chain[1:], strict=False):  # noqa: RUF007  # itertools
            self.left_out.setdefault(outer, f"it imports {inner}")
        if chain:
            self.left_out.setdefault(chain[-1], why)


def _frames() -> Iterator[FrameType]:
    """Yield the frames of whoever calls, innermost first."""
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


def _schedule(usual: int, other: int) -> bool:
    """Be scheduled in the *other* way, if it is in the *usual* one; return whether that worked.

    Not by `os.nice`, which only root can take back.
    """
    try:
        if os.sched_getscheduler(0) == usual:
            os.sched_setscheduler(0, other, os.sched_param(0))
            return True
    except OSError:  # a container may forbid it
        pass
    return False


def _forget_directories(outside: Outside) -> None:
    """Forget what the project's directories and archives hold: it will be something else."""
    archives = getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {})
    for path in list(sys.path_importer_cache):
        if os.path.abspath(path) not in outside:
            del sys.path_importer_cache[path]
            archives.pop(path, None)


def _fork_quietly() -> int:
    """Fork without Python's warning of native threads, like OpenBLAS's, which care for it."""
    import warnings

    filters = warnings.filters[:]
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        return os.fork()
    finally:
        warnings.filters[:] = filters  # type: ignore[index]
