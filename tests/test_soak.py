"""Thousands of edits in a row: the last content is what runs, nothing is lost, nothing grows.

By default a short course of it; the long one, with its figures, is run by `tox -e soak`.
"""

from __future__ import annotations

import collections
import random
import signal
import sys
import time

import pytest
from conftest import Clients, memory
from test_cost import everything_open
from test_sockets import IN_PLACE, TORNADO, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

FEW = 40  # edits, enough for every day
BROKEN = ("VALUE = (", "1 / 0", "import not_there", "VALUE = ''.missing")
LONGEST_RUN = 10  # edits without waiting for what comes of them
SHARE_BROKEN = 0.12  # of those that are not the last of a run: one in ten of all
LONGEST_PAUSE = 0.1  # seconds; a restart takes about as long
MOST_MEMORY = 4096  # kilobytes that a process may have grown by

COURSES = {
    "start": ((), IN_PLACE),
    "cold": (("-m", "evreload"), TORNADO),
    "warm": (("-m", "evreload", "--warm"), TORNADO),
}


class Course:
    """Edits at random moments, one in ten of them broken and then mended."""

    def __init__(self, app, port: int, seed: int) -> None:
        self.edits = self.broken = self.runs = 0
        self._app = app
        self._port = port
        self._chance = random.Random(seed)

    def edit(self, count: int) -> None:
        """Make *count* edits, in runs; after each block until its last content is served.

        The last of a run is never broken.
        """
        end = self.edits + count
        while self.edits < end:
            for _ in range(self._chance.randint(1, LONGEST_RUN) - 1):
                self._save(self._chance.choice(BROKEN) if self._is_broken() else self._good())
                time.sleep(self._chance.uniform(0, LONGEST_PAUSE))
            self._save(self._good())
            self.runs += 1
            until(self._port, self.edits)
            time.sleep(self._chance.uniform(0, LONGEST_PAUSE))

    def _is_broken(self) -> bool:
        is_broken = self._chance.random() < SHARE_BROKEN
        self.broken += is_broken
        return is_broken

    def _good(self) -> str:
        return f"VALUE = {self.edits + 1}"

    def _save(self, text: str) -> None:
        self.edits += 1
        save = self._chance.choice((self._app.write, self._app.write_in_place))
        save("helper.py", text)


def at_rest(pid: int):
    """Return what is open in *pid* and its descendants, and the memory of *pid* itself."""
    return collections.Counter(map(str, everything_open(pid))), memory(pid)


@pytest.mark.parametrize("name", COURSES)
@pytest.mark.parametrize("edits", [FEW, pytest.param(5_000, marks=pytest.mark.soak)])
def test_the_last_content_is_served_and_nothing_grows(app, port, capsys, name, edits):
    way, program = COURSES[name]
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    app.start(*way, "app.py", str(port))
    until(port, 0)
    app.armed()
    course = Course(app, port, seed=edits)
    course.edit(edits // 10)
    open_before, memory_before = at_rest(app.pid)
    began = time.monotonic()
    with Clients(port) as clients:
        course.edit(edits - edits // 10)
    seconds = time.monotonic() - began
    open_after, memory_after = at_rest(app.pid)
    app.signal(signal.SIGTERM)
    app.wait()
    grown = memory_after - memory_before
    if edits > FEW:
        with capsys.disabled():
            print(
                f"\n{name}: {course.edits} edits ({course.broken} broken) in {course.runs} runs, "
                f"{app.count('restarting server')} restarts, none lost; {seconds:.0f} s; "
                f"clients: {dict(clients.outcomes)}; "
                f"processes: {open_before.total()}, then {open_after.total()}; "
                f"memory: {memory_before} kB, {grown:+} kB"
            )
    assert open_after == open_before
    assert grown < MOST_MEMORY
    assert "ConnectionRefusedError" not in clients.outcomes
