"""The contenders: what is measured. To add one, add an entry."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODULE = (sys.executable, "-m")
PYTHON = (sys.executable, "tornado_app.py")


@dataclass(frozen=True)
class Contender:
    """A way to restart a program.

    *command* runs in the directory of the program. PORT in it is replaced by the port to serve. The
    environment has this port, too, and *variables*. *packages* are the Python distributions or the
    programs that it needs. *prints* is part of the line that it prints when it notices a change.
    """

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    kind: str = "tornado"  # of program: a key of BARE
    prints: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    option: str = ""  # without this option of its command, the contender is left out
    patches: bool = False  # changes the running program, and restarts nothing
    walks: bool = False  # reads all directories while idle, which causes events for others

    @property
    def language(self) -> str:
        return "mjs" if self.kind in ("node", "bun") else "py"

    @property
    def absent(self) -> str:
        """Why the contender is left out; empty if it is not."""
        missing = [name for name in self.packages if version(name) is None]
        if missing:
            return f"{', '.join(missing)} not installed"
        if self.option and self.option not in _help(self.command):
            return f"{self.packages[0]} {version(self.packages[0])} refuses {self.option}"
        return ""

    def at(self, port: int) -> list[str]:
        """Return the command line for *port*."""
        program = tool(self.command[0]) or self.command[0]
        return [word.replace("PORT", str(port)) for word in (program, *self.command[1:])]

    def environment(self, port: int) -> dict[str, str]:
        """Return the variables that its environment has in addition."""
        return {"PORT": str(port), **self.variables}


@functools.cache
def tool(name: str) -> str | None:
    """Return the path of the program *name*: beside this interpreter, from npm, or on PATH."""
    places = [Path(sys.executable).parent, Path("node_modules/.bin").absolute()]
    return shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))


@functools.cache
def version(name: str) -> str | None:
    """Return the installed version of a distribution or a program."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = re.search(r"\d+(\.\d+)+", _printed(tool(name), "--version") if tool(name) else "")
        return found and found[0]


@functools.cache
def _help(command: tuple[str, ...]) -> str:
    """Return what --help prints, for a *command* that begins with `python -m MODULE`."""
    return _printed(*command[:3], "--help")


def _printed(*command: str | None) -> str:
    done = subprocess.run(
        [word for word in command if word],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    return done.stdout + done.stderr


def without(hidden: str, module: str) -> tuple[str, ...]:
    """Return a command that runs *module* as `python -m` does, but cannot import *hidden*."""
    code = f"import runpy, sys; sys.modules[{hidden!r}] = None; "
    code += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return (sys.executable, "-c", code)


UVICORN = (*MODULE, "uvicorn", "asgi_app:app", "--host", "127.0.0.1", "--port", "PORT")
GRANIAN = ("granian", "--interface", "asgi", "--port", "PORT", "asgi_app:app")
HYPERCORN = (*MODULE, "hypercorn", "--bind", "127.0.0.1:PORT", "asgi_app:app")
GUNICORN = (*MODULE, "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:PORT", "wsgi_app:app")
FLASK = ("--app", "flask_app", "run", "--port", "PORT")
DJANGO = (sys.executable, "django_app.py", "runserver", "127.0.0.1:PORT")

# Each kind of program without a reloader. The others are compared with these.
BARE = {
    kind: Contender(f"bare start: {kind}", (package,), command, kind)
    for kind, package, command in (
        ("tornado", "tornado", PYTHON),
        ("uvicorn", "uvicorn", UVICORN),
        ("granian", "granian", GRANIAN),
        ("hypercorn", "hypercorn", HYPERCORN),
        ("gunicorn", "gunicorn", GUNICORN),
        ("flask", "flask", (*MODULE, "flask", *FLASK)),
        ("django", "django", (*DJANGO, "--noreload")),
        ("node", "node", ("node", "node_app.mjs")),
        ("bun", "bun", ("bun", "bun_app.mjs")),
    )
}
ORACLE = Contender("oracle", ("tornado",), PYTHON)

# The program executes this once it listens. The measures need the line that is logged.
START = {
    "evreload": "import logging; logging.basicConfig(level='INFO'); "
    "logging.getLogger('tornado.access').setLevel('ERROR'); import evreload; evreload.start()",
    "tornado": "import logging; logging.basicConfig(level='INFO'); "
    "logging.getLogger('tornado.access').setLevel('ERROR'); "
    "import tornado.autoreload; tornado.autoreload.start()",
}
RESTARTING = "; restarting server"  # both evreload and Tornado log this
EVRELOAD = (
    Contender(
        "evreload start()",
        ("evreload",),
        PYTHON,
        prints=RESTARTING,
        variables={"START": START["evreload"]},
    ),
    Contender(
        "evreload", ("evreload",), (*MODULE, "evreload", "tornado_app.py"), prints=RESTARTING
    ),
    Contender(
        "evreload --warm",
        ("evreload",),
        (*MODULE, "evreload", "--warm", "tornado_app.py"),
        prints=RESTARTING,
        option="--warm",
    ),
    Contender(
        "evreload --poll",
        ("evreload",),
        (*MODULE, "evreload", "--poll", "tornado_app.py"),
        prints=RESTARTING,
    ),
)
PEERS = (
    Contender(
        "tornado.autoreload",
        ("tornado",),
        PYTHON,
        prints=RESTARTING,
        variables={"START": START["tornado"]},
    ),
    Contender(
        "tornado.autoreload, wrapper",
        ("tornado",),
        (*MODULE, "tornado.autoreload", "tornado_app.py"),
        prints=RESTARTING,
        variables={"START": START["tornado"]},
    ),
    Contender(
        "uvicorn, stat",
        ("uvicorn",),
        (*without("watchfiles", "uvicorn"), *UVICORN[3:], "--reload"),
        "uvicorn",
        prints="detected changes",
        walks=True,
    ),
    Contender(
        "uvicorn, watchfiles",
        ("uvicorn", "watchfiles"),
        (*UVICORN, "--reload"),
        "uvicorn",
        prints="detected changes",
    ),
    Contender(
        "granian",
        ("granian", "watchfiles"),
        (*GRANIAN, "--reload"),
        "granian",
        prints="Changes detected",
    ),
    Contender("hypercorn", ("hypercorn",), (*HYPERCORN, "--reload"), "hypercorn"),
    *(
        Contender(
            f"gunicorn, {engine}",
            packages,
            (*GUNICORN, "--reload", "--reload-engine", engine),
            "gunicorn",
            prints="Worker reloading",
        )
        for engine, packages in (("poll", ("gunicorn",)), ("inotify", ("gunicorn", "inotify")))
    ),
    *(
        Contender(
            f"hupper, {monitor}",
            packages,
            ("hupper", "-m", "tornado_app"),
            prints="changed; reloading",
            variables={"HUPPER_DEFAULT_MONITOR": path},
        )
        for monitor, path, packages in (
            ("poll", "hupper.polling.PollingFileMonitor", ("hupper",)),
            ("watchdog", "hupper.watchdog.WatchdogFileMonitor", ("hupper", "watchdog")),
        )
    ),
    *(
        Contender(
            f"Flask, {reloader}",
            ("flask", *more),
            (*program, *FLASK, "--reload"),
            "flask",
            prints="Detected change",
            walks=True,
        )
        for reloader, more, program in (
            ("stat", (), without("watchdog.observers", "flask")),
            ("watchdog", ("watchdog",), (*MODULE, "flask")),
        )
    ),
    Contender("Django", ("django",), DJANGO, "django", prints="changed, reloading"),
    Contender(
        "watchfiles",
        ("watchfiles",),
        (*MODULE, "watchfiles", "--filter", "python", shlex.join(PYTHON)),
        prints="change detected",
    ),
    Contender(
        "watchmedo",
        ("watchdog",),
        (*MODULE, "watchdog.watchmedo", "auto-restart", "-R", "-d", ".", "-p", "**/*.py",
         "--signal", "SIGTERM", "--", *PYTHON),
        walks=True,  # when its queue of events overflows
    ),
    Contender(
        "jurigged",
        ("jurigged",),
        (*MODULE, "jurigged", "--verbose", "tornado_app.py"),
        prints="Update",
        patches=True,
    ),
    Contender(
        "nodemon",
        ("node", "nodemon"),
        ("nodemon", "--ext", "mjs", "node_app.mjs"),
        "node",
        prints="restarting due to changes",
    ),
    Contender("bun --watch", ("bun",), ("bun", "--watch", "bun_app.mjs"), "bun"),
    Contender("bun --hot", ("bun",), ("bun", "--hot", "bun_app.mjs"), "bun", patches=True),
    Contender(
        "entr",
        ("entr",),
        ("sh", "-c", f"find . -name '*.py' | entr -nr {shlex.join(PYTHON)}"),
    ),
)  # fmt: skip
ALL = (*BARE.values(), ORACLE, *EVRELOAD, *PEERS)


def present(contenders: Iterable[Contender]) -> list[Contender]:
    """Return those of *contenders* that can be measured here."""
    return [one for one in contenders if not one.absent]


def versions() -> dict[str, str]:
    """Return the versions of all packages of the contenders."""
    names = {name: version(name) for one in ALL for name in one.packages}
    return {name: found for name, found in names.items() if found}


def absences() -> dict[str, str]:
    """Return the contenders that are left out, and why."""
    return {one.name: one.absent for one in ALL if one.absent}
