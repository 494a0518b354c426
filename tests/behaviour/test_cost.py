"""What evreload costs in system calls, kernel watches, threads and descriptors.

No test here measures how long something takes; `python -m benchmarks` does.
"""

from __future__ import annotations

import asyncio
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

from evreload._common.own_writes import OwnWrites
from evreload._common.run_info import RunInfo
from evreload._watch.listener import Changes, WatchRequest
from evreload._watch.watched_files import WatchedFiles
from support.files import write_modules
from support.observers import SilentObservers
from support.processes import everything_open, idle, inotify_instances, processor_ticks, threads
from support.programs import MODES
from support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc shows")

IDLE = 3.0  # seconds for which a program must be idle
LONG = 1000  # milliseconds of debounce; no writer in these tests pauses that long

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


# What /proc shows


def watched(pid: int) -> set[int]:
    """Return the inodes of all files and directories on which *pid* has kernel watches."""
    inodes: set[int] = set()
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


def run(app, mode: tuple[str, ...], **environment: str) -> None:
    """Run the program, and block until evreload watches."""
    app.start(*mode, "app.py", **environment)
    app.await_watching()
    app.await_lines("ready ")  # under the command, either line may come first


# Idle


@MODES
@pytest.mark.parametrize("modules", [1000, pytest.param(5000, marks=pytest.mark.soak)])
def test_an_idle_program_of_many_modules_never_wakes(app, mode, modules):
    many_modules(app, modules)
    run(app, mode)
    idle(app.pid, IDLE)


@MODES
def test_an_idle_program_makes_no_system_call(app, mode, tmp_path):
    many_modules(app, 100)
    run(app, mode)
    pids = idle(app.pid)
    if mode:
        assert len(pids) == 4, "the supervisor, its death monitor, the program, the spare"
    trace = tmp_path / "trace"
    strace = start_strace(pids, trace)
    try:
        idle(app.pid, IDLE)  # once before: attaching interrupts each blocking system call
        now = time.time()
    finally:
        strace.terminate()
        strace.communicate()
    calls = [line for line in trace.read_text().splitlines() if now - IDLE < stamp(line) < now]
    assert calls == []


def start_strace(pids: list[int], trace: Path) -> subprocess.Popen[str]:
    """Trace every thread of *pids* into *trace*; skip the test if strace cannot do it."""
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
        pids = idle(loop_app.pid, does=processor_ticks)
        before = processor_ticks(pids)
        for _ in range(1_000_000):
            os.write(descriptor, b"x")
        return processor_ticks(pids) == before

    until(costs_nothing, "a million writes that cost nothing")
    os.close(descriptor)
    loop_app.write("helper.py", "VALUE = 2")
    loop_app.line("ready 2")
    assert loop_app.count("restarting server") == 1


# Watches, threads, descriptors


@MODES
@pytest.mark.parametrize(
    ("directories", "files"),
    [(1_000, 2_000), pytest.param(20_000, 100_000, marks=pytest.mark.soak)],
)
def test_only_directories_of_modules_have_kernel_watches(app, mode, directories, files):
    modules = many_modules(app, 100)
    others = app.directory / "node_modules"
    for number in range(directories):
        directory = others / f"scope{number % 100}" / f"other{number}"
        directory.mkdir(parents=True)
        for file in range(files // directories):
            (directory / f"file{file}.js").touch()
    run(app, mode)
    inodes = watched(app.pid)
    watched_directories = {
        path for path in app.directory.rglob("*/") if path.is_dir() and inode(path) in inodes
    }
    assert watched_directories == set(modules)
    assert inode(app.directory) in inodes


@MODES
def test_inotify_instances_and_threads_do_not_grow_with_the_directories(app, mode):
    seen = []
    watches = 0
    for count in (1, 300):
        many_modules(app, count, per_directory=1)
        run(app, mode)
        pids = idle(app.pid)
        watches = len(watched(app.pid))
        seen.append([(inotify_instances(pid), len(threads(pid))) for pid in pids])
        app.close()
        for package in app.directory.glob("package*"):
            shutil.rmtree(package)
    assert watches > 300
    assert sum(instances for instances, _ in seen[0]) == 1
    assert seen[0] == seen[1]


@MODES
@pytest.mark.parametrize("restarts", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_restarts_leave_nothing_open(app, mode, restarts):
    many_modules(app, 1)
    run(app, mode)
    after_one = None
    for value in range(2, restarts + 2):
        app.write("helper.py", f"VALUE = {value}")
        app.line("restarting server")
        app.line(f"ready {value}")
        if not mode:
            app.await_watching()
        if after_one is None:
            after_one = everything_open(app.pid)
    until(
        lambda: everything_open(app.pid) == after_one,
        lambda: f"as much open as after one restart: {after_one}; now {everything_open(app.pid)}",
    )
    assert app.count("restarting server") == restarts


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
        time.sleep(2 / 300)  # the simulated checkout is slow
    lock.unlink()
    assert_one_reload(app, sum(range(1000, 1300)))


def assert_one_reload(app, total: int) -> None:
    """Check that the next run has *total*, and that only another edit restarts it again."""
    app.line("restarting server")
    app.line(f"ready {total}")
    app.await_watching()
    app.write("helper.py", "VALUE = 2")
    assert app.path("helper.py") in app.line("restarting server")
    assert app.count("restarting server") == 2


@MODES
def test_a_writer_that_never_pauses_does_not_prevent_the_restart(app, mode):
    many_modules(app, 1)
    if mode:
        mode = (*mode, "--debounce", str(LONG))
    run(app, mode, DEBOUNCE=str(LONG))
    with Writer(lambda number: app.write("helper.py", f"VALUE = {number}")):
        app.line("helper.py modified; restarting server")
        app.line("ready ")


def test_a_lock_that_git_left_behind_does_not_prevent_the_restart(app):
    many_modules(app, 1)
    app.write(".git/index.lock")
    run(app, ())
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")


class Writer:
    """Calls *write* with 2, 3, 4 and so on, until the end of the block."""

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


@MODES
def test_the_final_state_runs_after_the_event_queue_overflowed(app, mode):
    many_modules(app, 1)
    files = [app.write(f"other{number}.txt") for number in range(100)]
    run(app, mode)
    length = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if length > 100_000:
        pytest.skip(f"the queue holds {length} events")
    os.kill(app.pid, signal.SIGSTOP)  # else it might read as fast as the test writes
    for number in range(max(50_000, length + 1)):
        os.utime(files[number % 100])
    app.write("helper.py", "VALUE = 2")  # no event reports this: the queue is full
    os.kill(app.pid, signal.SIGCONT)
    app.line("ready 2")
    assert app.count("restarting server") == 1


# Callbacks of the loop


@pytest.mark.parametrize("count", [3_000])
def test_the_loop_gets_its_turn_while_thousands_of_files_are_scanned(tmp_path, count):
    turns = 0

    async def main():
        nonlocal turns
        files = WatchedFiles(
            SilentObservers,
            IdleListener(),
            threading.RLock(),
            debounce=0,
            ignored=lambda path: None,
        )
        files.scan()
        files.handle({WatchRequest(str(path), 0) for path in paths})
        while files.is_scanning:
            turns += 1
            await asyncio.sleep(0)

    paths = [tmp_path / f"module{number}.py" for number in range(count)]
    asyncio.run(main())
    assert turns > 2


class IdleListener:
    """The owner of watched files that does nothing about changes."""

    def on_changes(self, changes: Changes) -> None: ...

    def on_watching(self) -> None: ...

    def may_continue(self) -> bool:
        return True

    def new_requests(self) -> list[WatchRequest]:
        return []

    def own_writes(self) -> OwnWrites:
        return OwnWrites()

    @property
    def run_info(self) -> RunInfo:
        return RunInfo(0, (), 0, {})
