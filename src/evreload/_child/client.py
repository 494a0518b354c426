"""The program's end of story two: under the command, a parent watches for it.

The program's own threads, and none of ours. What the program is made of is reported as it is
imported. What the parent asks for comes with a signal, since a signal reaches the main thread
whatever it does, with a loop or without.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms
import os
import sys
import time

from .._common import process as _process
from .._common import protocol as channel
from .._common import startup as _origin
from .._common.protocol import Pipes
from .._program.hooks import Hooks
from .._program.imports import CODE, absolute, imported, traceback_files
from .drain import FOR_HOOKS, FOR_REQUESTS, FOR_SOCKETS, Preparation

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable
    from socket import socket
    from typing import Any, NoReturn

    from .._common.protocol import Record
    from .._common.run_info import Handover
    from .._program.hooks import Hook
    from .._program.imports import Imports

MOST_WRITES = 100  # reported one by one; a program that writes more may have written anything
VARIABLE = "EVRELOAD_RUN"  # as in _handover, which imports too much
NOW = ",now"  # in the mode: there is nothing to wait for
STREAM = 1  # SOCK_STREAM, without importing `socket`
UNIX = 1  # AF_UNIX
MULTIPROCESSING = f"{os.sep}multiprocessing{os.sep}"


class Child:
    """Serves the front door in a program that runs under the command."""

    is_started = True  # the parent sees to that

    def __init__(self, mode: str, imports: Imports) -> None:
        self._mode = mode
        self._pipes = Pipes(_process.pipes_of(mode), _process.program_of(mode))
        self._imports = imports
        self._hooks = Hooks()
        self._preparation = Preparation(self._pipes, self._hooks)
        self._since = time.time_ns()
        self._parent = os.getppid()
        self._follows = self._forks = self._is_first = self._may_go = False
        self._writes = 0
        self._handover: Handover | None = None
        self._changed: frozenset[str] | None = None
        imports.began = self._since
        imports.begin(self._note, self._on_write)
        imports.listen("socket.bind", self._on_bind)
        if self._pipes.service:
            imports.listen("socket.__new__", self._on_first_socket)
        for path, read in imports.so_far(self._since):
            self._note(path, read)
        self._follow_spawned()  # if whoever forked us has imported multiprocessing

    def wait_for_go(self) -> None:
        """Wait until this run's time comes; end if it never does."""
        self._is_first = not self._mode.endswith(NOW)
        try:
            while self._is_first and not self._may_go:
                self._heed_all(self._pipes.wait())
        except KeyboardInterrupt:
            os._exit(130)
        self._parent = os.getppid()  # only now, if who forked us has ended
        self.hear()
        self._preparation.is_heard = True
        self._since = time.time_ns()
        self._pipes.report(channel.BEGAN)

    def hear(self) -> None:
        """Heed the parent's requests from now on."""
        # By default it does nothing; here it means that there is a request.
        _signal.signal(_signal.SIGURG, self._on_signal)

    # The front door's requests

    @property
    def handover(self) -> Handover:
        """What the parent has told of this run."""
        if self._handover is None:
            from .._common.run_info import Handover

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
        self._pipes.report(channel.WATCH, str(self._imports.read_at(path)), path)

    def bind_sockets(self, port: int, *arguments: Any) -> list[socket]:
        """Bind as Tornado does: the parent keeps whatever listens."""
        from tornado.netutil import bind_sockets

        return bind_sockets(port, *arguments)

    def add_hook(self, hook: Hook) -> None:
        self._hooks.add(hook)
        if self._pipes.are_own:
            self._preparation.wish(FOR_HOOKS)

    def remove_hook(self, hook: Hook) -> None:
        self._hooks.remove(hook)

    def reload(self) -> None:
        """Run the hooks and begin again in this very process, with its environment.

        One of several workers cannot: it has the parent replace them all. Where the hooks run
        already, that is under way.
        """
        if self._hooks.are_running:
            return
        self._hooks.wait_outside_a_loop()
        self._hooks.call()
        if not self._pipes.are_own:
            self._pipes.report(channel.RELOAD)
            self.wait(None)
        if reason := _process.interpreter_missing():
            _cannot_restart(reason)
            return
        from .._common.filestat import changed_since, forget_bytecode

        forget_bytecode(changed_since(self._since, self._imports.files()))
        now = time.time_ns()
        told = self.handover.pass_on((), owner=self._parent, since=now)
        self._pipes.report(channel.RELOADING, str(now))
        _process.set_inheritable(self._pipes.numbers, True)
        try:
            _process.restart({VARIABLE: told}, self._mode.removesuffix(NOW) + NOW)
        except OSError as error:
            _process.set_inheritable(self._pipes.numbers, False)
            self._preparation.wish_again()
            _cannot_restart(error)

    # What the parent asks for

    def _on_signal(self, number: int, frame: object) -> None:
        if self._pipes.are_own:
            self._heed_all(self._pipes.receive())
        else:  # the pipe is for the program's first process
            self._preparation.begin_worker()

    def _heed_all(self, requests: Iterable[Record]) -> None:
        for kind, *words in requests:
            if kind == channel.GO:
                self._go(words)
            elif kind == channel.TELL:
                self._tell_modules()
            elif kind == channel.HOLD:
                self._preparation.hold(lets_in=words[0] == channel.OPEN)
            elif kind == channel.PREPARE:
                self._changed = frozenset(words[1:])
                self._preparation.begin(float(words[0]))

    def _go(self, words: list[str]) -> None:
        grace, began, *handed_over = words
        self._may_go = True
        _origin.INPUT_AT = _origin.input_at()  # until now, the last run may have read on
        self._preparation.grace = float(grace)
        self._imports.began = int(began)
        for told in handed_over:
            os.environ[VARIABLE] = told
            self._is_first = False

    # What the parent learns

    def failed(self, error: BaseException) -> None:
        """Tell which files *error* passed through: a change of any may mend it."""
        for path in traceback_files(error):
            self._pipes.report(channel.FAILED, path)

    def note_script(self, path: str) -> None:
        """Tell what is run next; by its name alone it may not be known for code."""
        self._note(absolute(path), time.time_ns())

    def ended(self) -> None:
        """Tell that the program came to its end by itself."""
        if self._pipes.are_own:
            if _process.WARM in self._mode:
                self._tell_modules()
            self._pipes.report(channel.ENDED)

    def _tell_modules(self) -> None:
        for name, is_plain, places in imported():
            self._pipes.report(channel.MODULE, name, "plain" if is_plain else "other", *places)
        self._pipes.report(channel.MODULES)

    def _note(self, path: str, read: int) -> None:
        content = self._imports.author.content_read(path)
        self._pipes.report(channel.FILE, str(read), path, *([content] if content else []))
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
            if runs_nothing or not all(map(pipes.has_still, pipes.numbers)):
                return spawn(path, command, passfds)
            keeper = self._preparation.keeper
            if keeper and keeper.has_bound():
                self._preparation.wish(FOR_SOCKETS)
            command = _process.worker_command(command, pipes.numbers, pipes.owner)
            return spawn(path, command, [*passfds, *pipes.numbers])

        util.spawnv_passfds = spawnv_passfds

    def _on_write(self, path: str) -> None:
        is_code = path.endswith(CODE)  # which it may import next
        self._writes += not is_code
        if is_code or (path and self._writes <= MOST_WRITES):
            self._pipes.report(channel.WROTE, path)
        else:
            self._pipes.report(channel.SPAWNED)
            self._imports.has_started()

    def _on_bind(self, arguments: tuple[Any, ...]) -> None:
        socket = arguments[0]
        if socket.type == STREAM and socket.family != UNIX:
            self._is_bound()

    def _is_bound(self) -> None:
        self._pipes.report(channel.BOUND, str(time.monotonic()))
        if "tornado.httpserver" in sys.modules:
            self._preparation.wish(FOR_REQUESTS)
            if not self._forks:
                self._forks = True
                os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._imports.listen("socket.__new__", self._on_socket_of_worker)

    def _on_socket_of_worker(self, arguments: tuple[Any, ...]) -> None:
        """Take a pair of sockets for a new loop's: this process serves."""
        if arguments[1] == UNIX:
            self._imports.listen("socket.__new__", None)
            self._preparation.wish(FOR_REQUESTS)

    def _on_first_socket(self, arguments: object) -> None:
        """Only now is there a class to intercept: it is not imported for our sake."""
        self._imports.listen("socket.__new__", None)
        (service,) = self._pipes.service
        if not self._pipes.has_still(service):
            return
        from .._program.kept_sockets import Keeper

        keeper = Keeper(service, self._is_bound, may_claim=not self._is_first)
        keeper.intercept()
        self._preparation.keeper = keeper


def _cannot_restart(reason: object) -> None:
    import logging  # which the program may do without

    from .._common.log import KEPT

    logging.getLogger("evreload").error("cannot restart: %s; %s", reason, KEPT)
