"""Who is measured. To add one, add an entry."""

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
    """A way to have a program restarted.

    *command* is run in the directory of the program; PORT in it stands for the port to serve, which
    the program also finds in its environment, beside *variables*. *packages* are what it needs:
    distributions of Python, or else programs. *tells* is in the line by which it says that it
    noticed a change.
    """

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    kind: str = "tornado"  # its bare start, below
    tells: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    option: str = ""  # is one of its command's, or it is left out
    patches: bool = False  # the running program, and restarts nothing
    walks: bool = False  # through the directories while idle, which is news to who watches these

    @property
    def language(self) -> str:
        return "mjs" if self.kind in ("node", "bun") else "py"

    @property
    def absent(self) -> str:
        """Why it is left out, if it is."""
        missing = [name for name in self.packages if version(name) is None]
        if missing:
            return f"{', '.join(missing)} not installed"
        if self.option and self.option not in _help(self.command):
            return f"{self.packages[0]} {version(self.packages[0])} refuses {self.option}"
        return ""

    def at(self, port: int) -> list[str]:
        """Return the command line."""
        program = tool(self.command[0]) or self.command[0]
        return [word.replace("PORT", str(port)) for word in (program, *self.command[1:])]

    def environment(self, port: int) -> dict[str, str]:
        """Return what it finds in its environment."""
        return {"PORT": str(port), **self.variables}


@functools.cache
def tool(name: str) -> str | None:
    """Return where the program *name* is: beside this interpreter, of npm, or on PATH."""
    places = [Path(sys.executable).parent, Path("node_modules/.bin").absolute()]
    return shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))


@functools.cache
def version(name: str) -> str | None:
    """Return the version installed of a distribution or a program."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = re.search(r"\d+(\.\d+)+", _printed(tool(name), "--version") if tool(name) else "")
        return found and found[0]


@functools.cache
def _help(command: tuple[str, ...]) -> str:
    """Return what `python -m MODULE --help` prints, of a command that begins so."""
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
    """Run *module* as `python -m` does, with *hidden*, which it would take, not to be had."""
    code = f"import runpy, sys; sys.modules[{hidden!r}] = None; "
    code += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return (sys.executable, "-c", code)


UVICORN = (*MODULE, "uvicorn", "asgi_app:app", "--host", "127.0.0.1", "--port", "PORT")
GRANIAN = ("granian", "--interface", "asgi", "--port", "PORT", "asgi_app:app")
HYPERCORN = (*MODULE, "hypercorn", "--bind", "127.0.0.1:PORT", "asgi_app:app")
GUNICORN = (*MODULE, "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:PORT", "wsgi_app:app")
FLASK = ("--app", "flask_app", "run", "--port", "PORT")
DJANGO = (sys.executable, "django_app.py", "runserver", "127.0.0.1:PORT")

# What each kind of program is without a reloader: the measure of all others.
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

# In the program, after it listens; the line it logs is wanted.
START = {
    "evreload": "import logging; logging.basicConfig(level='INFO'); "
    "logging.getLogger('tornado.access').setLevel('ERROR'); import evreload; evreload.start()",
    "tornado": "import logging; logging.basicConfig(level='INFO'); "
    "logging.getLogger('tornado.access').setLevel('ERROR'); "
    "import tornado.autoreload; tornado.autoreload.start()",
}
RESTARTING = "; restarting server"  # says evreload, and so does Tornado
EVRELOAD = (
    Contender(
        "evreload start()",
        ("evreload",),
        PYTHON,
        tells=RESTARTING,
        variables={"START": START["evreload"]},
    ),
    Contender("evreload", ("evreload",), (*MODULE, "evreload", "tornado_app.py"), tells=RESTARTING),
    Contender(
        "evreload --warm",
        ("evreload",),
        (*MODULE, "evreload", "--warm", "tornado_app.py"),
        tells=RESTARTING,
        option="--warm",
    ),
    Contender(
        "evreload --poll",
        ("evreload",),
        (*MODULE, "evreload", "--poll", "tornado_app.py"),
        tells=RESTARTING,
    ),
)
PEERS = (
    Contender(
        "tornado.autoreload",
        ("tornado",),
        PYTHON,
        tells=RESTARTING,
        variables={"START": START["tornado"]},
    ),
    Contender(
        "tornado.autoreload, wrapper",
        ("tornado",),
        (*MODULE, "tornado.autoreload", "tornado_app.py"),
        tells=RESTARTING,
        variables={"START": START["tornado"]},
    ),
    Contender(
        "uvicorn, stat",
        ("uvicorn",),
        (*without("watchfiles", "uvicorn"), *UVICORN[3:], "--reload"),
        "uvicorn",
        tells="detected changes",
        walks=True,
    ),
    Contender(
        "uvicorn, watchfiles",
        ("uvicorn", "watchfiles"),
        (*UVICORN, "--reload"),
        "uvicorn",
        tells="detected changes",
    ),
    Contender(
        "granian",
        ("granian", "watchfiles"),
        (*GRANIAN, "--reload"),
        "granian",
        tells="Changes detected",
    ),
    Contender("hypercorn", ("hypercorn",), (*HYPERCORN, "--reload"), "hypercorn"),
    *(
        Contender(
            f"gunicorn, {engine}",
            packages,
            (*GUNICORN, "--reload", "--reload-engine", engine),
            "gunicorn",
            tells="Worker reloading",
        )
        for engine, packages in (("poll", ("gunicorn",)), ("inotify", ("gunicorn", "inotify")))
    ),
    *(
        Contender(
            f"hupper, {monitor}",
            packages,
            ("hupper", "-m", "tornado_app"),
            tells="changed; reloading",
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
            tells="Detected change",
            walks=True,
        )
        for reloader, more, program in (
            ("stat", (), without("watchdog.observers", "flask")),
            ("watchdog", ("watchdog",), (*MODULE, "flask")),
        )
    ),
    Contender("Django", ("django",), DJANGO, "django", tells="changed, reloading"),
    Contender(
        "watchfiles",
        ("watchfiles",),
        (*MODULE, "watchfiles", "--filter", "python", shlex.join(PYTHON)),
        tells="change detected",
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
        tells="Update",
        patches=True,
    ),
    Contender(
        "nodemon",
        ("node", "nodemon"),
        ("nodemon", "--ext", "mjs", "node_app.mjs"),
        "node",
        tells="restarting due to changes",
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
    """Return the versions of all that is measured."""
    names = {name: version(name) for one in ALL for name in one.packages}
    return {name: found for name, found in names.items() if found}


def absences() -> dict[str, str]:
    """Return who is left out, and why."""
    return {one.name: one.absent for one in ALL if one.absent}
