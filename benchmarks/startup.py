"""What evreload adds to the start of a program."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .harness import (
    SPREAD,
    Program,
    Scale,
    Table,
    environment,
    follow,
    free_port,
    note,
    save,
    spread,
    write_server,
)

START = """
import asyncio, time, tornado.ioloop, tornado.web, evreload

async def main():
    tornado.ioloop.IOLoop.current()
    began = time.perf_counter()
    evreload.start()
    print(time.perf_counter() - began)

asyncio.run(main())
"""
# Prints what its process has worked before the program's first line.
VALUES = itertools.count(1)
FIRST_LINE = "import time; print(time.process_time())"


def measure(place: Path, scale: Scale) -> list[Table]:
    """Start everything in turn, and compare what was started in the same round."""
    (place / "first.py").write_text(FIRST_LINE)
    (place / "start.py").write_text(START)
    write_server(place / "server", "tornado", 50)
    ways: dict[str, Callable[[], float]] = {
        "`python -c pass`": lambda: _run(place, "-c", "pass"),
        '`python -c "import evreload"`': lambda: _run(place, "-c", "import evreload"),
        "CPU before the first line, under python": lambda: _told(place, "first.py"),
        "CPU before the first line, under the command": lambda: _told(
            place, "-m", "evreload", "--until-success", "first.py"
        ),
        "server under python, to first answer": lambda: _answer(place / "server", "server.py"),
        "server under the command, to first answer": lambda: _answer(
            place / "server", "-m", "evreload", "server.py"
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    starts = []
    for number in range(scale.starts + 1):
        note(f"startup, round {number} of {scale.starts}")
        for name, way in ways.items():
            taken[name].append(way())
        starts.append(_told(place, "start.py"))
    for values in (*taken.values(), starts):
        del values[0]  # it wrote the bytecode
    table = Table(f"Start-up (ms; {scale.starts} starts)", ("", *SPREAD, "added, median"))
    names = list(ways)
    for plain, ours in zip(names[::2], names[1::2], strict=True):
        added = statistics.median(b - a for a, b in zip(taken[plain], taken[ours], strict=True))
        table.rows.append([plain, *spread(taken[plain], digits=1), ""])
        table.rows.append([ours, *spread(taken[ours], digits=1), f"{added * 1e3:.1f}"])
    table.rows.append(
        ["`evreload.start()` where Tornado is imported", *spread(starts, digits=2), ""]
    )
    return [table]


def _run(place: Path, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=place, env=environment(), check=True)
    return time.perf_counter() - began


def _told(place: Path, *arguments: str) -> float:
    """Return what the program prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=place, env=environment(), check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _answer(directory: Path, *arguments: str) -> float:
    value = next(VALUES)
    save(directory, value)
    port = free_port()
    began = time.perf_counter()
    program = Program([sys.executable, *arguments], directory, {"PORT": str(port)})
    try:
        return follow(port, value, began).elapsed
    finally:
        program.end()
