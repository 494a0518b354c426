"""What it costs, in things that can be counted: system calls, watches, threads, descriptors.

No test here measures how long something takes; `python -m benchmarks` does.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import WAYS, idle, threads, until, works, write_modules

from evreload._common.own_writes import Author
from evreload._watch.watcher import Want, Watcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc shows")

IDLE = 3.0  # seconds of idleness looked at
LONG = 1000  # milliseconds of debounce no writer in these tests is ever quiet for

PROGRAM = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import everything
import helper

async def main():
    evreload.start(debounce=float(os.environ.get("DEBOUNCE", 10)))
    print("ready", helper.VALUE, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


# What /proc tells


def descriptors(pid: int) -> list[str]:
    """Return what the open descriptors of *pid* lead to."""
    leads = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            leads.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue  # closed meanwhile
    return leads


def instances(pid: int) -> int:
    return descriptors(pid).count("anon_inode:inotify")


def watched(pid: int) -> set[int]:
    """Return the inodes of all that *pid* has kernel watches on."""
    inodes = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        found = re.findall(r"^inotify wd:\S+ ino:(\S+)", path.read_text(), re.MULTILINE)
        inodes.update(int(inode, 16) for inode in found)
    return inodes


def inode(path: str | Path) -> int:
    return os.stat(path).st_ino


# Programs of many files


def many_modules(app, count: int, per_directory: int = 20) -> list[Path]:
    """Write a program of *count* modules; return their directories."""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", PROGRAM)
    return sorted({path.parent for path in write_modules(app, count, per_directory)})


def run(app, way: tuple[str, ...], **environment: str) -> None:
    """Run the program, and block until no edit is lost any more."""
    app.start(*way, "app.py", **environment)
    app.armed()
    app.said("ready ")  # under the command either may come first


# Idle


@WAYS
@pytest.mark.parametrize("modules", [1000, pytest.param(5000, marks=pytest.mark.soak)])
def test_an_idle_program_of_many_modules_never_wakes(app, way, modules):
    many_modules(app, modules)
    run(app, way)
    idle(app.pid, IDLE)


@WAYS
def test_an_idle_program_makes_no_system_call(app, way, tmp_path):
    many_modules(app, 100)
    run(app, way)
    pids = idle(app.pid)
    if way:
        assert len(pids) == 4, "the supervisor, its guardian, the program, and what stands by"
    trace = tmp_path / "trace"
    strace = start_strace(pids, trace)
    try:
        idle(app.pid, IDLE)  # at first: being attached to has interrupted each call that waits
        now = time.time()
    finally:
        strace.terminate()
        strace.wait()
        strace.stderr.close()
    calls = [line for line in trace.read_text().splitlines() if now - IDLE < stamp(line) < now]
    assert calls == []


def start_strace(pids: list[int], trace: Path) -> subprocess.Popen[str]:
    """Trace every thread of *pids* into *trace*; skip the test where that can't be done."""
    if not (program := shutil.which("strace")):
        pytest.skip("strace is not installed")
    command = [program, "-f", "-ttt", "-o", str(trace)]
    for pid in pids:
        command += ["-p", str(pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr
    for _ in range(len(pids)):
        line = strace.stderr.readline()
        if "attached" not in line:
            strace.terminate()
            strace.wait()
            strace.stderr.close()
            pytest.skip(f"strace may not attach: {line.strip()}")
    return strace


def stamp(line: str) -> float:
    return float(line.split()[1])


def test_a_log_written_a_million_times_beside_a_module_costs_nothing(loop_app):
    descriptor = os.open(loop_app.path("server.log"), os.O_WRONLY | os.O_CREAT)

    def costs_nothing():
        pids = idle(loop_app.pid, does=works)
        before = works(pids)
        for _ in range(1_000_000):
            os.write(descriptor, b"x")
        return works(pids) == before

    until(costs_nothing, "a million writes that cost nothing")
    os.close(descriptor)
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("restarting server") == 1


# Watches, threads, descriptors


@WAYS
@pytest.mark.parametrize(
    ("directories", "files"),
    [(1_000, 2_000), pytest.param(20_000, 100_000, marks=pytest.mark.soak)],
)
def test_kernel_watches_only_where_modules_lie(app, way, directories, files):
    modules = many_modules(app, 100)
    others = app.directory / "node_modules"
    for number in range(directories):
        directory = others / f"scope{number % 100}" / f"other{number}"
        directory.mkdir(parents=True)
        for file in range(files // directories):
            (directory / f"file{file}.js").touch()
    run(app, way)
    inodes = watched(app.pid)
    beneath = {
        path for path in app.directory.rglob("*/") if path.is_dir() and inode(path) in inodes
    }
    assert beneath == set(modules)
    assert inode(app.directory) in inodes


@WAYS
def test_one_inotify_instance_and_as_many_threads_however_many_directories(app, way):
    seen = []
    watches = 0
    for count in (1, 300):
        many_modules(app, count, per_directory=1)
        run(app, way)
        pids = idle(app.pid)
        watches = len(watched(app.pid))
        seen.append([(instances(pid), len(threads(pid))) for pid in pids])
        app.close()
        for package in app.directory.glob("package*"):
            shutil.rmtree(package)
    assert watches > 300
    assert sum(instances for instances, _ in seen[0]) == 1
    assert seen[0] == seen[1]


@WAYS
@pytest.mark.parametrize("restarts", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_restarts_leave_nothing_open(app, way, restarts):
    many_modules(app, 1)
    run(app, way)
    after_one = None
    for value in range(2, restarts + 2):
        app.write("helper.py", f"VALUE = {value}")
        app.line("restarting server")
        app.line(f"ready {value}")
        if not way:
            app.armed()
        if after_one is None:
            after_one = everything_open(app.pid)
    until(
        lambda: everything_open(app.pid) == after_one,
        lambda: f"as much as after one, {after_one}; now {everything_open(app.pid)}",
    )
    assert app.count("restarting server") == restarts


def everything_open(pid: int):
    """Return what *pid* and its descendants hold, once they have nothing to do."""
    pids = idle(pid, does=works)
    return [(len(threads(one)), instances(one), kinds(descriptors(one))) for one in pids]


def kinds(leads: list[str]) -> collections.Counter[str]:
    return collections.Counter(lead.split(":")[0] for lead in leads)


# Many changes at once


SUM = PROGRAM.replace("helper.VALUE", "everything.VALUE")


def test_a_checkout_of_300_files_over_two_seconds_is_one_reload(app):
    many_modules(app, 300)
    app.write("app.py", SUM)
    app.write(".git/HEAD", "ref: refs/heads/main")
    run(app, ())
    lock = app.write(".git/index.lock")
    for number, path in enumerate(sorted(app.directory.glob("package*/module*.py"))):
        path.write_text(f"VALUE = {1000 + number}\n")
        time.sleep(2 / 300)  # what is simulated is slow
    lock.unlink()
    ends_in_one_reload(app, sum(range(1000, 1300)))


def ends_in_one_reload(app, total: int) -> None:
    """Check that the next run is of *total*, and that the one after it is for another reason."""
    app.line("restarting server")
    app.line(f"ready {total}")
    app.armed()
    app.write("helper.py", "VALUE = 2")
    assert app.path("helper.py") in app.line("restarting server")
    assert app.count("restarting server") == 2


@WAYS
def test_a_writer_that_never_stops_cannot_starve_the_reload(app, way):
    many_modules(app, 1)
    if way:
        way = (*way, "--debounce", str(LONG))
    run(app, way, DEBOUNCE=str(LONG))
    with Writer(lambda number: app.write("helper.py", f"VALUE = {number}")):
        app.line("helper.py modified; restarting server")
        app.line("ready ")


def test_a_lock_that_git_left_behind_cannot_starve_the_reload(app):
    many_modules(app, 1)
    app.write(".git/index.lock")
    run(app, ())
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")


class Writer:
    """Calls *write*, with 2, 3, 4 and so on, until the end of the block."""

    def __init__(self, write) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(write,))

    def _run(self, write) -> None:
        for number in itertools.count(2):
            if self._stopping.wait(0.005):
                return
            write(number)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()


@WAYS
def test_the_final_state_runs_after_the_queue_of_events_overflowed(app, way):
    many_modules(app, 1)
    files = [app.write(f"other{number}.txt") for number in range(100)]
    run(app, way)
    length = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if length > 100_000:
        pytest.skip(f"the queue holds {length} events")
    os.kill(app.pid, signal.SIGSTOP)  # or it might read as fast as we write
    for number in range(max(50_000, length + 1)):
        os.utime(files[number % 100])
    app.write("helper.py", "VALUE = 2")  # of this there is no event: the queue is full
    os.kill(app.pid, signal.SIGCONT)
    app.line("ready 2")
    assert app.count("restarting server") == 1


# The loop's turn


@pytest.mark.parametrize("count", [3_000])
def test_the_loop_gets_its_turn_while_thousands_of_files_are_surveyed(tmp_path, count):
    turns = 0

    async def main():
        nonlocal turns
        watcher = Watcher(
            Deaf,
            lambda changes: None,
            debounce=0,
            author=Author,
            excused=lambda path, may_be_own: False,
            ignored=lambda path: None,
        )
        watcher.survey()
        watcher.receive({Want(str(path), 0) for path in paths})
        while watcher.is_surveying:
            turns += 1
            await asyncio.sleep(0)

    paths = [tmp_path / f"module{number}.py" for number in range(count)]
    asyncio.run(main())
    assert turns > 2


class Deaf:
    """Observers that watch nothing."""

    def arm(self, directory: str) -> None: ...

    def disarm(self, directory: str) -> None: ...

    def stop(self) -> None: ...
