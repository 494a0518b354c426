"""What an idle program costs: processor time, wake-ups, system calls and memory of its tree."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .processes import increase, memory, process_tree, processor_seconds, threads, wake_ups
from .programs import link_tree, write_others, write_programs
from .results import Table
from .runners import Runner, bare_starts, note, restarting, side_by_side
from .scale import Scale, Tree

MINUTE = 60.0  # seconds
ATTACHING = 2.0  # seconds after strace attaches, which interrupts the program
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
    """The cost of a process and its descendants."""

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
    """Run all contenders side by side on the same files, without a save."""
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
        costs = measure_idle(runners, scale.idle, place)
    for runner in runners:
        if runner in costs:
            table.add(runner.contender.name, *costs[runner].cells())
        else:
            table.fail(runner.contender.name, runner.failed)
    return table


def measure_idle(runners: Sequence[Runner], seconds: float, place: Path) -> dict[Runner, Cost]:
    """Return the cost of *runners* while nothing happens; those that run alone come last."""
    costs = _measure_idle([one for one in runners if one.program], seconds, place)
    for runner in runners:
        if runner.alone and not runner.failed:
            runner.attempt(lambda one: costs.update(_measure_idle([one], seconds, place)))
    return costs


def _measure_idle(runners: Sequence[Runner], seconds: float, place: Path) -> dict[Runner, Cost]:
    note(f"idle: {len(runners)} programs, {seconds:g} s, and again under strace")
    trees = [process_tree(one.program.pid) for one in runners if one.program]
    before = [(processor_seconds(pids), wake_ups(pids)) for pids in trees]
    time.sleep(seconds)
    after = [(processor_seconds(pids), wake_ups(pids)) for pids in trees]
    calls = _system_calls(trees, seconds, place)
    return {
        runner: Cost(
            increase(a[0], b[0]) / seconds,
            increase(a[1], b[1]) / seconds,
            number,
            len(pids),
            threads(pids),
            memory(pids),
        )
        for runner, pids, a, b, number in zip(runners, trees, before, after, calls, strict=True)
    }


def _system_calls(trees: list[list[int]], seconds: float, place: Path) -> list[float | None]:
    """Return the system calls a second of each of *trees*; None without strace."""
    if not (strace := shutil.which("strace")):
        return [None] * len(trees)
    traces = [place / f"trace{number}" for number in range(len(trees))]
    tracers = []
    for pids, trace in zip(trees, traces, strict=True):
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
