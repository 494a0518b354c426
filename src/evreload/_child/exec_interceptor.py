"""Follows the program when it executes Python in its own place.

Launchers do that: they set the environment, and then replace themselves by Python. The process
stays the same, so the pipes to the supervisor can stay open. The environment says how to use them;
`executed/sitecustomize.py` reads it. Other programs may come in between, such as a shell.

Runs in: the program, under the supervisor, on any thread; `go_on` on the main thread. The program
imports it, so it imports next to nothing.
Owns: `os.execv` and `os.execve`.
"""

from __future__ import annotations

import os

from .._common import protocol, spawn, startup
from .._common.role import RESTARTED, Role

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

    from .._common.protocol import Pipes

DIRECTORY = os.path.join(startup.PACKAGE, "_child", "executed")
VARIABLE = "EVRELOAD_EXECUTED"  # a process ID, then the identities of the pipes, then a role
SEARCH_PATH = "PYTHONPATH"


class ExecInterceptor:
    """Prepares each exec of the process that owns *pipes*, and undoes that if the exec fails."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._execv = os.execv
        self._execve = os.execve
        self._is_prepared = False

    def intercept(self) -> None:
        """Replace the functions of `os` by which all others there execute a program."""
        interceptor = self

        def execv(path: Any, argv: Any, /) -> NoReturn:
            interceptor.execute(path, argv, None)

        def execve(path: Any, argv: Any, env: Any) -> NoReturn:
            interceptor.execute(path, argv, env)

        os.execv = execv
        os.execve = execve

    def execute(self, path: Any, argv: Any, env: Mapping[Any, Any] | None) -> NoReturn:
        """Do what `os.execve` does, or `os.execv` if *env* is None."""
        try:
            environment = self._prepare(path, argv, os.environ if env is None else env)
        except Exception:  # odd arguments, of which the exec itself complains
            environment = None
        if environment is None:
            self._run(path, argv, env)
        try:
            if env is not None:
                self._run(path, argv, environment)
            for name in (VARIABLE, SEARCH_PATH):  # not `os.environ`: the exec may fail
                os.putenv(name, environment[name])
            self._run(path, argv, None)
        finally:  # the exec has failed
            self._undo(is_environment_changed=env is None)

    def _run(self, path: Any, argv: Any, env: Mapping[Any, Any] | None) -> NoReturn:
        if env is None:
            self._execv(path, argv)
        self._execve(path, argv, env)

    def _prepare(
        self, path: Any, argv: Iterable[Any], env: Mapping[Any, Any]
    ) -> dict[Any, Any] | None:
        """Return the environment to execute *path* with, or None if it is not to be followed."""
        pipes = self._pipes
        name = path if isinstance(path, int) else os.fsdecode(path)
        # A command without a path is searched for, by one exec after the other.
        may_exist = isinstance(name, int) or os.access(name, os.X_OK)
        if not pipes.are_own or not may_exist or is_restart(argv):
            return None
        if not all(map(pipes.is_open, pipes.numbers)):
            return None
        environment = dict(env)
        before = os.fsdecode(environment.pop(os.fsencode(SEARCH_PATH), b""))
        before = os.fsdecode(environment.get(SEARCH_PATH, before))
        environment[SEARCH_PATH] = os.pathsep.join(filter(None, (DIRECTORY, before)))
        role = Role(RESTARTED, tuple(pipes.numbers))
        environment[VARIABLE] = f"{os.getpid()} {_identities(role)} {role}"
        self._is_prepared = True
        spawn.set_inheritable(pipes.numbers, True)
        pipes.send(protocol.Executed(str(name)))
        return environment

    def _undo(self, *, is_environment_changed: bool) -> None:
        self._is_prepared = False
        if is_environment_changed:
            os.unsetenv(VARIABLE)
            if SEARCH_PATH in os.environ:
                os.putenv(SEARCH_PATH, os.environ[SEARCH_PATH])
            else:
                os.unsetenv(SEARCH_PATH)
        spawn.set_inheritable(self._pipes.numbers, False)
        self._pipes.send(protocol.Started())  # the present program goes on

    def on_exec(self, arguments: tuple[Any, ...]) -> None:
        """Report an exec by other functions than those of `os`: it cannot be followed."""
        path, argv, _ = arguments
        if not self._pipes.are_own or self._is_prepared or is_restart(argv):
            return
        if not isinstance(path, int) and os.access(path, os.X_OK):
            self._pipes.send(protocol.Executed(os.fsdecode(path)))


def is_restart(argv: Iterable[Any]) -> bool:
    """Whether *argv* is a command of evreload, which restarts the program."""
    return startup.RUNNER in argv


def go_on(passed: str) -> None:
    """Report to the supervisor again, with what `ExecInterceptor` has *passed* on."""
    from .. import _backend

    try:
        _, identities, text = passed.split(" ", 2)
        role = Role.parse(text)
        if _identities(role) != identities:
            return  # a program in between has closed the pipes
        client = _backend.become_client(role)
    except (OSError, ValueError):
        return
    startup.DIRECTORY = startup.working_directory()  # `sys.path` is not complete yet
    client.wait_for_release()
    if startup.TARGET and not startup.TARGET[0].startswith("-"):
        client.report_script(os.path.abspath(startup.TARGET[0]))


def _identities(role: Role) -> str:
    return ",".join("{}:{}".format(*startup.identity(pipe)) for pipe in role.pipes)
