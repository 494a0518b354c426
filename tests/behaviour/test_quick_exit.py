"""What a program that handles SIGTERM still does at its end, before a restart.

Each run prints what the run before has left behind.
"""

from __future__ import annotations

import os
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the command runs in one process"),
    # Its exit handler is added before that of evreload, so that Python ends the programs.
    pytest.mark.skipif("COVERAGE_PROCESS_CONFIG" in os.environ, reason="coverage is measured"),
]

# In the middle: what a test adds. `Witness` tells whether Python has deleted the objects.
PROGRAM = """
import os, signal, sys, threading, time
import helper

class Witness:
    def __init__(self, name):
        self.name, self.open, self.flags = name, os.open, os.O_WRONLY | os.O_CREAT

    def __del__(self):
        self.open(self.name, self.flags)

print("before:", sorted(name for name in os.listdir("left")), flush=True)
for name in os.listdir("left"):
    if os.path.getsize("left/" + name):
        print(name, "has", open("left/" + name, "rb").read(), flush=True)
    os.remove("left/" + name)
witness = Witness(os.path.abspath("left/deleted"))
{body}
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
print("ready", helper.VALUE, flush=True)
while True:
    signal.pause()
"""
HELPER = "VALUE = {}"


@pytest.fixture
def run(app):
    """Return a function that starts the program with a body, and saves once."""

    def starts(body="", *options):
        (app.directory / "left").mkdir()
        app.write("helper.py", HELPER.format(1))
        app.write("app.py", PROGRAM.format(body=body))
        app.start("-m", "evreload", "--stop-timeout", "20", *options, "app.py")
        app.line("ready 1")
        app.await_watching()
        app.write("helper.py", HELPER.format(2))
        app.line("ready 2")
        return app.await_lines("before:", 2)

    return starts


def test_python_does_not_delete_the_objects_before_a_restart(run):
    assert "deleted" not in run()


def test_python_deletes_the_objects_with_full_exit(run):
    assert "deleted" in run("", "--full-exit")


def test_python_deletes_the_objects_if_there_was_an_exit_handler_before(app, run):
    app.write("site/sitecustomize.py", "import atexit; atexit.register(open, 'left/early', 'w')")
    app.environment["PYTHONPATH"] = str(app.directory / "site")
    before = run()
    assert "deleted" in before
    assert "early" in before


def test_a_program_that_ends_by_itself_ends_as_under_plain_python(app):
    (app.directory / "left").mkdir()
    app.write("helper.py", HELPER.format(1))
    body = "raise SystemExit(7)"
    app.write("app.py", PROGRAM.format(body=body))
    app.start("-m", "evreload", "app.py")
    app.line("program exited with status 7; waiting for a change")
    assert (app.directory / "left" / "deleted").exists()


def test_a_program_is_ended_as_under_plain_python_at_the_end_of_the_command(app):
    (app.directory / "left").mkdir()
    app.write("helper.py", HELPER.format(1))
    app.write("app.py", PROGRAM.format(body=""))
    app.start("-m", "evreload", "--stop-timeout", "20", "app.py")
    app.line("ready 1")
    app.signal(15)
    app.wait()
    assert (app.directory / "left" / "deleted").exists()


def test_a_program_that_waits_for_the_signal_ends_quickly_too(run):
    body = """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", helper.VALUE, flush=True)
signal.sigwait({signal.SIGTERM})
sys.exit()
"""
    assert "deleted" not in run(body)


WRITERS = {
    "exit handler": 'import atexit; atexit.register(lambda: open("left/x", "w").write("done"))',
    "text": 'file = open("left/x", "w"); file.write("done")',
    "bytes": 'file = open("left/x", "wb"); file.write(b"done")',
    "both ways": 'file = open("left/x", "w+b"); file.write(b"done")',
    "subclass": """
import io
class Log(io.TextIOWrapper): pass
file = Log(open("left/x", "wb")); file.write("done")
""",
    "frozen": """
import gc
file = open("left/x", "w"); file.write("done")
gc.freeze()
""",
    "thread": """
def save():
    stopped.wait()
    time.sleep(0.1)
    open("left/x", "w").write("done")
stopped = threading.Event()
threading.Thread(target=save).start()
threading._register_atexit(stopped.set)
""",
    "executor": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor()
def save():
    ended.wait()
    time.sleep(0.1)
    open("left/x", "w").write("done")
ended = threading.Event()
threading._register_atexit(ended.set)
pool.submit(save)
""",
    "memory of a log handler": """
import logging.handlers
target = logging.FileHandler("left/x", delay=True)
target.setFormatter(logging.Formatter("%(message)s"))
logging.getLogger().addHandler(logging.handlers.MemoryHandler(1000, target=target))
logging.getLogger().warning("done")
""",
    "shutdown code": """
import atexit
class Stopped(BaseException): pass
def handle(number, frame): raise Stopped
signal.signal(signal.SIGTERM, handle)
print("ready", helper.VALUE, flush=True)
try:
    while True: signal.pause()
except Stopped:
    open("left/x", "w").write("done")
    sys.exit()
""",
    "reload hook": """
import evreload
evreload.add_reload_hook(lambda: open("left/x", "w").write("done"))
""",
}


@pytest.mark.parametrize("body", WRITERS.values(), ids=WRITERS)
def test_the_next_run_reads_what_the_last_one_has_written(app, run, body):
    assert "'x'" in run(body)
    app.await_lines("x has b'done")
    assert "deleted" not in app.output


# What the first run writes, and how the second one reads it.
READERS = {
    "gzip": (
        'import gzip; file = gzip.open("kept.gz", "wt"); file.write("done")',
        'import gzip; print("read", gzip.open("kept.gz", "rt").read())',
    ),
    "zipfile": (
        'import zipfile; file = zipfile.ZipFile("kept.zip", "w"); file.writestr("x", "done")',
        'import zipfile; print("read", zipfile.ZipFile("kept.zip").read("x").decode())',
    ),
    "shelve": (
        """
import dbm.dumb, shelve
file = shelve.Shelf(dbm.dumb.open("kept"), writeback=True)
file["x"] = []
file["x"].append("done")
""",
        'import dbm.dumb, shelve; print("read", *shelve.Shelf(dbm.dumb.open("kept"))["x"])',
    ),
    "sqlite": (
        """
import sqlite3
base = sqlite3.connect("kept.db")
base.execute("PRAGMA journal_mode=WAL")
base.execute("CREATE TABLE t (x)")
base.execute("INSERT INTO t VALUES ('done')")
base.commit()
base.execute("INSERT INTO t VALUES ('not committed')")
""",
        """
import sqlite3
base = sqlite3.connect("kept.db", timeout=0)
base.execute("BEGIN EXCLUSIVE")
print("read", *base.execute("SELECT group_concat(x) FROM t").fetchone())
""",
    ),
    "temporary file": (
        'import tempfile; file = tempfile.NamedTemporaryFile(dir="kept")',
        'print("read", *os.listdir("kept"), "done")',
    ),
    "lock": (
        'import fcntl; file = open("kept.lock", "w"); fcntl.flock(file, fcntl.LOCK_EX)',
        """
import fcntl
file = open("kept.lock", "w")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("read done")
""",
    ),
}


@pytest.mark.parametrize(("write", "read"), READERS.values(), ids=READERS)
def test_the_next_run_uses_what_the_last_one_had_open(app, run, write, read):
    (app.directory / "kept").mkdir()
    body = f"exec({write!r} if helper.VALUE == 1 else {read!r})"
    assert "deleted" not in run(body)
    app.await_lines("read done")


def test_a_fork_that_is_not_stopped_ends_as_under_plain_python(run):
    body = """
if helper.VALUE == 1:
    import subprocess
    def fork(number, frame):
        if os.fork() == 0:
            sys.exit()  # unwinds the whole stack
        os.wait()
        sys.exit()
    signal.signal(signal.SIGTERM, fork)
    print("ready 1", flush=True)
    while True:
        signal.pause()
"""
    assert "deleted" in run(body)


def test_a_worker_of_multiprocessing_ends_quickly_too(app, port):
    (app.directory / "left").mkdir()
    app.write("helper.py", HELPER.format(1))
    app.write("work.py", PROGRAM.format(body="").replace("ready", "worker"))
    app.write(
        "app.py",
        """
        import multiprocessing, os, signal, socket, sys
        import helper

        def work():
            import work

        if __name__ == "__main__":
            server = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
            process = multiprocessing.get_context("spawn").Process(target=work)
            process.start()
            def end(number, frame):
                process.terminate()
                process.join()
                sys.exit()
            signal.signal(signal.SIGTERM, end)
            while True:
                signal.pause()
        """,
    )
    app.start("-m", "evreload", "--stop-timeout", "20", "app.py", PORT=str(port))
    app.await_lines("worker 1")
    app.await_watching(by_now=True)
    app.write("helper.py", HELPER.format(2))
    app.await_lines("worker 2")
    assert app.count("before: []") == 2, app.output


def test_the_standard_streams_are_flushed(run, app):
    body = """
import atexit
atexit.register(print, "unflushed")
"""
    assert "deleted" not in run(body)
    app.await_lines("unflushed")
