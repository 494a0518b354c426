"""What the README promises happens in real processes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.deadline import DEADLINE
from support.servers import free_port, page_at

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block_under(heading: str, language: str) -> str:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    match = re.search(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert match
    return match[1]


def test_the_example_has_six_lines():
    lines = block_under("Why", "python").splitlines()
    assert len([line for line in lines if line]) == 6


def test_the_example_runs_and_a_save_restarts_it(app):
    example = block_under("Why", "python")
    assert example.count("8888") == 1
    # The example prints nothing, so `logging` prints the restart. Any free port will do.
    watched = "import logging, helper\nlogging.basicConfig(level=logging.INFO)\n"
    app.write("helper.py", "print('helper 1', flush=True)")
    app.write("server.py", watched + example.replace("8888", "0"))
    app.start("server.py")
    app.line("helper 1")
    app.line("evreload:watching ")
    app.write("helper.py", "print('helper 2', flush=True)")
    assert "helper.py modified; restarting server" in app.line("restarting")
    app.line("helper 2")
    app.line("evreload:watching ")


@pytest.fixture
def tried(app):
    """Run the command of *Try it*, on a copy and a free port; return the page's address."""
    command = block_under("Try it", "sh").split("&&")[-1].split()
    assert command[0].endswith("python")
    assert command[1:3] == ["-m", "evreload"]
    shutil.copytree(ROOT / "examples" / "server", app.directory / "examples" / "server")
    port = free_port()
    app.start(*command[1:], "--port", str(port))
    awaited = {"evreload: watching ", "Open http://"}  # they come in any order
    while awaited:
        line = app.line("")
        awaited = {text for text in awaited if text not in line}
    return f"http://127.0.0.1:{port}"


def test_an_edit_shows_on_the_page(app, tried):
    assert "Good " in page_at(tried)
    app.write("examples/server/greeting.py", "def greet(now): return 'Welcome, reader'")
    app.line("greeting.py modified; restarting server")
    app.line("Open http://")
    assert "Welcome, reader" in page_at(tried)


def test_broken_code_leaves_the_page_answering(app, tried):
    app.write("examples/server/greeting.py", "def greet(now): return (")
    line = app.line("SyntaxError")
    assert line.endswith("; still running the previous version")
    assert "Good " in page_at(tried)


def test_after_an_error_at_import_the_page_waits_for_the_fix(app, tried):
    app.write("examples/server/greeting.py", "1 / 0")
    app.line("ZeroDivisionError")
    app.line("waiting for a change")
    address = urlsplit(tried)
    with socket.create_connection((address.hostname, address.port), timeout=DEADLINE) as visitor:
        visitor.sendall(b"GET / HTTP/1.0\r\n\r\n")
        app.write("examples/server/greeting.py", "def greet(now): return 'Welcome back'")
        assert b"Welcome back" in visitor.makefile("rb").read()


def test_a_template_shows_on_the_page(app, tried):
    app.write("examples/server/templates/index.html", "{{ greeting }}, from another template")
    app.line("index.html modified; restarting server")
    app.line("Open http://")
    assert "from another template" in page_at(tried)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_ci_runs_the_command_under_run_the_tests(tmp_path):
    """In a copy of the README whose command only prints."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    command = block_under("Run the tests", "sh").strip()
    (tmp_path / "README.md").write_text(README.replace(command, "echo ran it >&1"))
    done = subprocess.run(
        ["bash", str(tmp_path / ".ci" / "run")], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stdout) == (0, "+ echo ran it >&1\nran it\n")
    (tmp_path / "README.md").write_text("# Nothing\n\n```sh\necho other\n```\n")
    done = subprocess.run(
        ["bash", str(tmp_path / ".ci" / "run")], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 1
    assert "no command" in done.stderr


def test_the_commands_are_what_they_were():
    python = "python3 -m venv .venv && .venv/bin/pip install -q "
    assert block_under("Try it", "sh").strip() == (
        python + ". && .venv/bin/python -m evreload examples/server/server.py"
    )
    assert block_under("Run the tests", "sh").strip() == python + "tox && .venv/bin/tox"
