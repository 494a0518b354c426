"""Restart this program the moment its source changes.

    import evreload

    evreload.start()  # from a Tornado or asyncio program, like tornado.autoreload.start()

All that is public is in this file, and so is the only state of the whole process: there is only
one process to restart. Importing it imports neither Tornado nor watchdog.
"""

from __future__ import annotations

import functools
import os
from os import environ

from . import _process as _process  # remembers how the process began, before it changes

TYPE_CHECKING = False  # `typing` costs 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, overload

    from tornado.ioloop import IOLoop

    from ._modules import Imports
    from ._reloader import Reloader, Settings

__all__ = [
    "add_reload_hook",
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

CHECK_TIME = 500  # milliseconds, as in Tornado
DEBOUNCE = 20  # milliseconds

if TYPE_CHECKING:

    @overload
    def start(
        check_time: float = 500,
        *,
        debounce: float = 20,
        poll: bool | None = None,
        ignore: Iterable[str] = (),
    ) -> None: ...
    @overload
    def start(io_loop: IOLoop, check_time: float = 500) -> None: ...
    @overload
    def start(*, io_loop: IOLoop | None, check_time: float = 500) -> None: ...


def start(*args: Any, **kwargs: Any) -> None:
    """Restart the process when a file it is made of changes.

    ``start(check_time=500, *, debounce=20, poll=None, ignore=())``

    Watches the file of every imported module, now and later, and what `watch` names. Returns at
    once: watching begins in the background, and what changes until then is not lost. May be
    called before the event loop runs, and again; a second call on the same loop does nothing.

    *check_time*: where no file events can be had, how often to look at the files, in
    milliseconds. *debounce*: how long files must have been quiet before the restart, in
    milliseconds. *poll*: look at the files even where there are events; by default the
    environment variable ``EVRELOAD_POLL`` decides. *ignore*: globs of paths that do not matter;
    one without a slash is held against each part of a path.

    Raises TypeError or ValueError for an argument that is none of that. Where a restart is not
    possible (an interactive session, say), logs a warning that says why.

    The contract is that of `tornado.autoreload.start`, whose older form, with an *io_loop*
    first, still works but is deprecated: the current loop counts.
    """
    if (args and not isinstance(args[0], (int, float))) or "io_loop" in kwargs:
        args, kwargs = _without_loop(args, kwargs)
    settings = _settings(*args, **kwargs)
    if not _is_off():
        _story().start(settings)


def wait() -> None:
    """Wait for a file of this program to change, then restart it. Otherwise never returns.

    For the end of a script, such as a test runner: the script runs again after each change.
    The contract is that of `tornado.autoreload.wait`. Returns at once where evreload is off.
    """
    if not _is_off():
        _story().wait(_settings())


def watch(path: str | os.PathLike[str]) -> None:
    """Watch one more file, or everything beneath a directory.

    A *path* that does not exist is watched for; a relative one is taken from the current
    directory. In a directory each edit, creation, deletion and renaming counts, except under
    ``.git`` and the like, in ``__pycache__``, and of editors' temporary files.

    Raises TypeError if *path* is no path. The contract for files is that of
    `tornado.autoreload.watch`.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a path, not {type(path).__name__}: {path!r}")
    if not _is_off():
        _story().watch(os.path.abspath(os.fsdecode(path)))


def add_reload_hook(fn: Callable[[], object]) -> None:
    """Call *fn* before each restart, in the order added, on the event loop's thread.

    What it raises is logged, and the restart goes on; SystemExit ends the process. A coroutine
    function is awaited, for at most five seconds, before the ordinary ones are called.
    `changed_files` tells in a hook what the restart is for.

    Raises TypeError if *fn* cannot be called. The contract is that of
    `tornado.autoreload.add_reload_hook`.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {type(fn).__name__}: {fn!r}")
    _story().add_hook(fn)


def remove_reload_hook(fn: Callable[[], object]) -> None:
    """Do not call *fn* any more. Raises ValueError if it was not added."""
    _story().remove_hook(fn)


def reload() -> None:
    """Run the reload hooks, then restart this process, now. Needs no event loop.

    Returns only where it is impossible, which is logged. Called from the event loop, it cannot
    await coroutine hooks: they are left out, with a warning.
    """
    _story().reload()


def stop() -> None:
    """Stop watching. `start` begins again; what changed meanwhile is noticed then."""
    if _story.cache_info().currsize:
        _story().stop()


def disable() -> None:
    """Make `start`, `wait` and `watch` do nothing in this process, and stop watching.

    For whoever finds that a library turned on reloading in their process. The environment
    variable ``EVRELOAD=off`` does the same.
    """
    environ["EVRELOAD"] = "off"
    stop()


def generation() -> int:
    """Return how often this program was restarted by evreload: 0 in the first run."""
    return _story().handover.generation


def changed_files() -> frozenset[str]:
    """Return the absolute paths of the changed files that led to a restart.

    In a reload hook: to the restart under way. Elsewhere: to this run; empty in the first run,
    and after `reload` without a change. At most 200 are handed from one run to the next.
    """
    return _story().changed


def install() -> None:
    """Put evreload in the place of `tornado.autoreload`, in this process.

    From then on ``Application(debug=True)`` and ``tornado.autoreload.start``, ``wait``,
    ``watch``, ``add_reload_hook`` and ``_reload`` are evreload's. Names that were imported from
    `tornado.autoreload` before are bound to what they were.
    """
    from tornado import autoreload

    for name in ("start", "wait", "watch", "add_reload_hook", "main"):
        setattr(autoreload, name, globals()[name])
    autoreload._reload = reload


def main() -> None:
    """Run the command ``python -m evreload``, with the arguments in `sys.argv`."""
    from . import _command

    _command.main()


@functools.cache
def _imports() -> Imports:
    from ._modules import Imports

    return Imports()


@functools.cache
def _story() -> Reloader:
    from ._reloader import Reloader

    return Reloader(_imports())


def _wait_after(error: BaseException) -> None:
    if not _is_off():
        _story().wait_after(error, _settings())


def _is_off() -> bool:
    return environ.get("EVRELOAD", "").lower() in ("off", "0", "no", "false")


def _settings(
    check_time: float = CHECK_TIME,
    *,
    debounce: float = DEBOUNCE,
    poll: bool | None = None,
    ignore: Iterable[str] = (),
) -> Settings:
    from ._reloader import Settings

    if isinstance(ignore, str):
        raise TypeError(f"ignore must be several globs, not one string: {ignore!r}")
    if poll is None:
        poll = environ.get("EVRELOAD_POLL", "").lower() not in ("", "off", "0", "no", "false")
    return Settings(
        check_time=_seconds("check_time", check_time, at_least=1),
        debounce=_seconds("debounce", debounce, at_least=0),
        poll=bool(poll),
        ignore=tuple(ignore),
    )


def _seconds(name: str, milliseconds: object, *, at_least: int) -> float:
    if not isinstance(milliseconds, (int, float)) or isinstance(milliseconds, bool):
        raise TypeError(f"{name} must be a number of milliseconds, not {milliseconds!r}")
    if not at_least <= milliseconds < float("inf"):
        raise ValueError(f"{name} must be at least {at_least} millisecond(s), not {milliseconds!r}")
    return milliseconds / 1000


def _without_loop(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take the loop out of the arguments of Tornado's older ``start(io_loop, check_time)``."""
    import warnings

    rest = {name: value for name, value in kwargs.items() if name != "io_loop"}
    if "io_loop" not in kwargs:
        if not hasattr(args[0], "add_callback") and args[0] is not None:
            return args, kwargs  # no loop, and no number either: _settings will say so
        args = args[1:]
    warnings.warn(
        "start(io_loop) is deprecated: the current loop is used", DeprecationWarning, stacklevel=3
    )
    return args, rest
