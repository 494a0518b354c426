"""Restart this program the moment its source changes.

    import evreload

    evreload.start()  # from a Tornado or asyncio program, like tornado.autoreload.start()

This file holds all that is public. Importing it imports neither Tornado nor watchdog.

Runs in: the program, on the thread that calls it; the supervisor imports it, too.
Owns: nothing; see `_backend`.
"""

from __future__ import annotations

import os

from . import _backend
from ._common import startup as _startup  # noqa: F401  # before the program changes what it reads
from ._legacy import with_legacy_loop

TYPE_CHECKING = False  # `typing` costs 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from socket import socket
    from typing import overload

    from tornado.ioloop import IOLoop

__all__ = [
    "add_reload_hook",
    "bind_sockets",
    "changed_files",
    "disable",
    "generation",
    "install",
    "main",
    "reload",
    "remove_reload_hook",
    "start",
    "stop",
    "wait",
    "watch",
]

__version__ = "0.1.0"


def _start(
    check_time: float = 500,
    *,
    debounce: float = 5,
    poll: bool | None = None,
    ignore: Iterable[str] = (),
    grace: float = 1,
) -> None:
    """Restart the process when a file it is made of changes.

    Watches the file of every imported module, now and later, and what `watch` names. Returns at
    once: watching begins in the background, and what changes until then is not lost. May be
    called before the event loop runs, and again; a second call on the same loop does nothing.

    *check_time*: how often to look at the files where no file events can be had, in milliseconds.
    *debounce*: how long a changed file must have been quiet before the restart, in milliseconds;
    eight times as long if several changed, or if the file is new. *poll*: look at the files even
    where there are events; by default the environment variable ``EVRELOAD_POLL`` decides.
    *ignore*: globs of paths that do not matter; one without a slash is matched against each part
    of a path. *grace*: how long requests that Tornado's servers are answering may take to be
    finished before the restart, in seconds.

    Raises TypeError or ValueError for a wrong argument. Where a restart is not possible, such as
    in an interactive session, logs a warning that says why.

    The contract is that of `tornado.autoreload.start`. Its older form, with an *io_loop* first,
    still works but is deprecated: the current loop is used. If Tornado's reloader runs already,
    for example because of ``Application(debug=True)``, evreload takes its place, as by `install`.
    """
    from . import _settings

    settings = _settings.from_start(
        check_time=check_time, debounce=debounce, poll=poll, ignore=ignore, grace=grace
    )
    if not _backend.is_off():
        from ._program import tornado_compat

        _backend.current().start(settings)
        tornado_compat.take_over()


_start.__name__ = _start.__qualname__ = "start"  # as in the messages of Python

if TYPE_CHECKING:

    @overload
    def start(
        check_time: float = 500,
        *,
        debounce: float = 5,
        poll: bool | None = None,
        ignore: Iterable[str] = (),
        grace: float = 1,
    ) -> None: ...
    @overload
    def start(io_loop: IOLoop, check_time: float = 500) -> None: ...
    @overload
    def start(*, io_loop: IOLoop | None, check_time: float = 500) -> None: ...
    def start(*args: object, **kwargs: object) -> None: ...

else:
    start = with_legacy_loop(_start)


def wait() -> None:
    """Wait for a file of this program to change, then restart it. Otherwise never returns.

    For the end of a script, such as a test runner: the script runs again after each change.
    The contract is that of `tornado.autoreload.wait`. Returns at once where evreload is off.
    """
    if not _backend.is_off():
        _backend.current().wait(_backend.default_settings())


def watch(path: str | os.PathLike[str]) -> None:
    """Watch one more file, or everything beneath a directory.

    A *path* that does not exist is watched for; a relative one is taken from the current
    directory, an empty one ignored. A file may be read before this call: what is saved since
    Python opened it counts. In a directory each edit, creation, deletion and renaming counts,
    except under ``.git`` and the like, in ``__pycache__``, and of editors' temporary files.

    Raises TypeError if *path* is no path. The contract for files is that of
    `tornado.autoreload.watch`.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a path, not {type(path).__name__}: {path!r}")
    from ._common.paths import absolute

    name = os.fsdecode(path)
    try:
        place = absolute(name)
    except OSError:  # the current directory was removed: from there it leads nowhere
        return
    if name and not _backend.is_off():
        _backend.current().watch(place)


def add_reload_hook(fn: Callable[[], object]) -> None:
    """Call *fn* before each restart, in the order added, on the event loop's thread.

    What it raises is logged, and the restart goes on; SystemExit ends the process. A coroutine
    function is awaited, for at most five seconds, before the ordinary ones are called. Under the
    command, all together have seven seconds. `changed_files` tells in a hook what the restart is
    for.

    Raises TypeError if *fn* cannot be called. The contract is that of
    `tornado.autoreload.add_reload_hook`.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {type(fn).__name__}: {fn!r}")
    _backend.current().add_hook(fn)


def remove_reload_hook(fn: Callable[[], object]) -> None:
    """Do not call *fn* any more. Raises ValueError if it was not added."""
    _backend.current().remove_hook(fn)


def reload() -> None:
    """Run the reload hooks, then restart this process, now. Needs no event loop.

    Returns only where it is impossible, which is logged, and in a reload hook, where it does
    nothing. Called from the event loop, it cannot await coroutine hooks: they are left out, with
    a warning.
    """
    _backend.current().reload()


def bind_sockets(
    port: int,
    address: str | None = None,
    family: int = 0,
    backlog: int = 128,
    flags: int | None = None,
    reuse_port: bool = False,
) -> list[socket]:
    """Return listening sockets that stay open in a restart: connections made meanwhile wait.

    For ``HTTPServer.add_sockets``. The arguments and the return value are those of
    `tornado.netutil.bind_sockets`: one socket for each address that *address* means, all of them
    if None, of the socket *family*, unless 0; *flags* are for `socket.getaddrinfo`. The next run
    gets the same sockets for the same arguments. What it does not ask for within ten seconds is
    closed, and at once if it binds that port in another way. Port 0 is bound anew each time.
    Under the command all other listening TCP sockets are kept anyway. Raises OSError if the address
    cannot be bound, ValueError if *reuse_port* is not supported.
    """
    return _backend.current().bind_sockets(port, address, family, backlog, flags, reuse_port)


def stop() -> None:
    """Stop watching. `start` begins again; what changed meanwhile is noticed then.

    Under the command, which goes on watching, this does nothing.
    """
    if backend := _backend.existing():
        backend.stop()


def disable() -> None:
    """Make `start`, `wait` and `watch` do nothing in this process, and stop watching.

    The same in the processes that it starts; but the command, if the program runs under it, goes
    on. For when a library has turned on reloading in your process. The environment variable
    ``EVRELOAD=off`` does the same.
    """
    os.environ["EVRELOAD"] = "off"
    stop()


def generation() -> int:
    """Return how often this program was restarted by evreload: 0 in the first run."""
    return _backend.current().run_info.generation


def changed_files() -> frozenset[str]:
    """Return the absolute paths of the changed files that led to a restart.

    In a reload hook: to the restart under way. Elsewhere: to this run; empty in the first run,
    and after `reload` without a change. At most 200 are handed from one run to the next.
    """
    return _backend.current().changed


def install() -> None:
    """Put evreload in the place of `tornado.autoreload`, in this process.

    From then on ``Application(debug=True)`` and ``tornado.autoreload.start``, ``wait``,
    ``watch``, ``add_reload_hook`` and ``_reload`` are evreload's. Files, hooks, and a reloader
    that runs are taken over. Names that were imported from `tornado.autoreload` before are bound
    to what they were.
    """
    from ._program import tornado_compat

    tornado_compat.install()


def main() -> None:
    """Run the command ``python -m evreload``, with the arguments in `sys.argv`.

    Never returns: raises SystemExit, with the command's status, which is 2 for bad input. The
    contract is that of `tornado.autoreload.main`.
    """
    from ._supervisor import cli

    cli.main()


if not _backend.is_off():
    _backend.imports()  # nothing else leaves a trace of a module that is not found
    if "EVRELOAD_SOCKETS" in os.environ:
        _backend.inherited_sockets()  # or the processes the program starts would inherit them
