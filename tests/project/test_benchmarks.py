"""The programs that run the benchmarks. What they measure is not tested here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("reads /proc", allow_module_level=True)

from benchmarks import __main__ as command
from benchmarks import results, runners
from benchmarks.contenders import EVRELOAD, ORACLE, Contender
from benchmarks.processes import process_tree
from benchmarks.programs import write_programs

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def runner(tmp_path):
    """Return a runner for a contender with this command."""
    made = []

    def make(*command: str) -> runners.Runner:
        one = runners.Runner(Contender("it", (), command), tmp_path / "it")
        made.append(one)
        return one

    write_programs(tmp_path / "it", 1, ["py"])
    yield make
    for one in made:
        one.end()


def test_the_commands_on_its_page_are_accepted(monkeypatch):
    text = (ROOT / "benchmarks/README.md").read_text()
    shown = re.findall(r"^\S*tox -e bench(?: -- ([^#\n]*))?", text, re.MULTILINE)
    assert len(shown) > 3
    for arguments in shown:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments.split()])
        command._options()


def test_a_run_fills_in_the_report(tmp_path):
    report = tmp_path / "README.md"
    report.write_text((ROOT / "benchmarks/README.md").read_text())
    done = run("restart", "--quick", "--only", "evreload", "--report", tmp_path)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "results/restart.json").read_text())
    names = [name for name, _ in kept["tables"][0]["rows"]]
    assert names == ["bare start: tornado", "oracle", "evreload"]
    assert len(kept["tables"][0]["samples"]["evreload"]) == 2, kept
    table = (tmp_path / "results/restart.md").read_text()
    assert "| bare start: tornado | 1.00 |" in table
    assert table.splitlines()[-1] in report.read_text()
    assert f"evreload {kept['versions']['evreload']}" in report.read_text()


def test_it_ends_what_it_started_when_it_is_ended(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "broken", "--quick", "--only", "evreload"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*command, "--results", tmp_path], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr
        while b"round 1" not in process.stderr.readline():
            assert process.poll() is None
        pids = process_tree(process.pid)
        process.terminate()
        process.stderr.read()
    assert len(pids) > 2
    await_end(pids)
    assert not list(tmp_path.glob("benchmark-*"))


def test_an_unknown_name_is_an_error():
    assert "there is no 'evereload'" in run("restart", "--only", "evereload").stderr
    assert "there is no 'restarts'" in run("restarts").stderr


def test_no_table_shows_paths_of_this_machine(tmp_path):
    table = results.Table("times", ["ms"])
    table.fail("it", f"no {sys.base_prefix}/lib, no {tmp_path}/app")
    assert sys.base_prefix not in str(table)
    assert tempfile.gettempdir() not in str(table)


def test_the_other_measures_go_on_if_one_fails(monkeypatch, tmp_path, capsys):
    def fail(place, scale):
        raise RuntimeError("out of order")

    table = results.Table("Fine", ["a"], [("row", [1])])
    monkeypatch.setattr(command, "MEASURES", {"one": fail, "two": lambda *_: [table]})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--results", str(tmp_path)])
    assert command.main() == 1
    assert "out of order" in capsys.readouterr().err
    assert "| row | 1 |" in (tmp_path / "two.md").read_text()


def test_a_contender_that_ends_is_reported(runner):
    one = runner(sys.executable, "-c", "raise SystemExit('no such thing')")
    one.attempt(lambda it: it.get_ready())
    assert one.failed == "does not serve 0; it last printed: no such thing"


@pytest.mark.soak
def test_a_contender_that_notices_no_save_is_reported(runner, monkeypatch):
    monkeypatch.setattr(runners, "LIMIT", 0.5)
    one = runner(*ORACLE.command)
    with runners.side_by_side([one], "test"):
        pass
    assert one.failed.startswith("notices no save")


BUSY = """
import runpy, threading

def work():
    while True:
        pass

threading.Thread(target=work).start()
runpy.run_path("tornado_app.py")
"""


def test_a_contender_that_is_always_busy_runs_alone(runner, monkeypatch):
    monkeypatch.setattr(runners, "BUSY", 0.01)  # other processes may be busy, too
    one = runner(sys.executable, "-c", BUSY)
    with runners.side_by_side([one], "test", prove=False):
        assert one.alone
        assert not one.program
        one.attempt(lambda it: it.follow(0))
    assert not one.failed


def test_all_processes_of_a_contender_are_ended(runner):
    one = runner(*EVRELOAD[1].command)
    one.get_ready()
    pids = process_tree(one.program.pid)
    assert len(pids) > 1
    one.end()
    await_end(pids)


def await_end(pids: list[int]) -> None:
    until = time.monotonic() + 10
    while any(map(runs, pids)):
        assert time.monotonic() < until


def runs(pid: int) -> bool:
    """Whether *pid* exists, and is not a zombie."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize("name", ["machine", *command.MEASURES])
def test_each_measure_has_its_place_in_the_report(name, tmp_path):
    report = tmp_path / "README.md"
    report.write_text((ROOT / "benchmarks/README.md").read_text())
    results.fill_in(report, name, "The result: \\1.")
    results.fill_in(report, name, "The result: \\2.")
    assert report.read_text().count("The result") == 1
    assert f"<!-- begin {name} -->\nThe result: \\2.\n<!-- end {name} -->" in report.read_text()


@pytest.mark.parametrize("name", command.MEASURES)
def test_each_measure_was_taken_for_the_report(name):
    report = (ROOT / "benchmarks/README.md").read_text()
    section = re.search(rf"<!-- begin {name} -->(.*?)<!-- end {name} -->", report, re.DOTALL)
    assert section
    assert re.search(r"^Measured in \d+ s\.$", section[1], re.MULTILINE)
    for table in (RESULTS / f"{name}.md").read_text().split("\n\n"):
        assert table.strip() in section[1]
    for suffix in ("json", "png"):
        assert (RESULTS / f"{name}.{suffix}").is_file()


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "-"), ("2 of 2", "2 of 2"), (3, "3"), (0.123, "0.12"), (12.34, "12.3"),
     (1234.5, "1,234")],
)  # fmt: skip
def test_numbers_have_about_three_digits(value, written):
    assert results.figure(value) == written
