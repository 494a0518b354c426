"""The client of the supervisor, in the program: it sends and receives messages.

It has no thread of its own. It sends the name of each file when Python imports it. With each
message, the supervisor sends SIGURG: a signal reaches the main thread whatever that does, with a
loop or without.

Runs in: the program, under the supervisor, and its workers. It sends messages on any thread, and
receives them on the main thread.
Owns: the pipes to the supervisor, and the handler of SIGURG.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of it, for 5 ms
import sys
import time

from .._common import protocol, spawn, startup, terminal
from .._common.paths import absolute
from .._common.protocol import Pipes
from .._common.role import PROGRAM, RESTARTED, WORKER, Role
from .._common.source import CODE_SUFFIXES
from .._common.spawn import RUN_INFO_VARIABLE, SUPERVISOR_VARIABLE
from .._common.unpatched import os
from .._program.hooks import Hooks
from .drain import TIME_FOR_HOOKS, TIME_FOR_REQUESTS, TIME_FOR_SOCKETS, ProgramDrain
from .exec_interceptor import ExecInterceptor

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable
    from socket import socket
    from typing import Any, NoReturn

    from .._common.run_info import RunInfo
    from .._program.earlier_children import EarlierChildren
    from .._program.hooks import Hook
    from .._program.imports import Imports

MAX_WRITES = 100  # files that are sent; a program that writes more may have written any file
SOCK_STREAM = 1  # without importing `socket`
AF_UNIX = 1
MULTIPROCESSING = f"{os.sep}multiprocessing{os.sep}"


class Client:
    """The backend of a program that runs under the supervisor."""

    is_started = True  # the supervisor watches from the beginning

    def __init__(self, role: Role, imports: Imports) -> None:
        self._role = role
        self._pipes = Pipes(role.pipes, role.program)
        self._imports = imports
        self._hooks = Hooks()
        self._drain = ProgramDrain(self._pipes, self._hooks, role.grace)
        self._started_ns = time.time_ns()
        self._supervisor = _supervisor()
        self._earlier_children: EarlierChildren | None = None
        if role.kind == RESTARTED:
            from .._program.earlier_children import EarlierChildren

            self._earlier_children = EarlierChildren()
        self._lists_modules = role.lists_modules
        self._full_exit = role.full_exit
        self._is_stopped = False  # the process that owns the pipes
        self._is_released = self._is_first_run = False
        self._has_patched_multiprocessing = self._observes_forks = False
        self._has_own_reloader = False
        self._prefixes: set[str] = set()  # those of `Imports.bytecode_prefixes` that were sent
        self._writes = 0  # of files that are not code
        self._run_info: RunInfo | None = None
        self._changed: frozenset[str] | None = None
        imports.started_ns = self._started_ns
        imports.begin(self._send_file, self._send_write, self._on_process)
        imports.set_listener("socket.bind", self._on_bind)
        if self._pipes.service:
            imports.set_listener("socket.__new__", self._on_first_socket)
        else:
            self._observe_sockets_of_worker()
        for path, read_ns in imports.unreported(self._started_ns):
            self._send_file(path, read_ns)
        self._patch_multiprocessing()  # the fork server may have imported it

    def wait_for_release(self) -> None:
        """Wait until the supervisor lets this run begin; end the process if it closes the pipe."""
        waits = self._role.kind == PROGRAM
        self._is_first_run = waits  # unless the release has information of a previous run
        try:
            while waits and not self._is_released:
                self._handle_all(self._pipes.wait())
        except KeyboardInterrupt:
            os._exit(130)
        startup.take_identity(self._supervisor)
        startup.PASSED_SOCKETS = startup.PassedSockets()
        self.begin()
        interceptor = ExecInterceptor(self._pipes)
        interceptor.intercept()
        self._imports.set_listener("os.exec", interceptor.on_exec)
        self._started_ns = time.time_ns()
        self._pipes.send(protocol.Started())

    def begin(self) -> None:
        """Receive messages whenever SIGURG comes, which does nothing by default."""
        _signal.signal(_signal.SIGURG, self._on_signal)
        self._drain.can_ask = True

    # The backend

    @property
    def run_info(self) -> RunInfo:
        """What the supervisor passed to this run."""
        if self._run_info is None:
            from .._common.run_info import RunInfo

            self._run_info = RunInfo.from_environment(self._supervisor, self._started_ns)
        return self._run_info

    @property
    def changed(self) -> frozenset[str]:
        """The changed paths that led to the restart under way, else to this run."""
        return self.run_info.changed if self._changed is None else self._changed

    def start(self, settings: object) -> None:
        """Do nothing: the supervisor watches already."""

    def stop(self) -> None:
        """Do nothing: the user of the command wants it to watch."""

    def wait(self, settings: object) -> NoReturn:
        """Wait for the supervisor to replace this process."""
        while True:
            time.sleep(3600)

    def watch(self, path: str) -> None:
        """Have the supervisor watch *path*, too."""
        self._pipes.send(protocol.WatchRequested(path, self._imports.last_read_ns(path)))

    def bind_sockets(self, port: int, *arguments: Any) -> list[socket]:
        """Bind as Tornado does: the supervisor keeps all sockets that listen."""
        from tornado.netutil import bind_sockets

        return bind_sockets(port, *arguments)

    def add_hook(self, hook: Hook) -> None:
        """Add *hook*, and ask the supervisor for the time to run it."""
        self._hooks.add(hook)
        if self._pipes.are_own:
            self._drain.need(TIME_FOR_HOOKS)

    def remove_hook(self, hook: Hook) -> None:
        """Remove *hook*. Raises ValueError if it was not added."""
        self._hooks.remove(hook)

    def reload(self) -> None:
        """Run the hooks and restart in place, with the environment of this process.

        A worker asks the supervisor to restart the whole program instead. If a restart is under way
        already, this does nothing.
        """
        if self._hooks.are_running or self._drain.has_begun:
            return
        self._hooks.run_coroutines_outside_loop()
        self._hooks.run_ordinary()
        if not self._pipes.are_own:
            self._pipes.send(protocol.RestartRequested())
            self.wait(None)
        if reason := startup.missing_interpreter():
            _log_failed_restart(reason)
            return
        self._restart_in_place()

    def _restart_in_place(self) -> None:
        from .._common.filestat import changed_since
        from .._common.source import delete_bytecode
        from .._program.restart import restart

        changed = changed_since(self._started_ns, self._imports.files())
        delete_bytecode(changed, self._imports.bytecode_prefixes)
        now = time.time_ns()
        _, run_info = self.run_info.next_run((), owner=self._supervisor, started_ns=now)
        pipes = self._pipes.numbers
        self._pipes.send(protocol.RestartedInPlace(now))
        spawn.set_inheritable(pipes, True)
        try:
            role = Role(
                RESTARTED,
                tuple(pipes),
                lists_modules=self._lists_modules,
                grace=self._drain.grace,
                full_exit=self._full_exit,
            )
            restart({RUN_INFO_VARIABLE: run_info}, role)
        except OSError as error:
            spawn.set_inheritable(pipes, False)
            self._pipes.send(protocol.Started())  # this run goes on
            self._drain.need_again()
            _log_failed_restart(error)

    # Messages from the supervisor

    def _on_signal(self, number: int, frame: object) -> None:
        try:
            if self._pipes.are_own:
                self._handle_all(self._pipes.receive())
            else:  # the message is for the process that owns the pipes
                self._drain.begin_in_worker()
        except Exception:  # it would be raised into whatever the program does now
            _logger().exception("a message of the supervisor was not handled")

    def _handle_all(self, messages: Iterable[protocol.Message]) -> None:
        for message in messages:
            match message:
                case protocol.Release():
                    self._on_release(message)
                case protocol.Drain():
                    self._changed = frozenset(message.changed)
                    self._drain.begin(message.grace, stop_accepting=message.stop_accepting)
                case protocol.Stop():
                    self._is_stopped = True
                case protocol.ListModules():
                    self._send_modules()

    def is_stopped(self) -> bool:
        """Whether the supervisor stops this process for the next run, and it may end quickly."""
        if self._pipes.are_own:
            self._handle_all(self._pipes.receive())
        stopped = self._drain.has_answered or (self._is_stopped and self._pipes.are_own)
        return stopped and not self._full_exit

    def _on_release(self, message: protocol.Release) -> None:
        self._is_released = True
        # The run before may have changed these until now.
        startup.INPUT_OFFSET = startup.input_offset()
        terminal.read_state()
        self._drain.grace = message.grace
        self._imports.started_ns = message.started_ns
        self._lists_modules = message.lists_modules
        self._full_exit = message.full_exit
        if message.run_info:
            os.environ[RUN_INFO_VARIABLE] = message.run_info
            self._is_first_run = False
        if not message.keep_sockets:
            self._imports.set_listener("socket.__new__", None)
            self._pipes.close_service()

    # Messages to the supervisor

    def report_failure(self, error: BaseException) -> None:
        """Send the files that *error* passed through: a change of one of them may mend it."""
        from .._program.tracebacks import traceback_files

        for path in traceback_files(error):
            self._pipes.send(protocol.FailedIn(path))

    def report_script(self, path: str) -> None:
        """Send the script that runs next, which may not have the name of a source file."""
        self._send_file(absolute(path), time.time_ns())

    def report_end(self) -> None:
        """Report that the program has ended, and which modules it has imported, if asked for."""
        if self._pipes.are_own:
            if self._lists_modules:
                self._send_modules()
            self._pipes.send(protocol.Exiting())

    def _send_modules(self) -> None:
        from .._program.loaded_modules import loaded_modules

        for name, by_python, places in loaded_modules():
            self._pipes.send(protocol.ModuleListed(name, by_python, tuple(places)))
        self._pipes.send(protocol.ModulesListed())

    def _send_file(self, path: str, read_ns: int) -> None:
        for prefix in self._imports.bytecode_prefixes - self._prefixes:
            self._prefixes.add(prefix)
            self._pipes.send(protocol.BytecodeCached(prefix))
        source_hash = self._imports.own_writes.hash_read(path)
        is_plain = self._imports.is_plain(path)
        self._pipes.send(protocol.FileRead(path, read_ns, source_hash, is_plain))
        if MULTIPROCESSING in path:
            self._patch_multiprocessing()
        if self._earlier_children:
            self._earlier_children.reap()  # there is no loop of evreload that could do it

    def _send_write(self, path: str) -> None:
        is_code = path.endswith(CODE_SUFFIXES)  # always sent: the program may import it next
        self._writes += not is_code
        if is_code or (path and self._writes <= MAX_WRITES):
            self._pipes.send(protocol.FileWritten(path))
        else:
            self._pipes.send(protocol.ProcessSpawned())
            self._imports.ignore_data_writes()

    def _on_process(self, arguments: tuple[Any, ...] = ()) -> None:
        """Report it if a process is started by a reloader of the program's own."""
        if self._has_own_reloader:
            return
        from .._program.own_reloader import remedy

        if found := remedy(arguments):
            self._has_own_reloader = True
            self._pipes.send(protocol.OwnReloaderStarted(found))

    def _patch_multiprocessing(self) -> None:
        """Make clients of the interpreters that multiprocessing spawns, too."""
        util: Any = sys.modules.get("multiprocessing.util")
        spawnv_passfds = getattr(util, "spawnv_passfds", None)  # missing while util is imported
        if spawnv_passfds is None or self._has_patched_multiprocessing:
            return
        self._has_patched_multiprocessing = True
        pipes = self._pipes

        def spawn_worker(path: bytes, args: Iterable[Any], passfds: Iterable[int]) -> Any:
            command = [os.fsdecode(argument) for argument in args]
            self._on_process()
            runs_no_code = any("resource_tracker" in argument for argument in command)
            if runs_no_code or not all(map(pipes.is_open, pipes.numbers)):
                return spawnv_passfds(path, command, passfds)
            with startup.suppress(Exception):
                interceptor = self._drain.interceptor
                if interceptor and interceptor.has_bound():
                    self._drain.need(TIME_FOR_SOCKETS)
            command = spawn.worker_command(
                command,
                pipes.numbers,
                pipes.owner,
                self._drain.grace,
                full_exit=self._full_exit,
            )
            return spawnv_passfds(path, command, [*passfds, *pipes.numbers])

        util.spawnv_passfds = spawn_worker

    # Audit events of sockets

    def _on_bind(self, arguments: tuple[Any, ...]) -> None:
        sock, address = arguments
        if sock.type == SOCK_STREAM and sock.family != AF_UNIX:
            self._on_server()
            # `import urllib3` binds port 0 to find out whether IPv6 works. If sockets are not
            # intercepted, evreload does not learn when they listen.
            if address[1] != 0 and not self._drain.interceptor:
                self._send_listening()

    def _send_listening(self) -> None:
        self._pipes.send(protocol.ServerListening(time.monotonic()))

    def _on_server(self) -> None:
        """Prepare to finish requests, and to follow the forks of a server."""
        if "tornado.httpserver" in sys.modules:
            self._drain.need(TIME_FOR_REQUESTS)
            if not self._observes_forks:
                self._observes_forks = True
                os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._imports.set_listener("socket.__new__", self._on_socket_of_worker)

    def _on_socket_of_worker(self, arguments: tuple[Any, ...]) -> None:
        """Handle a Unix socket in a worker: it is the self-pipe of a loop, which serves requests.

        The worker may have got the socket that it serves from another process.
        """
        if arguments[1] == AF_UNIX and "tornado.httpserver" in sys.modules:
            self._imports.set_listener("socket.__new__", None)
            self._drain.need(TIME_FOR_REQUESTS)

    def _observe_sockets_of_worker(self) -> None:
        is_worker = self._role.kind == WORKER
        listener = self._on_socket_of_worker if is_worker else None
        self._imports.set_listener("socket.__new__", listener)

    def _on_first_socket(self, arguments: tuple[Any, ...]) -> None:
        """Intercept the methods of sockets, now that the program has imported `socket`."""
        self._observe_sockets_of_worker()
        if self._role.kind == WORKER:
            self._on_socket_of_worker(arguments)
        (service,) = self._pipes.service
        if not self._pipes.is_open(service):
            return
        from .._program.kept_sockets import SocketInterceptor

        interceptor = SocketInterceptor(
            service, self._on_server, self._send_listening, may_claim=not self._is_first_run
        )
        interceptor.intercept()
        self._drain.interceptor = interceptor


def _supervisor() -> int:
    """Return the supervisor's process ID; a worker is not its child."""
    marked = os.environ.get(SUPERVISOR_VARIABLE, "")
    return int(marked) if marked.isdecimal() else os.getppid()


def _logger() -> logging.Logger:
    import logging  # not at the top: the program may do without it

    return logging.getLogger("evreload")


def _log_failed_restart(reason: object) -> None:
    from .._common.log import STILL_RUNNING

    _logger().error("cannot restart: %s; %s", reason, STILL_RUNNING)
