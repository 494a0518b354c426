"""Who is measured. To add one, add an entry."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PYTHON = (sys.executable, "server.py")
MODULE = (sys.executable, "-m")


@dataclass(frozen=True)
class Contender:
    """A way to have a program restarted.

    *command* runs it in the directory of the program, which *start* and *reloader* reach through
    its environment, and the port to serve; see `harness.SERVERS`.
    """

    name: str
    package: str | None  # on PyPI
    command: tuple[str, ...]
    kind: str = "tornado"
    start: str = ""
    reloader: str = ""

    @property
    def version(self) -> str | None:
        """The version installed, None if it is not."""
        if self.package is None:
            return ""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    def variables(self, port: int) -> dict[str, str]:
        """Return what the program learns through its environment."""
        return {"PORT": str(port), "START": self.start, "RELOADER": self.reloader}

    def at(self, port: int) -> list[str]:
        """Return the command line, for servers that take the port from it."""
        return [word.replace("PORT", str(port)) for word in self.command]


UVICORN = (*MODULE, "uvicorn", "server:app", "--host", "127.0.0.1", "--port", "PORT")
QUOTED = shlex.join(PYTHON)

# What each kind of program is without a reloader: the measure of all others.
BARE = {
    "tornado": Contender("bare start: tornado", "tornado", PYTHON),
    "asgi": Contender("bare start: uvicorn", "uvicorn", UVICORN, "asgi"),
    "wsgi": Contender("bare start: werkzeug", "werkzeug", PYTHON, "wsgi"),
}
ORACLE = Contender("oracle", None, PYTHON)
EVRELOAD = (
    Contender("evreload start()", "evreload", PYTHON, start="import evreload; evreload.start()"),
    Contender("evreload", "evreload", (*MODULE, "evreload", "server.py")),
    Contender("evreload --poll", "evreload", (*MODULE, "evreload", "--poll", "server.py")),
)
TORNADO = "import tornado.autoreload; tornado.autoreload.start()"
PEERS = (
    Contender("tornado.autoreload", "tornado", PYTHON, start=TORNADO),
    Contender(
        "tornado.autoreload, wrapper",
        "tornado",
        (*MODULE, "tornado.autoreload", "server.py"),
        start=TORNADO,
    ),
    Contender("uvicorn --reload", "uvicorn", (*UVICORN, "--reload"), "asgi"),
    Contender("hupper", "hupper", (str(Path(sys.executable).with_name("hupper")), "-m", "server")),
    Contender("watchfiles", "watchfiles", (*MODULE, "watchfiles", "--filter", "python", QUOTED)),
    # Its other reloader, on watchdog, is left out: with watchdog 7.1 its own looking makes events
    # for it, without end, and the core it takes would falsify all the others.
    Contender("werkzeug, stat", "werkzeug", PYTHON, "wsgi", reloader="stat"),
    Contender(
        "watchmedo",
        "watchdog",
        (*MODULE, "watchdog.watchmedo", "auto-restart", "-R", "-d", ".", "-p", "*.py",
         "--signal", "SIGTERM", "--", *PYTHON),
    ),
)  # fmt: skip


def present(contenders: Sequence[Contender]) -> list[Contender]:
    """Return those of *contenders* that are installed."""
    return [one for one in contenders if one.version is not None]


def versions() -> str:
    """Say what is measured in which version, and what is not for being absent."""
    everyone = (*BARE.values(), *EVRELOAD, *PEERS)
    found = {one.package: one.version for one in everyone if one.package}
    there = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    absent = ", ".join(str(name) for name, version in found.items() if version is None)
    return f"{there}." + (f" Not installed, so left out: {absent}." if absent else "")
