"""What a reloader adds to the start of a program, and what each part of evreload adds."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .processes import environment
from .programs import write_others, write_programs
from .results import SPREAD, Cell, Table, ratio, spread
from .runners import STARTING, Runner, bare_starts, note, restarting, take_turns
from .scale import Scale, Tree

START = """
import asyncio, time, tornado.ioloop, tornado.web, evreload

async def main():
    tornado.ioloop.IOLoop.current()
    began = time.perf_counter()
    evreload.start()
    print(time.perf_counter() - began)

asyncio.run(main())
"""
# Prints the processor time of its process before the program's first line.
FIRST_LINE = "import time; print(time.process_time())"


def measure(place: Path, scale: Scale) -> list[Table]:
    """Start all contenders on each tree in turns; then measure evreload's parts."""
    trees = {tree: _starts(place / f"tree{i}", tree, scale) for i, tree in enumerate(scale.trees)}
    columns = [f"{tree}: {what}" for tree in scale.trees for what in ("ms", "ratio to bare")]
    title = f"Start to first answer (ms; median of {scale.startup} starts)"
    table = Table(title, columns, bars=columns[1])
    for name in dict.fromkeys(name for rows in trees.values() for name in rows):
        table.add(name, *(cell for rows in trees.values() for cell in rows[name]))
    return [table, _own(place / "own", scale)]


def _starts(directory: Path, tree: Tree, scale: Scale) -> dict[str, list[Cell]]:
    """Return for each contender the time until it serves, and the ratio to its bare start."""
    contenders = restarting(scale.only)
    contenders = [*bare_starts(contenders), *contenders]
    write_programs(directory, tree.modules, {one.language for one in contenders})
    write_others(directory, tree.directories)
    runners = [Runner(one, directory) for one in contenders]
    take_turns(runners, scale.startup, f"startup, {tree}", _start)
    bare = {one.contender.kind: one.times for one in runners[: -len(restarting(scale.only))]}
    return {
        one.contender.name: ["failed", None]
        if one.failed
        else [spread(one.times)[0], ratio(one.times, bare[one.contender.kind])]
        for one in runners
    }


def _start(runner: Runner, number: int) -> None:
    began = time.perf_counter()
    runner.start()
    runner.seen.append(runner.follow(began, STARTING))
    runner.end()


def _own(place: Path, scale: Scale) -> Table:
    """Return what the import of evreload, its command, and `start()` add."""
    write_programs(place, 50, ["py"])
    (place / "first.py").write_text(FIRST_LINE)
    (place / "start.py").write_text(START)
    timings: dict[str, Callable[[], float]] = {
        "`python -c pass`": lambda: _run(place, "-c", "pass"),
        '`python -c "import evreload"`': lambda: _run(place, "-c", "import evreload"),
        "CPU before the first line, under python": lambda: _printed(place, "first.py"),
        "CPU before the first line, under the command": lambda: _printed(
            place, "-m", "evreload", "--until-success", "first.py"
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in timings}
    starts = []
    for number in range(scale.own_starts + 1):
        note(f"startup, evreload's part: round {number} of {scale.own_starts}")
        for name, timing in timings.items():
            taken[name].append(timing())
        starts.append(_printed(place, "start.py"))
    for values in (*taken.values(), starts):
        del values[0]  # the first start wrote the bytecode
    table = Table(f"What evreload adds (ms; {scale.own_starts} starts)", (*SPREAD, "added, median"))
    names = list(timings)
    for plain, with_evreload in zip(names[::2], names[1::2], strict=True):
        added = statistics.median(
            b - a for a, b in zip(taken[plain], taken[with_evreload], strict=True)
        )
        table.add(plain, *spread(taken[plain]))
        table.add(with_evreload, *spread(taken[with_evreload]), added * 1e3)
    table.add("`evreload.start()` where Tornado is imported", *spread(starts))
    return table


def _run(place: Path, *arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=place, env=environment(), check=True)
    return time.perf_counter() - began


def _printed(place: Path, *arguments: str) -> float:
    """Return the number that the program prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=place, env=environment(), check=True, capture_output=True, text=True
    )
    return float(done.stdout)
