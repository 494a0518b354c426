"""What all measures share: the programs, their processes, a client, and the tables.

Everything listens on loopback only, is waited for a bounded time, and is ended by process id.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LIMIT = 15.0  # seconds; an edit that is not answered for until then counts as lost
CLIENT_PAUSE = 0.002  # seconds between two requests
MODULES_IN_A_PACKAGE = 20


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    restarts: int  # rounds of saves
    starts: int  # rounds of starts
    idle: float  # seconds
    idle_modules: int
    modules: tuple[int, int]  # a small and a large program
    hooks: int  # saves to the reload hook
    lags: int  # starts of which the loop's lag is taken

    @classmethod
    def full(cls) -> Scale:
        return cls(15, 20, 20, 1000, (100, 5000), hooks=10, lags=3)

    @classmethod
    def quick(cls) -> Scale:
        return cls(3, 4, 5, 200, (100, 500), hooks=2, lags=1)


# Programs

HELPER = "VALUE = {}  # {}\n"
SERVERS = {
    "tornado": """
import asyncio, os
import tornado.web
import everything
import helper

class Handler(tornado.web.RequestHandler):
    def get(self):
        self.write(str(helper.VALUE))

async def main():
    tornado.web.Application([("/", Handler)]).listen(int(os.environ["PORT"]), "127.0.0.1")
    exec(os.environ.get("START", ""))
    await asyncio.Event().wait()

asyncio.run(main())
""",
    "asgi": """
import everything
import helper

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(helper.VALUE).encode()})
""",
    "wsgi": """
import os
from werkzeug import Response, run_simple
import everything
import helper

def app(environ, start_response):
    return Response(str(helper.VALUE))(environ, start_response)

kind = os.environ.get("RELOADER")
run_simple(
    "127.0.0.1", int(os.environ["PORT"]), app, use_reloader=bool(kind), reloader_type=kind or "stat"
)
""",
}


def write_modules(directory: Path, count: int, start: int = 0, into: str = "everything") -> None:
    """Write *count* modules, and one named *into* that imports them all."""
    names = []
    for number in range(start, start + count):
        package = directory / f"package{number // MODULES_IN_A_PACKAGE}"
        package.mkdir(parents=True, exist_ok=True)
        (package / f"module{number}.py").write_text(f"VALUE = {number}\n")
        names.append(f"{package.name}.module{number}")
    (directory / f"{into}.py").write_text("".join(f"import {name}\n" for name in names))


def write_server(directory: Path, kind: str, modules: int) -> None:
    """Write the server program of *kind*, which imports *modules* modules and `helper`."""
    directory.mkdir(parents=True, exist_ok=True)
    write_modules(directory, modules)
    (directory / "server.py").write_text(SERVERS[kind])
    save(directory, 0)


def save(directory: Path, value: int, *, in_place: bool = False) -> float:
    """Save `helper` anew, as some editors do or as the others do; return when.

    Its length changes each time: peers that trust stale bytecode are not punished here.
    """
    text = HELPER.format(value, "x" * (value % 7))
    path = directory / "helper.py"
    if in_place:
        path.write_text(text)
        return time.perf_counter()
    beside = directory / "helper.py~"
    beside.write_text(text)
    beside.replace(path)
    return time.perf_counter()


# Processes


def environment() -> dict[str, str]:
    """Return the environment for what is measured, with bytecode on."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "WERKZEUG_RUN_MAIN")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted and not name.startswith("EVRELOAD")
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A process in a session of its own, with all that comes of it."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        variables: Mapping[str, str] | None = None,
        *,
        pipe: bool = False,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env={**environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self, word: str) -> str:
        """Return the next line that it prints with *word* in it."""
        assert self._process.stdout
        with _alarm(LIMIT, self.kill):
            for line in self._process.stdout:
                if word in line:
                    return line
        raise TimeoutError(f"the program has not said {word!r}")

    def kill(self) -> None:
        """End the process itself, at once."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """End it and all that came of it."""
        # Stopped first, then killed before its children, it can't start another in their place.
        _signal(self.pid, signal.SIGSTOP)
        for pid in family(self.pid):
            _signal(pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def _alarm(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def family(pid: int) -> list[int]:
    """Return *pid* and all that descends from it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):
                children = Path(f"/proc/{one}/task/{thread}/children").read_text()
                found += map(int, children.split())
    return found


# The client


def ask(port: int, timeout: float) -> str:
    """Return what is answered to one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while data := connection.recv(4096):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError
    return body.decode()


@dataclass
class Followed:
    """What a client saw of one restart; times in seconds."""

    elapsed: float = LIMIT
    gap: float = 0.0  # between the last answer of the old program and the first of the new
    refused: int = 0
    reset: int = 0
    lost: bool = True


def follow(port: int, value: int, since: float) -> Followed:
    """Ask again and again until the answer is *value*."""
    seen = Followed()
    last = since
    while (left := since + LIMIT - time.perf_counter()) > 0:
        try:
            answer = ask(port, left)
        except ConnectionRefusedError:
            seen.refused += 1
        except OSError:
            seen.reset += 1
        else:
            now = time.perf_counter()
            if answer == str(value):
                return Followed(now - since, now - last, seen.refused, seen.reset, lost=False)
            last = now
        time.sleep(CLIENT_PAUSE)
    return seen


def serving(port: int, value: int = 0) -> None:
    """Wait until *value* is served; raise TimeoutError if it never is."""
    if follow(port, value, time.perf_counter()).lost:
        raise TimeoutError(f"nothing serves {value}")


def random_phase(longest: float = 1.0) -> None:
    """Pause, so that no save is in step with anybody's polling."""
    time.sleep(random.uniform(0, longest))


# Tables


@dataclass
class Table:
    """A Markdown table with a title and a remark."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    remark: str = ""

    def __str__(self) -> str:
        lines = [f"### {self.title}", ""]
        lines += [
            f"| {' | '.join(self.columns)} |",
            "|---" + "|--:" * (len(self.columns) - 1) + "|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*lines, *(["", self.remark] if self.remark else [])])


SPREAD = ("median", "p90", "worst")


def spread(values: Iterable[float], unit: float = 1e3, digits: int = 0) -> list[str]:
    """Return median, 90th percentile and worst of *values*, by default seconds as milliseconds."""
    ordered = sorted(value * unit for value in values)
    if not ordered:
        return ["-"] * 3
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return [f"{value:.{digits}f}" for value in (statistics.median(ordered), p90, ordered[-1])]


def ratio(values: Sequence[float], to: Sequence[float]) -> str:
    if not values or not to:
        return "-"
    return f"{statistics.median(values) / statistics.median(to):.2f}"


def note(text: str) -> None:
    """Tell whoever waits what is going on."""
    print(f"… {text}", file=sys.stderr, flush=True)


def machine() -> str:
    """Describe where this runs."""
    uname = platform.uname()
    return (
        f"{os.cpu_count()} cores, {uname.system} {uname.release} on {uname.machine}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )
