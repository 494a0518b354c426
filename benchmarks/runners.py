"""Contenders at work: each in a directory and at a port of its own, taking turns.

What fails is noted with its contender, which takes no further part; the others go on.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .client import Followed, ask, follow, free_port
from .contenders import BARE, EVRELOAD, ORACLE, PEERS, Contender, present
from .processes import Program, family, grown, worked
from .programs import copy_programs, save, write_programs
from .results import Table

LIMIT = 8.0  # seconds; an edit that is not answered for until then counts as lost
PATCHING = 2.0  # seconds; likewise, where nothing is restarted
STARTS_WAITED_FOR = 2  # in addition, as long as a start of the program takes
STARTING = 30.0  # seconds
GET_READY = 1.5  # seconds between a restart and the next save, at least: none is to be lost
PHASE = 0.3  # seconds, the longest pause before a save: none is in step with anybody's polling
LOOK = 1.0  # seconds
CALM = 8  # looks, at most
BUSY = 0.2  # of a core, while nothing happens
AT_ONCE = 3  # started at a time


class Runner:
    """One contender, and what was seen of it."""

    def __init__(
        self, contender: Contender, directory: Path, *, count_starts: bool = False
    ) -> None:
        self.contender = contender
        self.directory = directory
        self.seen: list[Followed] = []
        self.failed = ""
        self.value = 0
        self.alone = False  # does not run while the others do, whom it would disturb
        self.port = free_port()
        self.variables = contender.environment(self.port)
        self._starts = directory.with_name(f"{directory.name}.starts")
        if count_starts:
            self.variables["STARTS"] = str(self._starts)
        self.program: Program | None = None
        self._served = 0.0
        self._start = 0.0  # seconds that a start takes

    def attempt(self, deed: Callable[..., object], *arguments: object) -> None:
        """Do *deed* with it and *arguments*; if that fails, note why, and end it."""
        try:
            if self.alone:
                self.get_ready()
            deed(self, *arguments)
            if self.alone:
                self.end()
        except Exception as error:
            words = f"; it last printed: {self.program.last_words()}" if self.program else ""
            self.failed = f"{error or type(error).__name__}{words}"
            note(f"{self.contender.name} failed: {self.failed}")
            self.end()

    def start(self) -> None:
        contender = self.contender
        self.program = Program(contender.at(self.port), self.directory, self.variables)

    def get_ready(self) -> None:
        """Start it, and see that it serves."""
        self.end()
        self.start()
        self._expect_answer()

    def _expect_answer(self) -> None:
        seen = self.follow(time.perf_counter(), STARTING)
        if seen.lost:
            raise TimeoutError(f"does not serve {self.value}")
        self._start = seen.elapsed

    def ask(self, timeout: float) -> str:
        return ask(self.port, timeout)

    def alive(self) -> bool:
        return bool(self.program and self.program.alive())

    def follow(self, since: float, limit: float = LIMIT) -> Followed:
        """Wait for the answer of the program last saved."""
        limit = min(limit, PATCHING) if self.contender.patches and self._start else limit
        limit += STARTS_WAITED_FOR * self._start
        seen = follow(self.ask, self.value, since, limit, self.alive)
        tells = self.contender.tells
        if tells and self.program and (when := self.program.said(tells, since)):
            seen.noticed = when - since
        self._served = time.monotonic()
        return seen

    def save(self, *, in_place: bool = False) -> float:
        """Save a new value once the last restart is long enough ago; return when."""
        time.sleep(max(0.0, self._served + GET_READY - time.monotonic()))
        time.sleep(random.uniform(0, PHASE))
        self.value += 1
        return save(self.directory, self.value, self.contender.language, in_place=in_place)

    def prove(self) -> None:
        """See that it notices a save at all."""
        for _ in range(2):
            if not self.follow(self.save(in_place=True)).lost:
                return
        raise TimeoutError("notices no save")

    def starts(self) -> int:
        """Return how often the program was started."""
        with contextlib.suppress(FileNotFoundError):
            return len(self._starts.read_text().splitlines())
        return 0

    def end(self) -> None:
        if self.program:
            self.program.end()
        self.program = None

    def load(self) -> dict[Path, float]:
        """Return the processor time that it took, of all its processes."""
        return worked(family(self.program.pid)) if self.program else {}

    @property
    def times(self) -> list[float]:
        return [seen.elapsed for seen in self.seen if not seen.lost]


class Cold(Runner):
    """Is ended at once: there is nothing but the program itself."""

    def prove(self) -> None:
        """Expect nothing of it: it only runs what it is given."""

    def end(self) -> None:
        if self.program and self.contender.kind in ("tornado", "node", "bun"):
            self.program.kill()  # the only process
        super().end()


class Oracle(Cold):
    """Knows of each save at once: the limit of what a cold restart can do."""

    def save(self, *, in_place: bool = False) -> float:
        since = super().save(in_place=in_place)
        self.end()
        self.start()
        return since


class Bare(Cold):
    """The program by itself, started for each save."""

    def get_ready(self) -> None:
        """Leave it: it is started for each save."""

    def save(self, *, in_place: bool = False) -> float:
        self.value += 1
        save(self.directory, self.value, self.contender.language)
        since = time.perf_counter()
        self.start()
        return since

    def follow(self, since: float, limit: float = LIMIT) -> Followed:
        seen = super().follow(since, limit)
        self.end()
        return seen


def restarting(only: Sequence[str]) -> list[Contender]:
    """Return all that restart or patch a program, or those of them named in *only*."""
    return [one for one in present([*EVRELOAD, *PEERS]) if not only or one.name in only]


def bare_starts(contenders: Iterable[Contender]) -> list[Contender]:
    """Return the bare starts that *contenders* are compared with."""
    return present([BARE[kind] for kind in dict.fromkeys(one.kind for one in contenders)])


def field(
    place: Path, contenders: Sequence[Contender], modules: int, more: str = ""
) -> list[Runner]:
    """Return runners for *contenders*, the oracle, and their bare starts; write their programs."""
    runners: list[Runner] = [
        *(Bare(one, place / f"bare-{one.kind}") for one in bare_starts(contenders)),
        Oracle(ORACLE, place / "oracle"),
        *(Runner(one, place / f"contender{number}") for number, one in enumerate(contenders)),
    ]
    write_for(runners, place, modules, more)
    return runners


def write_for(runners: Iterable[Runner], place: Path, modules: int, more: str = "") -> None:
    """Write for each of *runners* the programs of its language."""
    for runner in runners:
        language = runner.contender.language
        pattern = place / f"all-{language}"
        if not pattern.exists():
            write_programs(pattern, modules, [language], more)
        copy_programs(pattern, runner.directory, language)


@contextlib.contextmanager
def side_by_side(runners: Sequence[Runner], what: str, *, prove: bool = True) -> Iterator[None]:
    """Have all *runners* at work; those that keep a core busy while idle only in their turns."""

    def get_ready(runner: Runner) -> None:
        runner.get_ready()
        if prove:
            runner.prove()

    try:
        note(f"{what}: starting {len(runners)} programs")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for runner in runners:
                pool.submit(runner.attempt, get_ready)
        for runner in settle(runners):
            note(f"{what}: {runner.contender.name} keeps busy, so it runs alone")
            runner.alone = True
            runner.end()
        yield
    finally:
        for runner in runners:
            runner.end()


def settle(runners: Sequence[Runner]) -> list[Runner]:
    """Wait until all are calm, for a while; return those that never are."""
    never = [one for one in runners if one.program]
    for _ in range(CALM):
        before = [one.load() for one in runners]
        time.sleep(LOOK)
        loads = [grown(load, one.load()) for one, load in zip(runners, before, strict=True)]
        busy = [one for one, load in zip(runners, loads, strict=True) if load > BUSY * LOOK]
        if not busy:
            return []
        never = [one for one in never if one in busy]
    return never


def take_turns(
    runners: Sequence[Runner],
    count: int,
    what: str,
    deed: Callable[[Runner, int], object],
    at_once: int = 1,
) -> None:
    """Do *deed* with each that has not failed, *count* times, in an order new in each round."""
    for number in range(count):
        note(f"{what}: round {number + 1} of {count}")
        order = [runner for runner in runners if not runner.failed]
        random.shuffle(order)
        with ThreadPoolExecutor(at_once) as pool:
            for one in order:
                pool.submit(one.attempt, deed, number)


def save_and_follow(runner: Runner, number: int) -> None:
    """Save, by turns in place and by a rename, and follow what comes of it."""
    runner.seen.append(runner.follow(runner.save(in_place=number % 2 == 1)))


def note(text: str) -> None:
    """Tell whoever waits what is going on."""
    print(f"… {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measured(runners: Iterable[Runner], table: Table) -> Iterator[Runner]:
    """Yield those whose row is to be added to *table*; add those that have failed."""
    for runner in runners:
        if runner.failed:
            table.fail(runner.contender.name, runner.failed)
        else:
            yield runner
