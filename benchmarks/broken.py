"""A save with a syntax error, then a save that fixes it."""

from __future__ import annotations

import time
from pathlib import Path

from .programs import BROKEN, save_text
from .results import SPREAD, Table, spread
from .runners import Runner, measured, restarting, side_by_side, take_turns, write_for
from .scale import Scale

MODULES = 50
SEEN = 2.5  # seconds between the error and the fix: every contender notices the error
FIXED = 6.0  # seconds, after which the fix counts as not noticed
PATIENCE = 0.5  # seconds for an answer
AT_ONCE = 8  # contenders at a time: most of the time they are idle


def measure(place: Path, scale: Scale) -> list[Table]:
    """Save the error, check whether the old program still serves, save the fix."""
    contenders = restarting(scale.only)
    runners = [Runner(one, place / f"contender{i}") for i, one in enumerate(contenders)]
    write_for(runners, place, MODULES)
    served: dict[Runner, list[bool]] = {runner: [] for runner in runners}

    def break_and_fix(runner: Runner, number: int) -> None:
        time.sleep(1.5)
        language = runner.contender.language
        save_text(runner.directory, BROKEN[language], language, in_place=number % 2 == 1)
        time.sleep(SEEN)
        served[runner].append(_serves(runner))
        seen = runner.follow(runner.save(in_place=number % 2 == 1), FIXED)
        runner.seen.append(seen)
        if seen.lost:
            runner.get_ready()

    with side_by_side(runners, "broken"):
        take_turns(runners, scale.broken, "broken", break_and_fix, AT_ONCE)
    table = Table(
        f"A syntax error, then the fix ({scale.broken} rounds)",
        ("old code still served", "recovered", *(f"fix to answer, {one}, ms" for one in SPREAD)),
        bars="fix to answer, median, ms",
    )
    for runner in measured(runners, table):
        rounds = len(runner.seen)
        table.add(
            runner.contender.name,
            f"{sum(served[runner])} of {rounds}",
            f"{len(runner.times)} of {rounds}",
            *spread(runner.times),
        )
    return [table]


def _serves(runner: Runner) -> bool:
    try:
        return runner.ask(PATIENCE) == str(runner.value)
    except OSError:
        return False
