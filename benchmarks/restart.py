"""From a save to the first answer of the new code, and the connections refused meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

from .contenders import BARE, EVRELOAD, ORACLE, PEERS, Contender, present
from .harness import (
    SPREAD,
    Followed,
    Program,
    Scale,
    Table,
    follow,
    free_port,
    note,
    random_phase,
    ratio,
    save,
    serving,
    spread,
    write_server,
)

MODULES = 50
GET_READY = 1.5  # seconds between its restart and the next save, at least: none is to be lost


class Runner:
    """One contender: its directory, its port, and what was seen of it."""

    def __init__(self, contender: Contender, directory: Path) -> None:
        self.contender = contender
        self.seen: list[Followed] = []
        self._directory = directory
        self._port = free_port()
        self._program: Program | None = None
        self._since = 0.0
        write_server(directory, contender.kind, MODULES)

    def start(self) -> None:
        contender, port = self.contender, self._port
        self._program = Program(contender.at(port), self._directory, contender.variables(port))

    def get_ready(self) -> None:
        self.start()
        serving(self._port)

    def round(self, value: int) -> None:
        """Save, and follow what comes of it."""
        time.sleep(max(0.0, self._since + GET_READY - time.monotonic()))
        random_phase()
        since = save(self._directory, value, in_place=value % 2 == 0)
        self.act()
        self.seen.append(follow(self._port, value, since))
        self._since = time.monotonic()

    def act(self) -> None:
        """Leave it to the contender."""

    def end(self) -> None:
        if self._program:
            self._program.end()
        self._program = None

    @property
    def times(self) -> list[float]:
        return [seen.elapsed for seen in self.seen if not seen.lost]


class Cold(Runner):
    """Is ended at once: there is nothing but the program itself."""

    def end(self) -> None:
        if self._program:
            self._program.kill()
        self._program = None


class Oracle(Cold):
    """Knows of the save at once: the limit of what a cold restart can do."""

    def act(self) -> None:
        self.end()
        self.start()


class Bare(Cold):
    """Starts the program, and ends it, in each round."""

    def get_ready(self) -> None:
        """Have the bytecode written."""
        super().get_ready()
        self.end()

    def round(self, value: int) -> None:
        save(self._directory, value)
        since = time.perf_counter()
        self.start()
        self.seen.append(follow(self._port, value, since))
        self.end()


def measure(place: Path, scale: Scale) -> list[Table]:
    """Save once for each contender in each round, all of them running side by side."""
    runners: list[Runner] = [
        Bare(one, place / f"bare{number}") for number, one in enumerate(present([*BARE.values()]))
    ]
    runners.append(Oracle(ORACLE, place / "oracle"))
    runners += [
        Runner(one, place / f"contender{number}")
        for number, one in enumerate(present([*EVRELOAD, *PEERS]))
    ]
    try:
        for runner in runners:
            runner.get_ready()
        for value in range(1, scale.restarts + 1):
            note(f"save to answer, round {value} of {scale.restarts}")
            for runner in runners:
                runner.round(value)
    finally:
        for runner in runners:
            runner.end()
    return [_answers(runners, scale), _refused(runners)]


def _answers(runners: list[Runner], scale: Scale) -> Table:
    bare = {one.contender.kind: one.times for one in runners if isinstance(one, Bare)}
    table = Table(
        f"Save to first answer (ms; {scale.restarts} saves, {MODULES} modules)",
        ("", "ratio to bare start", *SPREAD, "lost"),
    )
    for runner in runners:
        lost = sum(seen.lost for seen in runner.seen)
        ratios = ratio(runner.times, bare.get(runner.contender.kind, []))
        table.rows.append([runner.contender.name, ratios, *spread(runner.times), str(lost)])
    return table


def _refused(runners: list[Runner]) -> Table:
    table = Table(
        "Connections during these restarts",
        (
            "",
            "restarts with any refused",
            "refused",
            "reset",
            *(f"gap {one}, ms" for one in SPREAD),
        ),
    )
    for runner in runners:
        if isinstance(runner, Bare):
            continue
        seen = [one for one in runner.seen if not one.lost]
        table.rows.append([
            runner.contender.name,
            f"{sum(one.refused > 0 for one in seen)} of {len(seen)}",
            str(sum(one.refused for one in seen)),
            str(sum(one.reset for one in seen)),
            *spread(one.gap for one in seen),
        ])  # fmt: skip
    return table
