"""What the public functions call: the reloader, or the client of the supervisor.

Runs in: the program, on the thread that calls evreload.
Owns: the backend of this process, and the objects that it is made with. There is one of each,
since there is one process to restart.
"""

from __future__ import annotations

from os import environ

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from socket import socket
    from typing import Any, Protocol

    from ._child.client import Client
    from ._common.role import Role
    from ._common.run_info import RunInfo
    from ._inprocess.inherited_sockets import InheritedSockets
    from ._program.earlier_children import EarlierChildren
    from ._program.hooks import Hook
    from ._program.imports import Imports
    from ._settings import Settings

    class Backend(Protocol):
        """What the public functions call; each of the two modes implements it."""

        @property
        def is_started(self) -> bool:
            """Whether changes are watched for."""

        @property
        def run_info(self) -> RunInfo:
            """What the previous run passed to this one."""

        @property
        def changed(self) -> frozenset[str]:
            """The changed paths that led to the restart under way, else to this run."""

        def start(self, settings: Settings) -> None: ...
        def stop(self) -> None: ...
        def wait(self, settings: Settings) -> None: ...
        def watch(self, path: str) -> None: ...
        def add_hook(self, hook: Hook) -> None: ...
        def remove_hook(self, hook: Hook) -> None: ...
        def reload(self) -> None: ...
        def bind_sockets(self, port: int, *arguments: Any) -> list[socket]: ...


_backend: Backend | None = None
_imports: Imports | None = None
_sockets: InheritedSockets | None = None
_earlier_children: EarlierChildren | None = None  # after a restart in place


def current() -> Backend:
    """Return the backend: the reloader, unless the program runs under a supervisor."""
    global _backend
    if _backend is None:
        from ._inprocess.reloader import Reloader

        _backend = Reloader(imports(), inherited_sockets, _earlier_children)
    return _backend


def existing() -> Backend | None:
    """Return the backend, if it was made already."""
    return _backend


def imports() -> Imports:
    """Return the object that notes the files of this process; the first call makes it."""
    global _imports
    if _imports is None:
        from ._program.imports import Imports

        _imports = Imports()
    return _imports


def adopt_children() -> None:
    """Reap the processes that earlier runs of this process have started, once they end."""
    global _earlier_children
    from ._program.earlier_children import EarlierChildren

    _earlier_children = EarlierChildren()


def disable_imports() -> None:
    """Stop noting files: this process is the supervisor, and not the program."""
    if _imports is not None:
        _imports.disable()


def inherited_sockets() -> InheritedSockets:
    """Return the sockets of `evreload.bind_sockets`; the first call makes the object."""
    global _sockets
    if _sockets is None:
        from ._inprocess.inherited_sockets import InheritedSockets

        _sockets = InheritedSockets()
        imports().set_listener("socket.bind", _sockets.on_bind)
    return _sockets


def become_client(role: Role) -> Client:
    """Make this process report to the supervisor, through the pipes of *role*."""
    global _backend
    from ._child.client import Client
    from ._program import tornado_compat

    client = Client(role, imports())
    _backend = client
    tornado_compat.stand_in()
    return client


def serve_forks(role: Role) -> Role:
    """Fork the program at each request that comes through the pipes of *role*.

    Return in each fork, with the role of the program.
    """
    from ._child import client  # noqa: F401  # here once, since each fork needs it
    from ._program import tornado_compat
    from ._snapshot.fork_server import ForkServer

    tornado_compat.stand_in()
    return ForkServer(role, imports()).serve()


def wait_after(error: BaseException) -> None:
    """In in-process mode, wait for a change that may mend *error*, then restart."""
    from ._inprocess.reloader import Reloader

    backend = current()
    if isinstance(backend, Reloader) and not is_off():
        backend.wait_after(error, default_settings())


def wait_for_rest() -> None:
    """In in-process mode, after a success, wait for the rest of a file that may be half saved.

    Restart if there is a change; return if there is none.
    """
    from ._common import startup
    from ._common.half_saved import half_saved
    from ._common.run_info import RunInfo

    info = RunInfo.from_environment(startup.PROCESS, startup.STARTED_NS)
    noted = imports()
    found = half_saved(noted.paths, info.changed, info.started_ns, noted.own_writes)
    if not found or is_off():
        return
    from ._inprocess.reloader import Reloader

    backend = current()
    if isinstance(backend, Reloader):
        backend.wait_for_rest(found, default_settings())


def default_settings() -> Settings:
    """Return the settings of ``start()`` without arguments."""
    from ._settings import Settings, poll_by_environment

    return Settings(poll=bool(poll_by_environment()))


def is_off() -> bool:
    """Whether the environment variable ``EVRELOAD`` turns evreload off."""
    return environ.get("EVRELOAD", "").lower() in ("off", "0", "no", "false")
