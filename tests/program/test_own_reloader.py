"""Whether the program has a reloader of its own."""

from __future__ import annotations

import sys

import pytest

from support.programs import COMMAND, assert_no_other_change, runner

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the command runs in one process")

MESSAGE = "evreload: the program has a reloader of its own, and it is on: turn it off"
# Modules of an installed package. The process that each of them starts does nothing.
STARTERS = {
    "acme.autoreload": "import subprocess\ndef run(): subprocess.run(['true'], env=os.environ)",
    "acme.server": "import subprocess\ndef run_with_reloader(): subprocess.run(['true'])\n"
    "run = run_with_reloader",
    "acme.fork": "def watch_reloader():\n    if not os.fork(): os._exit(0)\nrun = watch_reloader",
    "acme.cli": "import subprocess\ndef run(): subprocess.run(['true', '--reload'])",
    "acme.spawn": "import multiprocessing\ndef run():\n"
    "    start = multiprocessing.get_context('spawn').Process\n"
    "    start(target=print, name='acme-Reloader-0').start()",
}
OTHERS = {
    "acme.tool": "import subprocess\ndef run(): subprocess.run(['true'])",
    "acme.pool": "import multiprocessing\ndef run():\n"
    "    multiprocessing.get_context('spawn').Process(target=print).start()",
}


@pytest.fixture
def run(app):
    """Return a function that runs a program that calls `run` of a module."""
    app.write("site-packages/acme/__init__.py")
    for name, text in {**STARTERS, **OTHERS}.items():
        app.write(f"site-packages/{name.replace('.', '/')}.py", "import os\n" + text)
    app.environment["PYTHONPATH"] = app.path("site-packages")

    def run(name):
        body = f"import {name}\nif __name__ == '__main__': {name}.run(); {name}.run()"
        guarded = "''\nif __name__ != '__main__': sys.exit()"
        return runner(app, mode=COMMAND)(f"{body}\nVALUE = {guarded}", "VALUE")

    return run


@pytest.mark.parametrize("name", STARTERS)
def test_a_reloader_is_reported_once_when_it_starts_the_program(app, run, name):
    run(name)
    assert_no_other_change(app)
    assert app.count(MESSAGE) == 1


@pytest.mark.parametrize("name", OTHERS)
def test_code_that_starts_another_process_is_no_reloader(app, run, name):
    run(name)
    assert_no_other_change(app)
    assert app.count("reloader") == 0
