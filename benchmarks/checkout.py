"""A checkout of many files: how many restarts follow, and whether the last state is served."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from .programs import MODULE, TOTAL, different, save_text, write_modules, write_programs
from .results import SPREAD, Table, spread
from .runners import LIMIT, Runner, measured, restarting, side_by_side, take_turns
from .scale import Scale

FILES = 500
AFTERWARDS = 2.0  # seconds in which more restarts are counted
AT_ONCE = 3  # contenders at a time


class Checkout(Runner):
    """A runner in a repository with a commit for each round."""

    def prove(self) -> None:
        """Check nothing: the first checkout does."""


def measure(place: Path, scale: Scale) -> list[Table]:
    """Check out another commit for each contender in each round."""
    table = Table(
        f"A checkout of {FILES} files ({scale.checkout} checkouts by git)",
        ("last state served", "restarts, mean", *(f"to it, {one}, ms" for one in SPREAD)),
        bars="restarts, mean",
    )
    if not shutil.which("git"):
        table.remarks.append("Left out: git is not installed.")
        return [table]
    contenders = restarting(scale.only)
    for language in {one.language for one in contenders}:
        _write_repository(place / language, language, scale.checkout)
    runners = [
        Checkout(one, place / f"contender{number}", count_starts=True)
        for number, one in enumerate(contenders)
    ]
    for runner in runners:
        _git(place, "clone", "-q", place / runner.contender.language, runner.directory)
        _git(runner.directory, "checkout", "-q", "state0")
    restarts: dict[Runner, list[int]] = {runner: [] for runner in runners}
    served: dict[Runner, list[bool]] = {runner: [] for runner in runners}

    def check_out(runner: Runner, number: int) -> None:
        before = runner.starts()
        since = time.perf_counter()
        runner.value += 1
        _git(runner.directory, "checkout", "-q", f"state{runner.value}")
        seen = runner.follow(since)
        time.sleep(AFTERWARDS)
        restarts[runner].append(runner.starts() - before)
        still = not seen.lost and not runner.follow(time.perf_counter(), LIMIT).lost
        served[runner].append(still)
        if still:
            runner.seen.append(seen)
        else:
            runner.get_ready()

    with side_by_side(runners, "checkout"):
        take_turns(runners, scale.checkout, "checkout", check_out, AT_ONCE)
    for one in measured(runners, table):
        counted = restarts[one]
        table.add(
            one.contender.name,
            f"{sum(served[one])} of {len(counted)}",
            sum(counted) / len(counted),
            *spread(one.times),
            samples=map(float, counted),
        )
    return [table]


def _write_repository(directory: Path, language: str, states: int) -> None:
    """Commit the programs; in each commit all modules have the same value: 0, then 1, and so on."""
    write_programs(directory, FILES, [language])
    (directory / ".gitignore").write_text("__pycache__\n")
    names = write_modules(directory, FILES, language)
    save_text(directory, TOTAL[language].format(names), language)
    _git(directory, "init", "-q")
    for state in range(states + 1):
        for name in names:
            path = directory / f"{name.replace('.', '/')}.{language}"
            path.write_text(different(MODULE[language], state))
        _git(directory, "add", ".")
        _git(directory, "commit", "-q", "-m", f"State {state}")
        _git(directory, "tag", f"state{state}")


def _git(directory: Path, *arguments: str | Path) -> None:
    """Run git with a made-up user name and without the settings of the user."""
    names = {
        f"GIT_{role}_{what}": "nobody"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env={**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        check=True,
        capture_output=True,
        timeout=60,
    )
