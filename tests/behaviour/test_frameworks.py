"""The example of each framework, run with the real framework under the command."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from support.frameworks import SERVERS
from support.processes import assert_gone
from support.servers import Clients, await_answer, copy_example, free_port

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the command runs in one process")


# For each row of the README's table its tests: names in SERVERS, or test functions.
ROWS = {
    "Tornado": ["program/test_tornado_compat.py::test_a_program_for_tornado_reloads_unchanged"],
    "FastAPI, uvicorn": ["uvicorn", "uvicorn-workers"],
    "Starlette, hypercorn": ["hypercorn"],
    "Flask": ["flask-run", "flask-debug", "flask-app.run"],
    "Quart": ["quart-run", "quart-app.run"],
    "Django": ["django"],
    "aiohttp": ["aiohttp"],
    "gunicorn": ["gunicorn"],
    "pytest": ["behaviour/test_frameworks.py::test_a_test_runner_runs_again"],
    "unittest": ["behaviour/test_frameworks.py::test_a_test_runner_runs_again"],
    "mypy": ["behaviour/test_frameworks.py::test_mypy_runs_again"],
}


def test_each_row_of_the_readme_is_tested_with_the_real_package():
    section = (ROOT / "README.md").read_text().split("## What it runs with")[1].split("\n## ")[0]
    assert re.findall(r"^\| (\w[^|]*) \|", section, re.MULTILINE) == list(ROWS)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = settings["dependency-groups"]
    installed = {
        re.split(r"[^\w-]", name)[0]
        for name in (
            *settings["project"]["dependencies"],
            *groups["frameworks"],
            *groups["test"],
            "unittest",
        )
    }
    for row, tests in ROWS.items():
        assert installed >= {name.lower() for name in row.split(", ")} - {"starlette"}
        for test in tests:
            file, _, name = test.partition("::")
            assert name in (ROOT / "tests" / file).read_text() if name else test in SERVERS


def workers(app, port: int, greeting: str, message: str) -> set[int]:
    """Return the process ids of all workers, once one has answered with *greeting*.

    *message* precedes the process id in the line that the server prints for each worker.
    """
    lines = [app.line(message) for _ in range(2)] if message else []
    found = {int(line.partition(message)[2].rstrip("]")) for line in lines}
    one = await_answer(app, port, greeting)
    assert not found or one in found
    return found | {one}


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_a_server_answers_with_the_new_code(app, server):
    copy_example(app, server.example, server.needs)
    port = free_port()
    command = server.command.format(port=port).split()
    app.start("-m", "evreload", "--stop-timeout", "20", *command, PORT=str(port))
    old = workers(app, port, "Hello", server.worker_message)
    app.await_watching(by_now=True)
    with Clients(port) as clients:
        for greeting in ("Good morning", "Good evening"):
            app.write("greeting.py", f'GREETING = "{greeting}"')
            app.line("greeting.py modified; restarting server")
            new = workers(app, port, greeting, server.worker_message)
            assert not old & new
            assert_gone(old)
            old = new
    assert clients.outcomes["answered"]
    assert "ConnectionRefusedError" not in clients.outcomes, clients.outcomes
    app.signal(15)
    app.wait()
    assert_gone(old)
    assert app.count("modified; restarting server") == 2, app.output
    if server.shutdown_message:
        assert app.count(server.shutdown_message) == 3, app.output


@pytest.mark.parametrize("runner", ["pytest", "unittest"])
def test_a_test_runner_runs_again(app, runner):
    copy_example(app, "pytest", runner)
    good, bad = {"pytest": ("1 passed", "1 failed"), "unittest": ("OK", "FAILED")}[runner]
    app.start("-m", "evreload", "-m", runner)
    app.line(good)
    app.line("program exited with status 0; waiting for a change")
    app.write("total.py", "def total(prices): return 0")
    app.line("total.py modified; restarting server")
    app.line(bad)
    app.line("program exited with status 1; waiting for a change")
    app.write("total.py", "def total(prices): return sum(prices)")
    app.line(good)
    test = (app.directory / "test_total.py").read_text()
    app.write("test_total.py", test.replace("== 3", "== 4"))
    app.line("test_total.py modified; restarting server")
    app.line(bad)
    assert app.count("restarting server") == 3, app.output


def test_mypy_runs_again(app):
    copy_example(app, "pytest", "mypy")
    app.start("-m", "evreload", "-w", ".", "-m", "mypy", ".")
    app.line("Success: no issues found")
    app.line("program exited with status 0; waiting for a change")
    app.write("total.py", "def total(prices: list[int]) -> int: return 'all'")
    app.line("total.py modified; restarting server")
    app.line("Incompatible return value type")
    app.line("program exited with status 1; waiting for a change")
    app.write("total.py", "def total(prices: list[int]) -> int: return 1")
    app.line("total.py modified; restarting server")
    app.line("Success: no issues found")
    assert app.count("restarting server") == 2, app.output


def test_a_program_that_ends_before_the_stop_timeout_is_not_killed(app):
    app.write("helper.py", "VALUE = 1")
    app.write(
        "app.py",
        """
        import signal, socket, sys, time
        import helper

        def save(number, frame):
            print("saving", helper.VALUE, flush=True)
            time.sleep(0.3)
            print("saved", helper.VALUE, flush=True)
            sys.exit()  # a while after the signal

        signal.signal(signal.SIGTERM, save)
        socket.create_server(("127.0.0.1", 0))
        print("ready", helper.VALUE, flush=True)
        while True:
            signal.pause()
        """,
    )
    app.start("-m", "evreload", "--stop-timeout", "20", "app.py")
    app.line("ready 1")
    app.await_watching(by_now=True)
    app.write("helper.py", "VALUE = 2")
    app.line("ready 2")
    assert app.count("saved 1") == 1, app.output


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_modules_that_only_multiprocessing_workers_import_are_watched(app, method):
    app.write("helper.py", "VALUE = 1")
    app.write("job.py", "def work():\n    import helper\n    return helper.VALUE")
    app.write(
        "app.py",
        f"""
        import multiprocessing, sys
        import job

        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                print("value", pool.apply(job.work), "helper" in sys.modules, flush=True)
        """,
    )
    app.start("-m", "evreload", "app.py")
    app.line("value 1 False")
    app.line("program exited with status 0; waiting for a change")
    app.await_watching(by_now=True)
    app.write("helper.py", "VALUE = 2")
    app.line("helper.py modified; restarting server")
    app.line("value 2 False")


FLASK = """
import flask
app = flask.Flask(__name__)
app.run(port={port}, debug=True)
"""
UVICORN = """
import uvicorn
if __name__ == "__main__":
    uvicorn.run("tornado:app", port={port}, reload=True)
"""
DJANGO = """
from django.conf import settings
from django.core.management import execute_from_command_line
settings.configure(DEBUG=True)
execute_from_command_line(["app.py", "runserver", "{port}"])
"""
# Programs that turn on the reloader of a framework, and what to do about it.
RELOADING = {
    "flask": (FLASK, "pass use_reloader=False to run()"),
    "uvicorn": (UVICORN, "leave out reload=True"),
    "django": (DJANGO, "add --noreload"),
}


@pytest.mark.parametrize("name", RELOADING)
def test_the_reloader_of_a_framework_is_reported_though_no_option_turns_it_on(app, port, name):
    pytest.importorskip(name)
    text, remedy = RELOADING[name]
    app.write("app.py", text.format(port=port))
    app.start("-m", "evreload", "--stop-timeout", "0.1", "app.py")
    app.await_lines(f"evreload: the program has a reloader of its own, and it is on: {remedy}")
