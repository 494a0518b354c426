"""How a process began, and how it begins again."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import time
import types

import pytest
from conftest import until

from evreload._common import process as _process
from evreload._common import startup as _origin
from evreload._common.startup import split


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize(
    ("code", "awaits"),
    [
        ("signal.pause()", True),
        ("signal.sigwait({signal.SIGUSR1})", True),
        ("input()", False),
    ],
)
def test_who_waits_for_a_signal_is_told_from_others(code, awaits):
    code = f"import signal; print(flush=True); {code}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            if awaits:
                until(lambda: _process.awaits_signal(process.pid), "it waits")
            else:
                until(lambda: "pipe" in wchan(process.pid), "it reads")
                assert not _process.awaits_signal(process.pid)
        finally:
            process.kill()


def wchan(pid):
    with open(f"/proc/{pid}/wchan") as file:
        return file.read()


@pytest.mark.parametrize(
    ("line", "flags", "target"),
    [
        ("", "", ""),
        ("-", "", "-"),
        ("- x", "", "- x"),
        ("app.py", "", "app.py"),
        ("app.py -u -m x", "", "app.py -u -m x"),
        ("dir/ x", "", "dir/ x"),
        ("-u app.py", "-u", "app.py"),
        ("-u - x", "-u", "- x"),
        ("-uOB app.py -c", "-uOB", "app.py -c"),
        ("-OO -E -s -I -P -b -bb app.py", "-OO -E -s -I -P -b -bb", "app.py"),
        ("-d -i -q -v -S app.py -i", "-d -i -q -v -S", "app.py -i"),
        ("-W error app.py", "-W error", "app.py"),
        ("-Werror app.py", "-Werror", "app.py"),
        ("-W error::UserWarning -W ignore app.py", "-W error::UserWarning -W ignore", "app.py"),
        ("-X dev app.py", "-X dev", "app.py"),
        ("-Xdev app.py", "-Xdev", "app.py"),
        ("-X dev -Xutf8 -X importtime app.py -X", "-X dev -Xutf8 -X importtime", "app.py -X"),
        ("-uW error app.py", "-uW error", "app.py"),
        ("-uWerror app.py", "-uWerror", "app.py"),
        ("-W -m app.py", "-W -m", "app.py"),
        ("-X -c app.py", "-X -c", "app.py"),
        ("-Wmodule app.py", "-Wmodule", "app.py"),
        ("-m mod", "", "-m mod"),
        ("-m mod -m x --", "", "-m mod -m x --"),
        ("-mmod x", "", "-m mod x"),
        ("-mW x", "", "-m W x"),
        ("-uBm mod x", "-uB", "-m mod x"),
        ("-uBmmod x", "-uB", "-m mod x"),
        ("-W ignore -um mod", "-W ignore -u", "-m mod"),
        ("-c pass x", "", "-c pass x"),
        ("-cpass x", "", "-c pass x"),
        ("-ucpass -u", "-u", "-c pass -u"),
        ("--check-hash-based-pycs never app.py", "--check-hash-based-pycs never", "app.py"),
        ("--check-hash-based-pycs always -m mod", "--check-hash-based-pycs always", "-m mod"),
        ("-- app.py -u", "", "app.py -u"),
        ("-u -- -m x", "-u", "./-m x"),
        ("-u --", "-u", ""),
    ],
)
def test_split(line, flags, target):
    assert split(line.split()) == (flags.split(), target.split())


def test_split_keeps_odd_arguments():
    assert split(["-c", "", ""]) == ([], ["-c", "", ""])
    assert split(["a b.py", "", "x y"]) == ([], ["a b.py", "", "x y"])


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "-u",
        "-OO -bb -q",
        "-W error",
        "-Wd",
        "-uW ignore",
        "-X dev",
        "-Xutf8 -B",
        "-IPsE",
        "--check-hash-based-pycs never",
        "-u --",
    ],
)
def test_split_agrees_with_python(flags, tmp_path):
    (tmp_path / "app.py").write_text("import sys; print([*sys.orig_argv[1:], len(sys.argv)])")
    line = [*flags.split(), "app.py", "-u", "x"]
    run = subprocess.run(
        [sys.executable, *line], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *told, own = ast.literal_eval(run.stdout)
    assert told == line
    assert split(line) == ([flag for flag in told[:-own] if flag != "--"], told[-own:])


def test_the_command_line_is_whole():
    *start, mode = _process.command_line()[: len(_origin.FLAGS) + 3]
    assert start == [_origin.EXECUTABLE, *_origin.FLAGS, _origin.RUNNER]
    assert _process.command_line() == [*start, mode, *sys.orig_argv]


def test_when_the_process_began():
    code = """if True:
        import time
        began = time.time_ns()
        from evreload import _origin
        print(_origin.STARTED, began)
    """
    before = time.time_ns()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    started, began = map(int, run.stdout.split())
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert before - tick <= started <= began


def test_a_failed_restart_leaves_all_as_it_was(tmp_path):
    code = f"""if True:
        import os, signal
        from evreload import _origin, _process
        os.chdir({str(tmp_path)!r})
        try:
            _process.restart({{"X": "x" * 10**7}})  # more than an environment may hold
        except OSError as error:
            print(error.errno, os.getcwd(), "X" in os.environ)
        _origin.EXECUTABLE = "/nowhere"
        try:
            _process.restart({{}})
        except OSError as error:
            print(error)
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f"7 {tmp_path} False",
        "the interpreter /nowhere is not there any more",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is but one clock")
def test_a_pause_between_two_looks_at_the_clock_makes_nobody_older(monkeypatch):
    look = time.clock_gettime_ns
    pauses = [50_000_000, 0, 0]
    began = _origin._started()
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: look(clock) + pauses.pop(0))
    assert abs(_origin._started() - began) < 5_000_000


def test_what_is_being_written_cannot_be_flushed(monkeypatch):
    """As where the request to flush comes in the middle of a write to a full pipe."""

    class Busy:
        def flush(self):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    monkeypatch.setattr(sys, "stdout", Busy())
    monkeypatch.setattr(sys, "stderr", err := io.TextIOWrapper(io.BytesIO()))
    err.write("told")
    _process.flush()
    assert err.buffer.getvalue() == b"told"


def test_while_logging_is_being_imported_there_is_nothing_to_flush(monkeypatch):
    monkeypatch.setitem(sys.modules, "logging", types.ModuleType("logging"))
    _process.flush()
