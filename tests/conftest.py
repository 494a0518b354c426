"""Fixtures, and options of the test run. What tests import is in `support`."""

from __future__ import annotations

import itertools
import shutil
import signal
import sys
from pathlib import Path

import pytest

from support.app import WARM_TIMEOUT, App
from support.programs import LOOP
from support.servers import free_port

# A shell starts background jobs with SIGINT ignored, and programs inherit this: no test of Ctrl-C
# would work.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores this one


def pytest_addoption(parser):
    parser.addoption("--warm", action="store_true", help="run the command with --warm")


def pytest_terminal_summary(terminalreporter):
    """Report how often a test with --warm went on although the next start was cold."""
    reports = itertools.chain(*terminalreporter.stats.values())
    teardowns = [one for one in reports if getattr(one, "when", None) == "teardown"]
    if cold := sum(dict(one.user_properties).get("times cold", 0) for one in teardowns):
        terminalreporter.write_line(
            f"tests went on with a cold start after {WARM_TIMEOUT} s: {cold} times"
        )


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def app(tmp_path: Path, request):
    directory = tmp_path / "app"
    directory.mkdir()
    app = App(directory)
    app.warm = request.config.getoption("--warm")
    yield app
    request.node.user_properties.append(("times cold", app.times_cold))
    app.close()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def loop_app(app: App) -> App:
    """Start a program on a loop, and wait until it watches; each run prints `ready VALUE`."""
    app.write("helper.py", "VALUE = 1")
    app.write("app.py", LOOP)
    app.start("app.py")
    app.line("ready 1")
    app.await_watching()
    return app


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Change to an empty directory, with no pyproject.toml above it."""
    monkeypatch.delenv("EVRELOAD_POLL", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    return tmp_path
