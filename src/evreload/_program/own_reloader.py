"""Whether the program has a reloader of its own: it would restart the program a second time.

Reloaders start the program again, as another process. Code that does so for another purpose cannot
be told apart by the process, but by the names of the functions and modules that start it.

Runs in: the program, under the supervisor, on each thread that starts a process. It is imported
only then.
Owns: nothing.
"""

from __future__ import annotations

import sys

from .._common.paths import is_installed

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

# How to turn a reloader off, by the package that starts it. One that uses another comes first.
REMEDIES = {
    "nicegui": "pass reload=False to ui.run()",
    "dash": "pass use_reloader=False to run()",
    "flask": "pass use_reloader=False to run()",
    "quart": "pass use_reloader=False to run()",
    "django": "add --noreload",
    "sanic": "leave out auto_reload and dev",
    "litestar": "leave out --reload",
    "bottle": "leave out reloader=True",
    "uvicorn": "leave out reload=True",
    "werkzeug": "leave out use_reloader=True",
}
# Reloaders whose modules and functions have other names.
UNNAMED = ("watchfiles.run", "aiohttp_devtools.runserver.watch")
BOTTLE = "BOTTLE_CHILD"  # in the environment of what Bottle's reloader starts


def remedy(started: tuple[Any, ...] = ()) -> str | None:
    """Return how to turn off the reloader that starts a process just now, if one does.

    *started* are the arguments of the audit event ``subprocess.Popen``, if there is one.
    """
    command, environment = (started[1], started[3]) if len(started) == 4 else ((), None)
    is_reloader = "--reload" in _words(command) or BOTTLE in (environment or ())
    packages = set()
    frame: FrameType | None = sys._getframe(1)
    while frame:
        module = frame.f_globals.get("__name__")
        if module == "multiprocessing.process":  # Sanic names the process of its reloader so
            process = frame.f_locals.get("self")
            is_reloader |= "reloader" in str(getattr(process, "name", "")).lower()
        elif type(module) is str and is_installed(frame.f_code.co_filename):
            packages.add(module.partition(".")[0])
            is_reloader |= _is_reloader(module, frame.f_code.co_name)
        frame = frame.f_back
    if not is_reloader:
        return None
    known = [text for package, text in REMEDIES.items() if package in packages]
    return known[0] if known else "turn it off"


def _is_reloader(module: str, function: str) -> bool:
    last = module.rpartition(".")[2]
    return "reload" in last or "reloader" in function or module in UNNAMED


def _words(command: object) -> tuple[object, ...]:
    return tuple(command) if isinstance(command, (list, tuple)) else ()
