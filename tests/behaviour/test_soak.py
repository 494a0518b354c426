"""Thousands of edits in a row: the last content runs, no edit is lost, no resource grows.

By default the test makes few edits. `tox -e soak` runs the long test, which prints its figures.
"""

from __future__ import annotations

import collections
import random
import signal
import sys
import time

import pytest

from support.processes import everything_open, memory
from support.server_programs import IN_PLACE, TORNADO, await_value
from support.servers import Clients

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

FEW = 40  # edits by default
BROKEN = ("VALUE = (", "1 / 0", "import not_there", "VALUE = ''.missing")
LARGEST_BATCH = 10  # edits before the test waits until the last of them is served
SHARE_BROKEN = 0.12  # of the edits that are not the last of a batch: one in ten of all
LONGEST_PAUSE = 0.1  # seconds; a restart takes about as long
MOST_GROWTH = 4096  # kilobytes of memory that a process may gain

# Such a program may have made each change that is found as it starts.
WRITES = """
import sqlite3, subprocess, time
with open("state.txt", "w") as file:
    file.write(str(time.time_ns()))
with sqlite3.connect("state.db") as database:
    database.execute("create table if not exists starts (at real)")
    database.execute("insert into starts values (julianday())")
database.close()
subprocess.run(["true"], check=True)
"""

PROGRAMS = {
    "start": ((), IN_PLACE),
    "start, writing": ((), WRITES + IN_PLACE),
    "cold": (("-m", "evreload"), TORNADO),
    "cold, writing": (("-m", "evreload"), WRITES + TORNADO),
    "warm": (("-m", "evreload", "--warm"), TORNADO),
}


class Editor:
    """Makes edits at random moments, one in ten of them broken until a later edit fixes it."""

    def __init__(self, app, port: int, seed: int) -> None:
        self.count = self.broken = self.batches = 0
        self._app = app
        self._port = port
        self._chance = random.Random(seed)

    def make_edits(self, count: int) -> None:
        """Make *count* edits in batches; block after each batch until its last edit is served.

        The last edit of a batch is never broken.
        """
        end = self.count + count
        while self.count < end:
            for _ in range(self._chance.randint(1, LARGEST_BATCH) - 1):
                self._save(self._chance.choice(BROKEN) if self._is_broken() else self._good())
                time.sleep(self._chance.uniform(0, LONGEST_PAUSE))
            self._save(self._good())
            self.batches += 1
            await_value(self._port, self.count)
            time.sleep(self._chance.uniform(0, LONGEST_PAUSE))

    def _is_broken(self) -> bool:
        is_broken = self._chance.random() < SHARE_BROKEN
        self.broken += is_broken
        return is_broken

    def _good(self) -> str:
        return f"VALUE = {self.count + 1}"

    def _save(self, text: str) -> None:
        self.count += 1
        save = self._chance.choice((self._app.write, self._app.write_in_place))
        save("helper.py", text)


def at_rest(pid: int):
    """Return what *pid* and its descendants have open, and the memory of *pid*."""
    return collections.Counter(map(str, everything_open(pid))), memory(pid)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("edits", [FEW, pytest.param(5_000, marks=pytest.mark.soak)])
def test_the_last_content_is_served_and_nothing_grows(app, port, capsys, name, edits):
    mode, program = PROGRAMS[name]
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    app.start(*mode, "app.py", str(port))
    await_value(port, 0)
    app.await_watching()
    editor = Editor(app, port, seed=edits)
    editor.make_edits(edits // 10)
    open_before, memory_before = at_rest(app.pid)
    began = time.monotonic()
    with Clients(port) as clients:
        editor.make_edits(edits - edits // 10)
    seconds = time.monotonic() - began
    open_after, memory_after = at_rest(app.pid)
    app.signal(signal.SIGTERM)
    app.wait()
    grown = memory_after - memory_before
    if edits > FEW:
        with capsys.disabled():
            print(
                f"\n{name}: {editor.count} edits ({editor.broken} broken) in {editor.batches} "
                f"batches, {app.count('restarting server')} restarts, none lost; {seconds:.0f} s; "
                f"clients: {dict(clients.outcomes)}; "
                f"processes: {open_before.total()}, then {open_after.total()}; "
                f"memory: {memory_before} kB, {grown:+} kB"
            )
    assert open_after == open_before
    assert grown < MOST_GROWTH
    assert "ConnectionRefusedError" not in clients.outcomes
