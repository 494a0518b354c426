"""What an idle program costs: processor time and system calls, of the whole process tree."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from .contenders import BARE, EVRELOAD, PEERS, present
from .harness import Program, Scale, Table, family, free_port, note, serving, write_server

CALM = 5.0  # seconds after the last of them has started
MINUTE = 60.0  # seconds


def measure(place: Path, scale: Scale) -> list[Table]:
    """Run all contenders side by side on the same files, and let them be."""
    modules = scale.idle_modules
    contenders = present([*BARE.values(), *EVRELOAD, *PEERS])
    for kind in {one.kind for one in contenders}:
        write_server(place / kind, kind, modules)
    programs: list[Program] = []
    try:
        for one in contenders:
            note(f"idle: starting {one.name}")
            port = free_port()
            programs.append(Program(one.at(port), place / one.kind, one.variables(port)))
            serving(port)
        time.sleep(CALM)
        families = [family(program.pid) for program in programs]
        times = _processor_times(scale.idle, families)
        calls = _system_calls(scale.idle, families, place)
        table = Table(
            f"Idle ({modules} modules; of the whole process tree)",
            ("", "CPU, ms a minute", "system calls a minute", "processes", "threads", "memory, MB"),
            remark="Memory is the proportional set size: what processes share counts in parts.",
        )
        for one, pids, cpu, number in zip(contenders, families, times, calls, strict=True):
            table.rows.append([
                one.name,
                f"{cpu * 1e3:.1f}",
                "-" if number is None else f"{number:.0f}",
                str(len(pids)),
                str(sum(len(list(_tasks(pid))) for pid in pids)),
                f"{sum(map(_memory, pids)) / 1e3:.0f}",
            ])  # fmt: skip
    finally:
        for program in programs:
            program.end()
    return [table]


def _processor_times(duration: float, families: list[list[int]]) -> list[float]:
    """Return the seconds a minute that each of *families* is on a processor."""
    note(f"idle: processor time, {duration:g} s")
    before = [sum(map(_worked, pids)) for pids in families]
    time.sleep(duration)
    after = [sum(map(_worked, pids)) for pids in families]
    return [(b - a) * MINUTE / duration for a, b in zip(before, after, strict=True)]


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _worked(pid: int) -> float:
    """Return how many seconds *pid* has been on a processor, by the scheduler's own count."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(pid)) / 1e9


def _memory(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(found[1]) if found else 0


def _system_calls(duration: float, families: list[list[int]], place: Path) -> list[float | None]:
    """Return how many system calls a minute each of *families* makes; None without strace."""
    if not (strace := shutil.which("strace")):
        return [None] * len(families)
    note(f"idle: system calls, {duration:g} s")
    traces = [place / f"trace{number}" for number in range(len(families))]
    tracers = []
    for pids, trace in zip(families, traces, strict=True):
        command = [strace, "-f", "-ttt", "-o", str(trace)]
        for pid in pids:
            command += ["-p", str(pid)]
        tracers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    time.sleep(2)  # to attach to a program interrupts it
    since = time.time()
    time.sleep(duration)
    until = time.time()
    for tracer in tracers:
        tracer.terminate()
    for tracer in tracers:
        tracer.wait()
    return [_count(trace, since, until) * MINUTE / duration for trace in traces]


def _count(trace: Path, since: float, until: float) -> int:
    lines = (line.split(maxsplit=2) for line in trace.read_text(errors="replace").splitlines())
    return sum(
        since < float(stamp) < until and not what.startswith(("<...", "---", "+++"))
        for _, stamp, what in lines
    )
