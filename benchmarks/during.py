"""A second edit while the program restarts for a first: the second may be lost."""

from __future__ import annotations

import random
import time
from pathlib import Path

from .programs import save
from .results import SPREAD, Table, spread
from .runners import Runner, measured, restarting, side_by_side, take_turns, write_for
from .scale import Scale

MODULES = 50
PAUSE = 0.3  # seconds for which the program sleeps after it has imported the edited module
LIMIT = 5.0  # seconds; after these and the time of two starts, the second edit counts as lost
AT_ONCE = 10  # contenders at a time: most of the time they are idle


def measure(place: Path, scale: Scale) -> list[Table]:
    """Save, and save again after the program has imported the first version, before it serves."""
    contenders = [one for one in restarting(scale.only) if not one.patches]
    runners = [
        Runner(one, place / f"contender{number}", count_starts=True)
        for number, one in enumerate(contenders)
    ]
    write_for(runners, place, MODULES)
    for runner in runners:
        runner.variables["PAUSE"] = str(PAUSE)
    with side_by_side(runners, "during"):
        take_turns(runners, scale.during, "during", _save_twice, AT_ONCE)
    table = Table(
        f"A second edit during the restart for a first ({scale.during} rounds)",
        ("lost", "of", *(f"to its answer, {one}, ms" for one in SPREAD)),
        bars="lost",
    )
    for runner in measured(runners, table):
        lost = sum(seen.lost for seen in runner.seen)
        table.add(runner.contender.name, lost, len(runner.seen), *spread(runner.times))
    return [table]


def _save_twice(runner: Runner, number: int) -> None:
    starts = runner.starts()
    first = runner.save(in_place=number % 2 == 1)
    while runner.starts() == starts:
        if time.perf_counter() > first + LIMIT:
            runner.get_ready()  # the first edit was lost, which is not measured here
            return
        time.sleep(0.002)
    time.sleep(random.uniform(0, PAUSE))
    runner.value += 1
    second = save(runner.directory, runner.value, runner.contender.language)
    seen = runner.follow(second, LIMIT)
    runner.seen.append(seen)
    if seen.lost:
        runner.get_ready()
