"""What the command is to run: whether it exists, and whether it has a reloader of its own.

A target that does not exist is a usage error. If a target exists but is broken, the supervisor runs
it, and waits for its fix. This module imports nothing of the target.

Runs in: the supervisor, on its main thread, while the program's interpreter starts.
Owns: nothing.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from .._common.paths import absolute

TYPE_CHECKING = False  # `typing` costs 2 ms before the program starts
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

RELOAD = ("--reload",)
# What turns on the reloader of a program: its subcommand, if that matters, and its options.
RELOADERS = {
    "granian": (None, RELOAD),
    "gunicorn": (None, RELOAD),
    "hypercorn": (None, RELOAD),
    "uvicorn": (None, RELOAD),
    "fastapi": ("run", RELOAD),
    "flask": ("run", RELOAD),
    "quart": ("run", RELOAD),
    "datasette": (None, RELOAD),
    "pserve": (None, RELOAD),
    "litestar": ("run", ("--reload", "-r", "--reload-dir", "-R")),
    "sanic": (None, ("--auto-reload", "--reload", "-r", "--dev", "-d")),
    "robyn": (None, ("--dev",)),
    "panel": ("serve", ("--dev", "--autoreload")),
    "bokeh": ("serve", ("--dev",)),
    "streamlit": ("run", ("--server.runOnSave",)),
}
RUN_DEBUG = ("flask", "quart")  # run --debug
DJANGO = ("django", "django-admin", "manage.py")
ALWAYS = {"adev": "runserver", "aiohttp_devtools": "runserver"}  # they have no option for it


class UsageError(Exception):
    """The command line or pyproject.toml is wrong; the message says what, and what to do."""


def check(target: list[str]) -> None:
    """Raise UsageError if *target* does not exist."""
    if target[0] == "-m":
        _check_module(target[1])
        return
    path = target[0]
    if not os.path.exists(path):
        raise UsageError(f"there is no script {path!r}; to run a module, give its name after -m")
    if os.path.isdir(path) and not any(
        os.path.isfile(os.path.join(path, "__main__" + ending)) for ending in (".py", ".pyc")
    ):
        raise UsageError(f"the directory {path!r} has no __main__.py to run")
    if not os.access(path, os.R_OK):
        raise UsageError(f"the script {path!r} may not be read")


def reloader_remedy(target: list[str]) -> str | None:
    """Return how to turn off the reloader that *target* turns on itself, if it does."""
    name, *words = target[1:] if target[0] == "-m" else target
    name = os.path.basename(name)
    options = _options(words)
    is_run = _has_command("run", words)
    is_debugged = name in RUN_DEBUG and is_run and "--debug" in options
    command, turning_on = RELOADERS.get(name, (None, ()))
    if command is None or _has_command(command, words):
        for option in turning_on:
            if option in options:
                return f"leave out {option}"
    if name in ALWAYS and _has_command(ALWAYS[name], words):
        return f"run the application without {name}"
    if name in DJANGO and words[:1] == ["runserver"] and "--noreload" not in options:
        return "add --noreload"
    if is_debugged or (name == "fastapi" and words[:1] == ["dev"]):
        return None if "--no-reload" in options else "add --no-reload"
    return None


def _has_command(command: str, words: list[str]) -> bool:
    return command in words and words[words.index(command) - 1] not in ("-A", "--app")


def _options(words: list[str]) -> set[str]:
    """Return the options among *words*, except those that have the value false."""
    given = words[: words.index("--")] if "--" in words else words
    pairs = [
        (word.partition("="), after) for word, after in zip(given, [*given[1:], ""], strict=False)
    ]
    return {option for (option, _, value), after in pairs if "false" not in (value, after)}


def script(target: list[str]) -> str | None:
    """Return the path of *target*, if it is a file of Python source."""
    if target[0] == "-m" or target[0].endswith(".pyc"):
        return None
    import pkgutil

    return None if pkgutil.get_importer(target[0]) else absolute(target[0])


def _check_module(name: str) -> None:
    path, modules = list(sys.path), dict(sys.modules)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    try:
        _find_module(name)
    except (UsageError, KeyboardInterrupt):
        raise
    except Exception:  # a finder of a package has failed: if the program fails, too, it says so
        return
    finally:
        sys.path[:] = path
        for package in _packages(name):
            sys.modules.pop(package, None)
            if package in modules:
                sys.modules[package] = modules[package]


def _find_module(name: str) -> None:
    spec = None
    for package in _packages(name):
        above, spec = spec, _find(package, spec)
        if spec is None and above and _extends_its_path(above):
            return  # only the package itself knows its path, once it is imported
        if spec is None:
            raise UsageError(f"there is no module {name!r} to run from {os.getcwd()}")
        if spec.submodule_search_locations is None and package != name:
            raise UsageError(f"there is no module {name!r} to run: {spec.name!r} is not a package")
    if spec is None or spec.submodule_search_locations is None or _extends_its_path(spec):
        return
    if _find(name + ".__main__", spec) is None:
        raise UsageError(f"the package {name!r} has no __main__.py to run")


def _packages(name: str) -> list[str]:
    """Return the names of the packages on the way to the module *name*, and *name*."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _extends_its_path(package: ModuleSpec) -> bool:
    """Whether *package* may change its ``__path__`` when it is imported, as with pkgutil."""
    try:
        with open(package.origin or "", "rb") as file:
            return b"__path__" in file.read()
    except OSError:
        return False


def _find(name: str, package: ModuleSpec | None) -> ModuleSpec | None:
    """Find a module as the program's Python will, without importing the *package* around it.

    A package without `__init__.py` looks for the path of the package around it in `sys.modules`, so
    an empty module stands there for that.
    """
    where = None
    if package:
        where = package.submodule_search_locations
        around = name.rpartition(".")[0]
        sys.modules[around] = stand_in = ModuleType(around)
        stand_in.__path__ = where or []
    for finder in sys.meta_path:
        spec = finder.find_spec(name, where)
        if spec is not None:
            return spec
    return None
