"""What an idle program costs: processor time, wake-ups, system calls and memory of all its tree."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .processes import family, grown, memory, threads, woken, worked
from .programs import link_tree, write_others, write_programs
from .results import Table
from .runners import Runner, bare_starts, note, restarting, side_by_side
from .scale import Scale, Tree

MINUTE = 60.0  # seconds
ATTACHING = 2.0  # seconds; to attach to a program interrupts it
COLUMNS = (
    "CPU, ms a minute",
    "wake-ups a second",
    "system calls a second",
    "processes",
    "threads",
    "memory, MB",
)


@dataclass
class Cost:
    """Of a process and all that descends from it."""

    cpu: float  # seconds a second
    wakes: float  # a second
    calls: float | None  # a second; None without strace
    processes: int
    threads: int
    memory: float  # MB

    def cells(self) -> list[float | None]:
        cpu = self.cpu * MINUTE * 1e3
        return [cpu, self.wakes, self.calls, self.processes, self.threads, self.memory]


def measure(place: Path, scale: Scale) -> list[Table]:
    """Run all contenders side by side on the same files, and let them be."""
    return [_on(place / f"tree{number}", tree, scale) for number, tree in enumerate(scale.trees)]


def _on(place: Path, tree: Tree, scale: Scale) -> Table:
    contenders = restarting(scale.only)
    contenders = [*bare_starts(contenders), *contenders]
    shared = place / "shared"
    write_programs(shared, tree.modules, {one.language for one in contenders})
    write_others(shared, tree.directories)
    runners = []
    for number, one in enumerate(contenders):
        directory = place / f"own{number}" if one.walks else shared
        if one.walks:
            link_tree(shared, directory)
        runners.append(Runner(one, directory))
    table = Table(f"Idle: {tree}", COLUMNS, bars=COLUMNS[0])
    with side_by_side(runners, f"idle, {tree}", prove=False):
        costs = look(runners, scale.idle, place)
    for runner in runners:
        if runner in costs:
            table.add(runner.contender.name, *costs[runner].cells())
        else:
            table.fail(runner.contender.name, runner.failed)
    return table


def look(runners: Sequence[Runner], seconds: float, place: Path) -> dict[Runner, Cost]:
    """Return what *runners* cost while nothing happens; those that run alone come last."""
    costs = _look([one for one in runners if one.program], seconds, place)
    for runner in runners:
        if runner.alone and not runner.failed:
            runner.attempt(lambda it: costs.update(_look([it], seconds, place)))
    return costs


def _look(runners: Sequence[Runner], seconds: float, place: Path) -> dict[Runner, Cost]:
    note(f"idle: {len(runners)} programs, {seconds:g} s, and again under strace")
    families = [family(one.program.pid) for one in runners if one.program]
    before = [(worked(pids), woken(pids)) for pids in families]
    time.sleep(seconds)
    after = [(worked(pids), woken(pids)) for pids in families]
    calls = _system_calls(families, seconds, place)
    return {
        runner: Cost(
            grown(a[0], b[0]) / seconds,
            grown(a[1], b[1]) / seconds,
            number,
            len(pids),
            threads(pids),
            memory(pids),
        )
        for runner, pids, a, b, number in zip(runners, families, before, after, calls, strict=True)
    }


def _system_calls(families: list[list[int]], seconds: float, place: Path) -> list[float | None]:
    """Return how many system calls a second each of *families* makes; None without strace."""
    if not (strace := shutil.which("strace")):
        return [None] * len(families)
    traces = [place / f"trace{number}" for number in range(len(families))]
    tracers = []
    for pids, trace in zip(families, traces, strict=True):
        command = [strace, "-f", "-ttt", "-s", "0", "-o", str(trace)]
        for pid in pids:
            command += ["-p", str(pid)]
        tracers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    time.sleep(ATTACHING)
    since = time.time()
    time.sleep(seconds)
    until = time.time()
    for tracer in tracers:
        tracer.terminate()
    for tracer in tracers:
        tracer.wait()
    return [_count(trace, since, until) / seconds for trace in traces]


def _count(trace: Path, since: float, until: float) -> int:
    lines = (line.split(maxsplit=2) for line in trace.read_text(errors="replace").splitlines())
    return sum(
        since < float(stamp) < until and not what.startswith(("<...", "---", "+++"))
        for _, stamp, what in lines
    )
