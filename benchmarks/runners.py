"""Running the contenders: each has its own directory and port, and they take turns.

A contender that fails is left out from then on, and the failure is recorded; the others go on.
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
from .processes import Program, increase, process_tree, processor_seconds
from .programs import copy_programs, save, write_programs
from .results import Table

LIMIT = 8.0  # seconds; without a new answer until then, an edit counts as lost
PATCHING = 2.0  # seconds; the limit for contenders that patch the running program
STARTS_WAITED_FOR = 2  # times the start of the program, added to the limit
STARTING = 30.0  # seconds until the first answer, at most
GET_READY = 1.5  # seconds between a restart and the next save, at least: no save is to be lost
PHASE = 0.3  # seconds, the longest random pause before a save: polling is not in step with it
LOOK = 1.0  # seconds of one look at the processor time
CALM = 8  # looks until all contenders are idle, at most
BUSY = 0.2  # of a core; a contender that uses more while idle is busy
AT_ONCE = 3  # contenders that start at a time


class Runner:
    """One contender, and what was measured of it."""

    def __init__(
        self, contender: Contender, directory: Path, *, count_starts: bool = False
    ) -> None:
        self.contender = contender
        self.directory = directory
        self.seen: list[Followed] = []
        self.failed = ""
        self.value = 0
        self.alone = False  # runs only in its turns, since it would disturb the others
        self.port = free_port()
        self.variables = contender.environment(self.port)
        self._starts = directory.with_name(f"{directory.name}.starts")
        if count_starts:
            self.variables["STARTS"] = str(self._starts)
        self.program: Program | None = None
        self._served = 0.0
        self._start = 0.0  # seconds that its start takes

    def attempt(self, action: Callable[..., object], *arguments: object) -> None:
        """Call *action* with this runner and *arguments*; if it fails, record why, and end."""
        try:
            if self.alone:
                self.get_ready()
            action(self, *arguments)
            if self.alone:
                self.end()
        except Exception as error:
            output = f"; it last printed: {self.program.last_line()}" if self.program else ""
            self.failed = f"{error or type(error).__name__}{output}"
            note(f"{self.contender.name} failed: {self.failed}")
            self.end()

    def start(self) -> None:
        contender = self.contender
        self.program = Program(contender.at(self.port), self.directory, self.variables)

    def get_ready(self) -> None:
        """Start the program, and wait until it serves."""
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
        """Wait until the program answers with the value last saved."""
        limit = min(limit, PATCHING) if self.contender.patches and self._start else limit
        limit += STARTS_WAITED_FOR * self._start
        seen = follow(self.ask, self.value, since, limit, self.alive)
        prints = self.contender.prints
        if prints and self.program and (when := self.program.time_of(prints, since)):
            seen.noticed = when - since
        self._served = time.monotonic()
        return seen

    def save(self, *, in_place: bool = False) -> float:
        """Save a new value, at least GET_READY seconds after the last answer; return when."""
        time.sleep(max(0.0, self._served + GET_READY - time.monotonic()))
        time.sleep(random.uniform(0, PHASE))
        self.value += 1
        return save(self.directory, self.value, self.contender.language, in_place=in_place)

    def prove(self) -> None:
        """Check that it notices a save at all."""
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
        """Return the processor time of all its processes."""
        return processor_seconds(process_tree(self.program.pid)) if self.program else {}

    @property
    def times(self) -> list[float]:
        return [seen.elapsed for seen in self.seen if not seen.lost]


class Cold(Runner):
    """A program without a reloader: killed at once."""

    def prove(self) -> None:
        """Check nothing: this program watches no files."""

    def end(self) -> None:
        if self.program and self.contender.kind in ("tornado", "node", "bun"):
            self.program.kill()  # the only process
        super().end()


class Oracle(Cold):
    """Restarts with each save, without detection: no cold restart can be faster."""

    def save(self, *, in_place: bool = False) -> float:
        since = super().save(in_place=in_place)
        self.end()
        self.start()
        return since


class Bare(Cold):
    """The bare program, started for each save."""

    def get_ready(self) -> None:
        """Do nothing: `save` starts the program."""

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
    """Return the contenders that restart or patch a program; with *only*, those named there."""
    return [one for one in present([*EVRELOAD, *PEERS]) if not only or one.name in only]


def bare_starts(contenders: Iterable[Contender]) -> list[Contender]:
    """Return the bare starts that *contenders* are compared with."""
    return present([BARE[kind] for kind in dict.fromkeys(one.kind for one in contenders)])


def make_runners(
    place: Path, contenders: Sequence[Contender], modules: int, more: str = ""
) -> list[Runner]:
    """Return runners for *contenders*, their bare starts, and the oracle; write the programs."""
    runners: list[Runner] = [
        *(Bare(one, place / f"bare-{one.kind}") for one in bare_starts(contenders)),
        Oracle(ORACLE, place / "oracle"),
        *(Runner(one, place / f"contender{number}") for number, one in enumerate(contenders)),
    ]
    write_for(runners, place, modules, more)
    return runners


def write_for(runners: Iterable[Runner], place: Path, modules: int, more: str = "") -> None:
    """Write the programs of its language for each of *runners*."""
    for runner in runners:
        language = runner.contender.language
        pattern = place / f"all-{language}"
        if not pattern.exists():
            write_programs(pattern, modules, [language], more)
        copy_programs(pattern, runner.directory, language)


@contextlib.contextmanager
def side_by_side(runners: Sequence[Runner], what: str, *, prove: bool = True) -> Iterator[None]:
    """Keep all *runners* running; those that are busy while idle run only in their turns."""

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
    """Wait until all *runners* are idle, for a while; return those that never were."""
    never = [one for one in runners if one.program]
    for _ in range(CALM):
        before = [one.load() for one in runners]
        time.sleep(LOOK)
        loads = [increase(load, one.load()) for one, load in zip(runners, before, strict=True)]
        busy = [one for one, load in zip(runners, loads, strict=True) if load > BUSY * LOOK]
        if not busy:
            return []
        never = [one for one in never if one in busy]
    return never


def take_turns(
    runners: Sequence[Runner],
    count: int,
    what: str,
    action: Callable[[Runner, int], object],
    at_once: int = 1,
) -> None:
    """Call *action* *count* times with each runner that has not failed, in random order."""
    for number in range(count):
        note(f"{what}: round {number + 1} of {count}")
        order = [runner for runner in runners if not runner.failed]
        random.shuffle(order)
        with ThreadPoolExecutor(at_once) as pool:
            for one in order:
                pool.submit(one.attempt, action, number)


def save_and_follow(runner: Runner, number: int) -> None:
    """Save, alternately by a rename and in place, and record how the answers change."""
    runner.seen.append(runner.follow(runner.save(in_place=number % 2 == 1)))


def note(text: str) -> None:
    """Print the progress."""
    print(f"… {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measured(runners: Iterable[Runner], table: Table) -> Iterator[Runner]:
    """Yield the runners that have not failed; add a row to *table* for each that has."""
    for runner in runners:
        if runner.failed:
            table.fail(runner.contender.name, runner.failed)
        else:
            yield runner
