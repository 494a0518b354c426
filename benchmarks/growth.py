"""How the time of a restart and the cost of idle programs grow with the number of modules."""

from __future__ import annotations

from pathlib import Path

from . import idle
from .idle import Cost
from .results import Table, spread
from .runners import (
    Bare,
    Runner,
    make_runners,
    restarting,
    save_and_follow,
    side_by_side,
    take_turns,
)
from .scale import Scale

# Contenders that watch in the same way as one that is measured.
LEFT_OUT = (
    "tornado.autoreload, wrapper",
    "hypercorn",
    "gunicorn, poll",
    "hupper, poll",
    "Flask, watchdog",
    "watchmedo",
    "entr",
    "bun --watch",
)


def measure(place: Path, scale: Scale) -> list[Table]:
    """Measure the same contenders at each size, one size after the other."""
    contenders = [one for one in restarting(scale.only) if one.name not in LEFT_OUT]
    times: dict[str, list[float | str | None]] = {}
    costs: dict[str, list[Cost | None]] = {}
    for modules in scale.grown:
        directory = place / str(modules)
        directory.mkdir()
        what = f"growth, {modules:,} modules"
        runners = make_runners(directory, contenders, modules)
        with side_by_side(runners, what):
            seen = idle.measure_idle(
                [one for one in runners if type(one) is Runner], scale.idle, directory
            )
            take_turns(runners, scale.growth, what, save_and_follow)
        for runner in runners:
            name = runner.contender.name
            median = "failed" if runner.failed else spread(runner.times)[0]
            times.setdefault(name, []).append(median)
            if not isinstance(runner, Bare):
                costs.setdefault(name, []).append(seen.get(runner))
    columns = [f"{modules:,}" for modules in scale.grown]
    title = f"Save to first answer, by the number of modules (ms; median of {scale.growth} saves)"
    tables = [Table(title, columns, list(times.items()), lines="modules")]
    for index, column in enumerate(idle.COLUMNS):
        if column in ("processes", "threads"):
            continue
        table = Table(f"Idle, by the number of modules: {column}", columns)
        for name, row in costs.items():
            if any(row):
                table.add(name, *(cost.cells()[index] if cost else None for cost in row))
        table.lines = "modules" if column == idle.COLUMNS[0] else ""
        tables.append(table)
    return tables
