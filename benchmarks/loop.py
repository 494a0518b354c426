"""What evreload costs on the event loop, compared with the polling of tornado.autoreload."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .processes import Program, environment
from .programs import save, write_modules
from .results import SPREAD, Cell, Table, spread
from .runners import note
from .scale import Scale

LATE = 500  # modules imported at once, while the program runs
LIMIT = 20.0  # seconds until the program is ready, or calls the hook
DEBOUNCE = 5.0  # milliseconds, evreload's default

# Prints the processor time of the loop's thread while idle, and the time of Tornado's polls.
TICK = """
import asyncio, json, sys, time
import everything, tornado.autoreload, tornado.ioloop

async def worked(seconds):
    began = time.thread_time()
    await asyncio.sleep(seconds)
    return time.thread_time() - began

async def main():
    seconds, reloader = float(sys.argv[1]), sys.argv[2]
    if reloader == "tornado":
        tornado.autoreload.start()
    elif reloader == "evreload":
        import evreload
        evreload.start()
    await asyncio.sleep(2)
    idle = await worked(seconds)
    seen, ticks = {}, []
    for _ in range(20):
        began = time.perf_counter()
        tornado.autoreload._reload_on_update(seen)
        ticks.append(time.perf_counter() - began)
    print(json.dumps([idle / seconds, ticks[1:], len(seen)]))

asyncio.run(main())
"""

# Prints the loop's lag and the times of evreload's callbacks, each while nothing happens, while
# evreload starts, and while another thread imports many modules at once.
LAG = """
import asyncio, json, sys, time
import everything, tornado.ioloop
import evreload

lags, callbacks = [], []
plain = asyncio.events.Handle._run

def timed(handle):
    began, worked = time.perf_counter(), time.thread_time()
    plain(handle)
    took = time.perf_counter() - began, time.thread_time() - worked
    if "evreload" in repr(handle._args) + repr(handle._callback):
        callbacks.append(took)

asyncio.events.Handle._run = timed

async def ticker():
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        lags.append(time.perf_counter() - began - 0.001)

async def during(what, seconds):
    lags.clear(), callbacks.clear()
    await what()
    await asyncio.sleep(seconds)
    return lags[:], callbacks[:]

async def nothing(): ...

async def start():
    if sys.argv[1] == "evreload":
        evreload.start()

async def late():
    await asyncio.to_thread(__import__, "late")

async def main():
    task = asyncio.create_task(ticker())
    await asyncio.sleep(0.5)
    print(json.dumps([await during(nothing, 1), await during(start, 1.5), await during(late, 1.5)]))

asyncio.run(main())
"""

# Prints a line when it is ready, and the time when its reload hook is called.
HOOK = """
import asyncio, sys, time
import everything, helper, tornado.ioloop
import evreload

async def main():
    evreload.start()
    evreload.add_reload_hook(lambda: print("hook", time.perf_counter(), flush=True))
    await asyncio.sleep(1.0)
    while not evreload._backend.current()._watcher._is_announced:
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def measure(place: Path, scale: Scale) -> list[Table]:
    """Run programs with few and with many modules, alternately with and without evreload."""
    for modules in scale.loops:
        note(f"loop: writing {modules} modules")
        directory = place / str(modules)
        directory.mkdir()
        write_modules(directory, modules)
        write_modules(directory, LATE, start=modules, into="late")
        save(directory, 0, "py")
        for name, program in (("tick", TICK), ("lag", LAG), ("hook", HOOK)):
            (directory / f"{name}.py").write_text(program)
        _run(directory, "lag.py", "none")  # writes the bytecode
    return [_ticks(place, scale), _lags(place, scale), _hooks(place, scale)]


def _ticks(place: Path, scale: Scale) -> Table:
    table = Table(
        "The loop's own work while idle (ms)",
        ("loop's CPU, ms a second", *(f"one look, {one}" for one in SPREAD), "per 1,000 files"),
        bars="loop's CPU, ms a second",
    )
    for modules in scale.loops:
        for reloader in ("none", "tornado", "evreload"):
            note(f"loop: idle with {modules} modules, {reloader}")
            idle, ticks, files = _run(place / str(modules), "tick.py", str(scale.looking), reloader)
            looks: list[Cell] = ["never looks"]
            if reloader == "tornado":
                median, p90, worst = spread(ticks)
                looks = [median, p90, worst, statistics.median(ticks) * 1e6 / files]
            table.add(_row_name(modules, reloader), idle * 1e3, *looks)
    return table


def _row_name(modules: int, reloader: str) -> str:
    names = {"none": "no reloader", "tornado": "tornado.autoreload", "evreload": "evreload"}
    return f"{modules} modules, {names[reloader]}"


def _lags(place: Path, scale: Scale) -> Table:
    table = Table(
        f"The loop's lag, and evreload's callbacks on it (ms; {scale.lags} programs each)",
        ("lag p50", "p99", "max", "our callbacks", "p99", "longest", "CPU p99", "most CPU"),
    )
    table.remarks.append(
        f"{LATE} modules are imported at once, on another thread. What a callback took beyond its "
        "CPU time, it waited for other threads or programs."
    )
    for modules in scale.loops:
        seen: dict[str, list[Any]] = {"none": [], "evreload": []}
        for number in range(scale.lags):
            note(f"loop: lag with {modules} modules, program {number + 1} of {scale.lags}")
            for reloader, runs in seen.items():
                # The import of late modules is to be the same each time.
                runs.append(_run(place / str(modules), "lag.py", reloader))
        for number, when in enumerate(("idle", "at start()", f"while {LATE} are imported")):
            for reloader, runs in seen.items():
                lags = sorted(lag for run in runs for lag in run[number][0])
                took = [one for run in runs for one in run[number][1]]
                table.add(
                    f"{_row_name(modules, reloader)}, {when}",
                    *_percentiles(lags, 0.5, 0.99, 1),
                    len(took),
                    *_percentiles(sorted(wall for wall, _ in took), 0.99, 1),
                    *_percentiles(sorted(cpu for _, cpu in took), 0.99, 1),
                )
    return table


def _percentiles(ordered: list[float], *shares: float) -> list[Cell]:
    last = len(ordered) - 1
    return [ordered[int(share * last)] * 1e3 if ordered else None for share in shares]


def _hooks(place: Path, scale: Scale) -> Table:
    table = Table(
        f"Save to reload hook, less the debounce of {DEBOUNCE:g} ms (ms; {scale.hooks} saves)",
        SPREAD,
    )
    for modules in scale.loops:
        note(f"loop: save to hook with {modules} modules")
        taken = _to_hook(place / str(modules), scale.hooks)
        table.add(f"{modules} modules", *spread(taken), samples=taken)
    return table


def _to_hook(directory: Path, count: int) -> list[float]:
    """Return for each save the time until the hook was called, less the debounce."""
    taken = []
    since = time.perf_counter()
    program = Program([sys.executable, "hook.py"], directory)
    try:
        for value in range(1, count + 1):
            program.line("ready", since, LIMIT)
            since = save(directory, value, "py", in_place=value % 2 == 0)
            called = float(program.line("hook", since, LIMIT).split()[1])
            taken.append(called - since - DEBOUNCE / 1e3)
    finally:
        program.end()
    return taken


def _run(directory: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(done.stdout)
