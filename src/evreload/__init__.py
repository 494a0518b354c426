"""Restart this program the moment its source changes.

    import evreload

    evreload.start()  # from a Tornado or asyncio program, like tornado.autoreload.start()

All public names are in this file. Importing it imports neither Tornado nor watchdog.

Runs in: the program, on the thread that calls a function. The supervisor imports it, too.
Owns: nothing; see `_backend`.
"""

from __future__ import annotations

import os

from . import _backend
from ._common import startup as _startup  # noqa: F401  # reads what the program may change
from ._tornado4_start import with_legacy_loop

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

    Watches the file of every module, imported before or after this call, and each path given to
    `watch`. Returns at once: watching begins in the background, and a change made until then is
    not lost. May be called before the event loop runs. A second call on the same loop has no
    effect.

    *check_time*: how often to look at the files where there are no file events, in milliseconds.
    *debounce*: how long a changed file must have been unchanged before the restart, in
    milliseconds; eight times as long if several files changed, or if the file is new. *poll*: look
    at the files even where there are events; by default the environment variable
    ``EVRELOAD_POLL`` decides. *ignore*: globs of the paths to ignore; one without a slash is
    matched against each part of a path. *grace*: how long the restart waits for requests that
    Tornado's servers have not answered yet, in seconds.

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


_start.__name__ = _start.__qualname__ = "start"  # for Python's messages about wrong arguments

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
    """Wait for a file of this program to change, then restart the program.

    For the end of a script, such as a test runner: the script runs again after each change.
    Never returns, except at once where evreload is off. The contract is that of
    `tornado.autoreload.wait`.
    """
    if not _backend.is_off():
        _backend.current().wait(_backend.default_settings())


def watch(path: str | os.PathLike[str]) -> None:
    """Watch one more file, or everything below a directory.

    *path* need not exist yet. A relative one is relative to the current directory; an empty one is
    ignored. The program may read the file before this call: a change made after that leads to a
    restart, too. In a directory each edit, creation, deletion and renaming counts, except in
    ``.git`` and the like, in ``__pycache__``, and of editors' temporary files.

    Raises TypeError if *path* is no path. The contract for files is that of
    `tornado.autoreload.watch`.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a path, not {type(path).__name__}: {path!r}")
    from ._common.paths import absolute

    name = os.fsdecode(path)
    try:
        full_path = absolute(name)
    except OSError:  # *path* is relative, and the current directory was removed
        return
    if name and not _backend.is_off():
        _backend.current().watch(full_path)


def add_reload_hook(fn: Callable[[], object]) -> None:
    """Call *fn* before each restart, in the order added, on the event loop's thread.

    An exception that it raises is logged, and the restart goes on; but SystemExit ends the
    process. A coroutine function is awaited, for at most five seconds, before the ordinary
    functions are called. Under the command, all hooks together have seven seconds. In a hook,
    `changed_files` returns the files that led to the restart.

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

    Returns only if a restart is impossible, which is logged; or if called by a reload hook, where
    it does nothing. Called from the event loop, it cannot await coroutine hooks: it leaves them
    out, and logs a warning.
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
    `tornado.netutil.bind_sockets`: there is one socket for each IP address of the host *address*,
    or of all interfaces if it is None. *family* 0 means IPv4 and IPv6; *flags* are those of
    `socket.getaddrinfo`. The next run gets the same sockets for the same arguments. The sockets
    that it does not ask for within ten seconds are closed; at once if it binds their port in
    another way. Port 0 is bound anew each time. Under the command all listening TCP sockets are
    kept anyway. Raises OSError if the address cannot be bound, ValueError if *reuse_port* is not
    supported.
    """
    return _backend.current().bind_sockets(port, address, family, backlog, flags, reuse_port)


def stop() -> None:
    """Stop watching. A later `start` watches again, and notices what has changed meanwhile.

    Does nothing under the command, which goes on watching.
    """
    if backend := _backend.existing():
        backend.stop()


def disable() -> None:
    """Make `start`, `wait` and `watch` do nothing in this process, and stop watching.

    They do nothing in the processes that this one starts, either. The command, if the program runs
    under it, goes on watching. Use this if a library has turned on reloading in your process. The
    environment variable ``EVRELOAD=off`` does the same.
    """
    os.environ["EVRELOAD"] = "off"
    stop()


def generation() -> int:
    """Return how often this program was restarted by evreload: 0 in the first run."""
    return _backend.current().run_info.generation


def changed_files() -> frozenset[str]:
    """Return the absolute paths of the changed files that led to a restart.

    In a reload hook, they led to the restart under way; elsewhere, to the start of this run. There
    are none in the first run, or if `reload` was called without a change. At most 200 are passed
    from one run to the next.
    """
    return _backend.current().changed


def install() -> None:
    """Replace `tornado.autoreload` by evreload, in this process.

    From then on ``Application(debug=True)`` and ``tornado.autoreload.start``, ``wait``,
    ``watch``, ``add_reload_hook`` and ``_reload`` call evreload. It takes over the files and hooks
    of Tornado's reloader, and replaces that if it runs. A name that the program imported from
    `tornado.autoreload` before still refers to Tornado's function.
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
    _backend.imports()  # now: a module that is not found leaves no trace to find later
    if "EVRELOAD_SOCKETS" in os.environ:
        _backend.inherited_sockets()  # now: processes that the program starts must not inherit them
