"""Each command that README.md, CONTRIBUTING.md and the other pages show is run.

For a command that is not run, a table here has the reason, and the test that replaces it.
"""

from __future__ import annotations

import configparser
import re
import shlex
import sys
from typing import NamedTuple

import pytest

from support.files import await_tick
from support.pages import DOCS, PAGES, ROOT
from support.servers import await_answer, copy_example, free_port, page_at

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the command runs in one process")

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^ *```(sh|console)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def shown() -> dict[str, list[str]]:
    """Return each command with the names of the pages it is on."""
    found: dict[str, list[str]] = {}
    for page in (*PAGES, ROOT / "benchmarks" / "README.md"):
        for language, block in BLOCK.findall(page.read_text()):
            prompt = "$ " if language == "console" else ""
            for line in map(str.strip, block.splitlines()):
                if line.startswith(prompt):
                    command = re.sub(r"  +#.*", "", line.removeprefix(prompt))
                    found.setdefault(command, []).append(str(page.relative_to(ROOT)))
    return found


INDEX = "needs the package index; the tests themselves are run by it"
MEASURES = "measures for minutes, or for half an hour"
LONG = "takes hours; a short version is among the tests"
GLOBAL = "would signal processes of other users"

# The commands that are not run here: the reason, and the test that replaces each.
NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install -q . && "
    ".venv/bin/python -m evreload examples/server/server.py": (
        INDEX,
        "project/test_readme.py::test_an_edit_shows_on_the_page",
    ),
    "python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox": (
        INDEX,
        "project/test_readme.py::test_ci_runs_the_command_under_run_the_tests",
    ),
    "python3 -m venv .venv && .venv/bin/pip install -q tox": (
        INDEX,
        "project/test_readme.py::test_the_commands_are_what_they_were",
    ),
    ".venv/bin/pip install -q --upgrade pip && "
    ".venv/bin/pip install -q -e . --group test --group lint": (
        INDEX,
        "project/test_shown_commands.py::test_groups_and_environments_exist",
    ),
    ".venv/bin/python -m pytest": (
        INDEX,
        "project/test_shown_commands.py::test_groups_and_environments_exist",
    ),
    "python -m pip install path/to/evreload": (
        INDEX,
        "project/test_release.py::test_it_installs_in_an_empty_environment",
    ),
    "pgrep -of 'evreload server.py'": (
        GLOBAL,
        "supervisor/test_supervisor.py::test_sigusr1_restarts_by_hand",
    ),
    "kill -USR1 PID": (GLOBAL, "supervisor/test_supervisor.py::test_sigusr1_restarts_by_hand"),
    ".venv/bin/tox -e soak -- tests/behaviour": (
        LONG,
        "behaviour/test_soak.py::test_the_last_content_is_served_and_nothing_grows",
    ),
    ".venv/bin/tox -e bench": (
        MEASURES,
        "project/test_benchmarks.py::test_a_run_fills_in_the_report",
    ),
    **{
        f".venv/bin/tox -e bench -- {arguments}": (
            MEASURES,
            "project/test_benchmarks.py::test_the_commands_on_its_page_are_accepted",
        )
        for arguments in (
            "--quick",
            "restart warm",
            "during --only evreload --only granian",
            "--report benchmarks",
        )
    },
}

# A program that prints its arguments, and that it has been restarted.
PROGRAM = """
import signal, socket, sys
import helper
listener = socket.create_server(("127.0.0.1", 0))
print("ready", helper.VALUE, *sys.argv[1:], flush=True)
{end}
"""
STAYS, ENDS = "signal.pause()", "listener.close()"
PLAIN = {
    "python -m evreload server.py",
    "python -m evreload server.py --port 8888",
    "python -m evreload -m mypackage.server",
    "python -X dev -W error -m evreload server.py",
    "python -m evreload -w config.toml -w templates/ server.py",
    "python -m evreload -w . -i '*.log' -i 'build/*' server.py",
    "python -m evreload -w . --no-gitignore server.py",
    "python -m evreload --poll server.py",
    "python -m evreload --poll --check-time 1000 server.py",
    "python -m evreload --debounce 200 server.py",
    "python -m evreload --stop-signal SIGINT --stop-timeout 10 worker.py",
    "python -m evreload --no-keep-sockets server.py",
    "python -m evreload --full-exit server.py",
    "python -m evreload --grace 5 server.py",
    "python -m evreload --warm server.py",
    "python -m evreload --warm --cold matplotlib server.py",
    "python -m evreload --clear --quiet server.py",
    "python -m evreload --verbose server.py",
    "python -m evreload report.py --month 3",
    "python -m evreload -w data.csv report.py",
}


class Served(NamedTuple):
    example: str
    needs: str  # packages
    at: str  # added to the command, so that it serves at a free port


UVICORN = Served("fastapi", "fastapi uvicorn", "--port {port}")
SERVED = {
    "python -m evreload -m uvicorn app:app": UVICORN,
    "python -m evreload -m uvicorn app:app --port 8000": UVICORN,
    "python -m evreload --stop-timeout 0.5 -m uvicorn app:app": UVICORN,
    "python -m evreload -m flask --app app run --debug --no-reload": Served(
        "flask", "flask", "--port {port}"
    ),
    "python -m evreload -m quart --app app run --no-reload": Served(
        "quart", "quart", "--port {port}"
    ),
    "python -m evreload manage.py runserver --noreload": Served("django", "django", "{port}"),
    "python -m evreload -w templates/ manage.py runserver --noreload": Served(
        "django", "django", "{port}"
    ),
    "python -m evreload app.py": Served("aiohttp", "aiohttp", ""),
    "python -m evreload -m aiohttp.web -P 8080 app:make_app": Served(
        "aiohttp", "aiohttp", "-P {port}"
    ),
    "python -m evreload -m gunicorn -w 2 app:app": Served(
        "gunicorn", "gunicorn", "-b 127.0.0.1:{port}"
    ),
    "python -m evreload -m hypercorn app:app": Served(
        "hypercorn", "hypercorn starlette", "-b 127.0.0.1:{port}"
    ),
}

TESTING = {
    "python -m evreload -m pytest -x",
    "python -m evreload -w tests/ -m pytest -x",
    "python -m evreload --until-success -m pytest -x",
    "python -m evreload -w src/ -w tests/ -m pytest -n 4",
    "python -m evreload -m unittest",
    "python -m evreload -w . -m mypy .",
}

OTHERS = {
    "python -m evreload hello.py",
    "python -m evreload --version",
    "python -m evreload --help",
    "EVRELOAD=off python server.py",
}


def start(app, command: str, **environment: str) -> None:
    """Run a command by the shell, with this interpreter."""
    here = re.sub(r"^(\w+=\w+ )*python ", rf"\g<1>{shlex.quote(sys.executable)} ", command)
    assert here != command
    app.start_command(["sh", "-c", here], **environment)


def test_every_command_is_run_or_accounted_for():
    tables = [PLAIN, SERVED, TESTING, OTHERS, NOT_RUN]
    known = [command for table in tables for command in table]
    assert sorted(known) == sorted(set(known))
    assert sorted(shown()) == sorted(known)


def test_the_table_of_the_readme_shows_only_such_commands():
    rows = re.findall(r"^\| [^|]+ \| `(python -m evreload .*)` \|$", README, re.MULTILINE)
    assert len(rows) > 10
    assert set(rows) <= PLAIN | TESTING | set(SERVED)


@pytest.mark.parametrize("test", sorted({test for _, test in NOT_RUN.values()}))
def test_the_test_that_replaces_a_command_exists(test):
    file, _, name = test.partition("::")
    text = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)


def test_groups_and_environments_exist():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    environments = {section.removeprefix("testenv:") for section in tox.sections()}
    environments |= set(re.split(r",\s*", tox["tox"]["env_list"]))
    groups = (ROOT / "pyproject.toml").read_text().partition("[dependency-groups]")[2]
    named = 0
    for page in (*PAGES, ROOT / "benchmarks" / "README.md"):
        text = page.read_text()
        for names in re.findall(r"tox -e ([\w,]+)", text):
            named += 1
            assert set(names.split(",")) <= environments, page
        for group in re.findall(r"--group (\w+)", text):
            named += 1
            assert re.search(rf"^{group} = \[", groups, re.MULTILINE), page
    assert named > 10


@pytest.mark.parametrize("command", sorted(PLAIN))
def test_a_shown_command_restarts_its_program(app, command):
    if "--warm" in command and sys.platform != "linux":
        pytest.skip("needs Linux")
    app.write("helper.py", "VALUE = 1")
    for name in ("server.py", "worker.py", "mypackage/server.py"):
        app.write(name, PROGRAM.format(end=STAYS))
    app.write("report.py", PROGRAM.format(end=ENDS))
    for name in ("config.toml", "data.csv", "templates/index.html"):
        app.write(name)
    start(app, command)
    arguments = command.rpartition(".py ")[2] if ".py " in command else ""
    assert app.line("ready 1").strip() == f"ready 1 {arguments}".strip()
    if "--quiet" in command:
        await_tick()  # it does not log when it watches; no save before that is lost
    else:
        app.await_watching(by_now=True)
    app.write("helper.py", "VALUE = 2")
    if "--quiet" not in command:
        app.line("helper.py modified; restarting server")
    app.line("ready 2")


@pytest.mark.parametrize("command", sorted(SERVED))
def test_a_shown_command_serves_the_new_code(app, command):
    served = SERVED[command]
    copy_example(app, served.example, served.needs)
    app.write("templates/index.html")
    port = free_port()
    start(app, f"{command} {served.at.format(port=port)}", PORT=str(port))
    await_answer(app, port, "Hello")
    app.line("evreload: watching")
    app.write("greeting.py", 'GREETING = "Good morning"')
    app.line("greeting.py modified; restarting server")
    await_answer(app, port, "Good morning")


# What each tool prints for good code, and for bad code.
PRINTED = {
    "pytest": ("1 passed", "1 failed"),
    "unittest": ("OK", "FAILED"),
    "mypy": ("Success", "Incompatible return value type"),
}


@pytest.mark.parametrize("command", sorted(TESTING))
def test_a_shown_command_tests_again(app, command):
    found = re.search(r"-m (pytest|unittest|mypy)", command)
    assert found
    tool = found[1]
    copy_example(app, "pytest", f"{tool} xdist" if "-n" in command else tool)
    source = app.directory / "total.py"
    if tool == "pytest":
        app.write("pytest.ini", "[pytest]\npythonpath = src\n")
        for directory, name in (("src", "total.py"), ("tests", "test_total.py")):
            (app.directory / directory).mkdir()
            (app.directory / name).rename(app.directory / directory / name)
        source = app.directory / "src" / "total.py"
    name, good = str(source.relative_to(app.directory)), source.read_text()
    app.write(name, good.replace("sum(prices)", "'none'"))
    start(app, command)
    app.line(PRINTED[tool][1])
    app.line("program exited with status 1; waiting for a change")
    app.write(name, good)
    app.line(f"{name} modified; restarting server")
    app.line(PRINTED[tool][0])
    if "--until-success" in command:
        assert app.wait() == 0
    else:
        app.line("program exited with status 0; waiting for a change")


@pytest.mark.parametrize(
    ("option", "printed"), [("--version", "evreload 0."), ("--help", "usage: ")]
)
def test_an_option_that_prints_and_ends(app, option, printed):
    start(app, f"python -m evreload {option}")
    app.line(printed)
    assert app.wait() == 0


def test_it_can_be_switched_off(app):
    app.write("server.py", "import evreload\nevreload.wait()\nprint('went on')")
    start(app, "EVRELOAD=off python server.py")
    app.line("went on")
    assert app.wait() == 0


# Getting started

PAGE = (DOCS / "index.md").read_text()


def file_shown(named: str) -> str:
    """Return the Python block after the words *named*."""
    assert PAGE.count(named) == 1
    block = re.search(r"```python\n(.*?)```", PAGE.partition(named)[2], re.DOTALL)
    assert block
    return block[1]


def line_shown(app, text: str) -> None:
    """Block until the program prints a line that is on the page, with any numbers."""
    (line,) = (line for line in PAGE.splitlines() if text in line)
    pattern = re.sub(r"\d+ (?=files|directories|ms)", r"\\d+ ", re.escape(line).replace(r"\ ", " "))
    printed = app.line(text)
    assert re.fullmatch(pattern.replace("inotify", r"[\w .]+"), printed), printed


def test_the_steps_of_getting_started(app):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = file_shown("`words.py`:")
    app.write("words.py", words)
    app.write("hello.py", file_shown("`hello.py`, which").replace("8888", str(port)))
    start(app, "python -m evreload hello.py")
    line_shown(app, "evreload: watching")
    assert page_at(url) == "Hello"
    app.write("words.py", words.replace("Hello", "Good morning"))
    line_shown(app, "words.py modified; restarting server")
    line_shown(app, "serving again after")
    assert page_at(url) == "Good morning"
    app.write("words.py", 'GREETING = "Hello')
    line_shown(app, "SyntaxError")
    assert page_at(url) == "Good morning"
    app.write("words.py", "GREETING = Hello")
    app.line("NameError")
    line_shown(app, "waiting for a change")
    app.write("words.py", words)
    app.line("serving again after")
    assert page_at(url) == "Hello"
