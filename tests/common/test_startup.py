"""How a process began."""

from __future__ import annotations

import ast
import itertools
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evreload._common import startup
from evreload._common.command_line import split_command_line


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
        ("-u -- - x", "-u", "- x"),
        ("-u --", "-u", ""),
    ],
)
def test_a_command_line_is_split_into_flags_and_target(line, flags, target):
    assert split_command_line(line.split()) == (flags.split(), target.split())


def test_empty_arguments_and_spaces_survive():
    assert split_command_line(["-c", "", ""]) == ([], ["-c", "", ""])
    assert split_command_line(["a b.py", "", "x y"]) == ([], ["a b.py", "", "x y"])


# Generated command lines

SWITCHES = st.text("bBdEiIOPqsSuvx", min_size=1, max_size=3)
ARGUMENTS = st.lists(st.text(max_size=5), max_size=3)
NOT_EMPTY = st.text(min_size=1, max_size=5)
PATHS = NOT_EMPTY.filter(lambda path: not path.startswith("-"))


FLAGS = st.one_of(
    SWITCHES.map(lambda switches: [f"-{switches}"]),
    st.builds(
        lambda switches, flag, value: [f"-{switches}{flag}", value],
        st.just("") | SWITCHES,
        st.sampled_from("WX"),
        st.text(max_size=5),
    ),
    st.builds(
        lambda switches, flag, value: [f"-{switches}{flag}{value}"],
        st.just("") | SWITCHES,
        st.sampled_from("WX"),
        NOT_EMPTY,
    ),
    st.sampled_from(["always", "-m"]).map(lambda value: ["--check-hash-based-pycs", value]),
)
PLAIN_TARGETS = st.one_of(
    st.just([]),
    st.builds(lambda path, arguments: [path, *arguments], st.just("-") | PATHS, ARGUMENTS),
    st.builds(
        lambda flag, value, arguments: [f"-{flag}", value, *arguments],
        st.sampled_from("cm"),
        st.text(max_size=5),
        ARGUMENTS,
    ),
)
# Targets that are split into something else than they are: with the flags and the target expected.
OTHER_TARGETS = st.one_of(
    st.builds(
        lambda flag, value, arguments: (
            [f"-{flag}{value}", *arguments],
            [],
            [f"-{flag}", value, *arguments],
        ),
        st.sampled_from("cm"),
        NOT_EMPTY,
        ARGUMENTS,
    ),
    st.builds(
        lambda switches, flag, value, arguments: (
            [f"-{switches}{flag}", value, *arguments],
            [f"-{switches}"],
            [f"-{flag}", value, *arguments],
        ),
        SWITCHES,
        st.sampled_from("cm"),
        st.text(max_size=5),
        ARGUMENTS,
    ),
    st.builds(
        lambda path, arguments: (["--", path, *arguments], [], [path, *arguments]),
        st.just("-") | PATHS,
        ARGUMENTS,
    ),
    st.builds(
        lambda name, arguments: (["--", f"-{name}", *arguments], [], [f"./-{name}", *arguments]),
        NOT_EMPTY,
        ARGUMENTS,
    ),
    st.just((["--"], [], [])),
)
LISTS_OF_FLAGS = st.lists(FLAGS, max_size=4).map(itertools.chain.from_iterable).map(list)


@settings(deadline=None)
@given(LISTS_OF_FLAGS, PLAIN_TARGETS)
def test_flags_and_target_together_are_the_command_line_again(flags, target):
    assert split_command_line([*flags, *target]) == (flags, target)


@settings(deadline=None)
@given(LISTS_OF_FLAGS, OTHER_TARGETS)
def test_a_target_written_in_another_way_is_put_into_the_plain_one(flags, written):
    line, more_flags, target = written
    expected = [*flags, *more_flags], target
    assert split_command_line([*flags, *line]) == expected
    assert split_command_line([*expected[0], *target]) == expected


@settings(deadline=None)
@given(st.lists(st.text(max_size=4) | st.text("-mcWXu", max_size=4)))
def test_splitting_twice_changes_nothing_more(line):
    flags, target = split_command_line(line)
    assert split_command_line([*flags, *target]) == (flags, target)


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
def test_python_splits_in_the_same_way(flags, tmp_path):
    (tmp_path / "app.py").write_text("import sys; print([*sys.orig_argv[1:], len(sys.argv)])")
    line = [*flags.split(), "app.py", "-u", "x"]
    run = subprocess.run(
        [sys.executable, *line], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *arguments, count = ast.literal_eval(run.stdout)
    assert arguments == line
    expected = [flag for flag in arguments[:-count] if flag != "--"], arguments[-count:]
    assert split_command_line(line) == expected


def test_python_reads_a_stream_after_two_hyphens_and_one(tmp_path):
    (tmp_path / "-").write_text("print('the file')")
    run = subprocess.run(
        [sys.executable, "--", "-"],
        input="print('the stream')",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "the stream\n"


def test_the_start_of_the_process_is_known():
    code = """if True:
        import time
        began = time.time_ns()
        from evreload._common import startup
        print(startup.STARTED_NS, began)
    """
    before = time.time_ns()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    started, began = map(int, run.stdout.split())
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert before - tick <= started <= began


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is but one clock")
def test_a_pause_between_two_readings_of_the_clock_does_not_count_as_age(monkeypatch):
    read_clock = time.clock_gettime_ns
    pauses = [50_000_000, 0, 0]
    began = startup._started_ns()
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: read_clock(clock) + pauses.pop(0))
    assert abs(startup._started_ns() - began) < 5_000_000
