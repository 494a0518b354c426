"""From a save to the first answer of the new code and to its detection; failed connections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .results import SPREAD, Table, ratio, spread
from .runners import (
    Bare,
    Runner,
    make_runners,
    measured,
    restarting,
    save_and_follow,
    side_by_side,
    take_turns,
)
from .scale import Scale

MODULES = 50


def measure(place: Path, scale: Scale) -> list[Table]:
    """Save once for each contender in each round, while all of them run side by side."""
    runners = make_runners(place, restarting(scale.only), MODULES)
    with side_by_side(runners, "restart"):
        take_turns(runners, scale.restart, "restart", save_and_follow)
    return [
        answers(runners, f"Save to first answer (ms; {scale.restart} saves, {MODULES} modules)"),
        _detections(runners),
        _connections(runners),
    ]


def answers(runners: Sequence[Runner], title: str) -> Table:
    bare = {one.contender.kind: one.times for one in runners if isinstance(one, Bare)}
    table = Table(title, ("ratio to bare start", *SPREAD, "lost"), bars="ratio to bare start")
    for runner in measured(runners, table):
        times = runner.times
        to_bare = ratio(times, bare.get(runner.contender.kind, []))
        lost = sum(seen.lost for seen in runner.seen)
        table.add(runner.contender.name, to_bare, *spread(times), lost, samples=times)
    return table


def _detections(runners: Sequence[Runner]) -> Table:
    table = Table("Save to detection, of those that tell (ms; the same saves)", SPREAD)
    for runner in runners:
        if runner.contender.prints and not runner.failed:
            noticed = [seen.noticed for seen in runner.seen if seen.noticed is not None]
            table.add(runner.contender.name, *spread(noticed), samples=noticed)
    return table


def _connections(runners: Sequence[Runner]) -> Table:
    table = Table(
        "Connections during these restarts",
        ("restarts with any refused", "refused", "reset", *(f"gap {one}, ms" for one in SPREAD)),
    )
    for runner in runners:
        if isinstance(runner, Bare) or runner.failed:
            continue
        seen = [one for one in runner.seen if not one.lost]
        table.add(
            runner.contender.name,
            f"{sum(one.refused > 0 for one in seen)} of {len(seen)}",
            sum(one.refused for one in seen),
            sum(one.reset for one in seen),
            *spread(one.gap for one in seen),
        )
    return table
