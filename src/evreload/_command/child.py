"""The program's end of story two: under the command, a parent watches for it.

The program's own threads, and none of ours. What the program is made of is reported as it is
imported. Its reload hooks run when the parent asks for it, by a signal, since a signal reaches
the main thread whatever it does, with a loop or without.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms
import os
import sys
import time

from .. import _process
from .._hooks import Hooks
from .._modules import imported, traceback_files
from . import channel
from .channel import Records, pack

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable
    from socket import socket
    from typing import Any, NoReturn

    from .._handover import Handover
    from .._hooks import Hook
    from .._modules import Imports
    from .sockets import Keeper

MOST_WRITES = 100  # reported one by one; a program that writes more may have written anything
VARIABLE = "EVRELOAD_RUN"  # as in _handover, which imports too much
GRACE = 1.0  # seconds for the requests of workers, if the parent has not said
NOW = ",now"  # in the mode: there is nothing to wait for
FOR_HOOKS = 7.0  # seconds; coroutine hooks have less, and say so themselves
FOR_REQUESTS = 1.0  # seconds, beyond the grace, to notice that they are answered
FOR_SOCKETS = 1.0  # seconds, to see which sockets were handed to workers that listen on them
STREAM = 1  # SOCK_STREAM, without importing `socket`
UNIX = 1  # AF_UNIX
MULTIPROCESSING = f"{os.sep}multiprocessing{os.sep}"


class Child:
    """Serves the front door in a program that runs under the command."""

    is_started = True  # the parent sees to that

    def __init__(self, mode: str, imports: Imports) -> None:
        self._mode = mode
        self._pipes = _process.pipes_of(mode)
        self._reports, self._requests, *self._service = self._pipes
        _process.set_inheritable(self._pipes, False)
        self._records = Records()
        self._imports = imports
        self._hooks = Hooks()
        self._identities = {pipe: _process.identity(pipe) for pipe in self._pipes}
        self._since = time.time_ns()
        self._keeper: Keeper | None = None
        self._pid = _process.program_of(mode) or os.getpid()
        self._parent = os.getppid()
        self._follows = self._forks = self._is_first = False
        self._writes = 0
        self._grace = GRACE
        self._hears = False  # what the parent asks for
        self._wished: dict[int, float] = {}  # by this process, and those it was forked from
        self._handover: Handover | None = None
        self._changed: frozenset[str] | None = None
        imports.began = self._since
        imports.begin(self._note, self._on_write)
        imports.listen("socket.bind", self._on_bind)
        if self._service:
            imports.listen("socket.__new__", self._on_first_socket)
        for path, read in imports.so_far(self._since):
            self._note(path, read)
        self._follow_spawned()  # if whoever forked us has imported multiprocessing

    def wait_for_go(self) -> None:
        """Wait until this run's time comes; end if it never does."""
        self._is_first = not self._mode.endswith(NOW)
        if self._is_first:
            try:
                self._go()
            except KeyboardInterrupt:
                os._exit(130)
        self._parent = os.getppid()  # only now, if who forked us has ended
        os.set_blocking(self._requests, False)
        self.hear()
        self._hears = True
        self._since = time.time_ns()
        if _process.WARM in self._mode:
            self._report(channel.BEGAN)

    def hear(self) -> None:
        """Heed the parent's requests from now on."""
        # By default it does nothing; here it means that there is a request.
        _signal.signal(_signal.SIGURG, self._on_signal)

    def _go(self) -> None:
        while data := os.read(self._requests, 1 << 16):
            for record in self._records.feed(data):
                if record[0] == channel.GO:
                    self._grace = float(record[1])
                    self._imports.began = int(record[2])
                    for told in record[3:]:
                        os.environ[VARIABLE] = told
                        self._is_first = False
                    return
        os._exit(0)  # the parent has let go of us, or died

    @property
    def _is_the_program(self) -> bool:
        """Whether this is no worker, which has inherited a copy of everything."""
        return os.getpid() == self._pid

    # The front door's requests

    @property
    def handover(self) -> Handover:
        """What the parent has told of this run."""
        if self._handover is None:
            from .._handover import Handover

            self._handover = Handover.received(self._parent, self._since)
        return self._handover

    @property
    def changed(self) -> frozenset[str]:
        return self.handover.changed if self._changed is None else self._changed

    def start(self, settings: object) -> None:
        """Do nothing: the parent has been watching all along."""

    def stop(self) -> None:
        """Do nothing: whoever gave the command wants it watched."""

    def wait(self, settings: object) -> NoReturn:
        """Wait for the parent to replace this process."""
        while True:
            time.sleep(3600)

    def watch(self, path: str) -> None:
        self._report(channel.WATCH, str(time.time_ns()), path)

    def bind_sockets(self, port: int, *arguments: Any) -> list[socket]:
        """Bind as Tornado does: the parent keeps whatever listens."""
        from tornado.netutil import bind_sockets

        return bind_sockets(port, *arguments)

    def add_hook(self, hook: Hook) -> None:
        self._hooks.add(hook)
        if self._is_the_program:
            self._wish(FOR_HOOKS)

    def remove_hook(self, hook: Hook) -> None:
        self._hooks.remove(hook)

    def reload(self) -> None:
        """Run the hooks and begin again in this very process, with its environment.

        One of several workers cannot: it has the parent replace them all.
        """
        self._hooks.wait_outside_a_loop()
        self._hooks.call()
        if not self._is_the_program:
            self._report(channel.RELOAD)
            self.wait(None)
        if reason := _process.interpreter_missing():
            _cannot_restart(reason)
            return
        from .._files import changed_since, forget_bytecode

        forget_bytecode(changed_since(self._since, self._imports.files()))
        now = time.time_ns()
        told = self.handover.pass_on((), owner=self._parent, since=now)
        self._report(channel.RELOADING, str(now))
        _process.set_inheritable(self._pipes, True)
        try:
            _process.restart({VARIABLE: told}, self._mode.removesuffix(NOW) + NOW)
        except OSError as error:
            _process.set_inheritable(self._pipes, False)
            for pid, seconds in self._wished.items():
                self._report(channel.WISHES, str(seconds), str(pid))
            _cannot_restart(error)

    # What the parent learns

    def failed(self, error: BaseException) -> None:
        """Tell which files *error* passed through: a change of any may mend it."""
        for path in traceback_files(error):
            self._report(channel.FAILED, path)

    def ended(self) -> None:
        """Tell that the program came to its end by itself."""
        if self._is_the_program:
            if _process.WARM in self._mode:
                self._tell_modules()
            self._report(channel.ENDED)

    def _tell_modules(self) -> None:
        for name, is_plain, places in imported():
            self._report(channel.MODULE, name, "plain" if is_plain else "other", *places)
        self._report(channel.MODULES)

    def _report(self, *record: str) -> None:
        try:
            if self._has_still(self._reports):
                os.write(self._reports, pack(record))
        except OSError:  # the parent has died, and we shall shortly
            return

    def _has_still(self, pipe: int) -> bool:
        """Whether *pipe* is what it was."""
        try:
            return _process.identity(pipe) == self._identities[pipe]
        except OSError:  # it was closed
            return False

    def _note(self, path: str, read: int) -> None:
        self._report(channel.FILE, str(read), path)
        if MULTIPROCESSING in path:
            self._follow_spawned()

    def _follow_spawned(self) -> None:
        """Have the interpreters that multiprocessing starts report, too: no fork of us, they."""
        util: Any = sys.modules.get("multiprocessing.util")
        spawn = getattr(util, "spawnv_passfds", None)  # not yet, while it is being imported
        if spawn is None or self._follows:
            return
        self._follows = True
        pipes = self._pipes

        def spawnv_passfds(path: bytes, args: Iterable[Any], passfds: Iterable[int]) -> Any:
            command = [os.fsdecode(argument) for argument in args]
            runs_nothing = any("resource_tracker" in argument for argument in command)
            if runs_nothing or not all(map(self._has_still, pipes)):
                return spawn(path, command, passfds)
            if self._keeper and self._keeper.has_bound():
                self._wish(FOR_SOCKETS)
            command = _process.worker_command(command, pipes, self._pid)
            return spawn(path, command, [*passfds, *pipes])

        util.spawnv_passfds = spawnv_passfds

    def _on_write(self, path: str) -> None:
        self._writes += 1
        if path and self._writes <= MOST_WRITES:
            self._report(channel.WROTE, path)
        else:
            self._report(channel.SPAWNED)
            self._imports.has_started()

    def _on_bind(self, arguments: tuple[Any, ...]) -> None:
        socket = arguments[0]
        if socket.type == STREAM and socket.family != UNIX:
            self._is_bound()

    def _is_bound(self) -> None:
        self._report(channel.BOUND, str(time.monotonic()))
        if "tornado.httpserver" in sys.modules:
            self._wish(FOR_REQUESTS)
            if not self._forks:
                self._forks = True
                os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._imports.listen("socket.__new__", self._on_socket_of_worker)

    def _on_socket_of_worker(self, arguments: tuple[Any, ...]) -> None:
        """Take a pair of sockets for a new loop's: this process serves."""
        if arguments[1] == UNIX:
            self._imports.listen("socket.__new__", None)
            self._wish(FOR_REQUESTS)

    def _on_first_socket(self, arguments: object) -> None:
        """Only now is there a class to intercept: it is not imported for our sake."""
        self._imports.listen("socket.__new__", None)
        if not self._has_still(self._service[0]):
            return
        from .sockets import Keeper

        self._keeper = Keeper(self._service[0], self._is_bound, may_claim=not self._is_first)
        self._keeper.intercept()

    # Before the end

    def _wish(self, seconds: float) -> None:
        """Ask to be asked to prepare for the end, and for the time to do it."""
        pid = os.getpid()
        if self._hears and seconds > self._wished.get(pid, 0):
            self._wished[pid] = seconds
            self._report(channel.WISHES, str(seconds), str(pid))

    def _on_signal(self, number: int, frame: object) -> None:
        if not self._is_the_program:  # the pipe is for the program's first process
            if self._wished.pop(os.getpid(), 0):
                self._prepare(self._grace)
            else:
                self._hold()
            return
        try:
            data = os.read(self._requests, 1 << 16)
        except BlockingIOError:
            return  # somebody's urgent data
        for kind, *words in self._records.feed(data):
            if kind == channel.TELL:
                self._tell_modules()
            elif kind == channel.HOLD:
                self._hold()
            elif kind == channel.PREPARE:
                self._changed = frozenset(words[1:])
                self._prepare(float(words[0]))

    def _hold(self) -> None:
        if self._keeper:
            from .hold import hold

            hold(self._keeper.unkept())
        if self._is_the_program:
            self._report(channel.HOLDS)

    def _prepare(self, grace: float) -> None:
        if self._keeper:
            self._keeper.keep_what_listens()
        asyncio = sys.modules.get("asyncio")
        try:
            loop = asyncio.get_running_loop() if asyncio else None
        except RuntimeError:
            loop = None
        if loop:
            # The loop sleeps, and the signal alone does not wake it.
            loop.call_soon_threadsafe(self._begin_to_prepare, loop, grace)
        else:
            try:
                if self._is_the_program:
                    self._hooks.wait_outside_a_loop()
                self._call_hooks([], is_held=False)
            except SystemExit:
                self._report(channel.LEFT)
                raise

    def _begin_to_prepare(self, loop: asyncio.AbstractEventLoop, grace: float) -> None:
        self._task = loop.create_task(self._prepare_on_the_loop(grace))

    async def _prepare_on_the_loop(self, grace: float) -> None:
        unfinished = []
        is_held = False
        if "tornado.httpserver" in sys.modules and grace:
            from .._grace import Grace

            servers = Grace()
            unfinished = await servers.finish(grace)
            is_held = servers.are_paused
        try:
            if self._is_the_program:
                await self._hooks.wait()
            self._call_hooks(unfinished, is_held=is_held)
        except SystemExit:
            self._report(channel.LEFT)
            raise

    def _call_hooks(self, unfinished: list[str], *, is_held: bool) -> None:
        if self._is_the_program:
            self._hooks.call()
        door = channel.HELD if is_held else channel.OPEN
        self._report(channel.PREPARED, str(os.getpid()), door, *unfinished)


def _cannot_restart(reason: object) -> None:
    import logging  # which the program may do without

    from .._console import KEPT

    logging.getLogger("evreload").error("cannot restart: %s; %s", reason, KEPT)
