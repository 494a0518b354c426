"""The restart: the process survives it, and begins again as plain Python began it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

HEAD = """
import asyncio, builtins, json, logging, os, sys

def plain(name, value):
    if name == "__builtins__":
        return value is builtins or value is builtins.__dict__
    if name == "__loader__":
        kind = value if isinstance(value, type) else type(value)
        return [kind.__name__, str(getattr(value, "path", None))]
    if name == "__spec__" and value:
        return [value.name, value.origin, value.parent, value.cached, value.has_location]
    return value

STATE = {
    "globals": {n: plain(n, v) for n, v in list(globals().items()) if n.startswith("__")},
    "main": sys.modules["__main__"].__dict__ is globals(),
    "argv": list(sys.argv),
    "orig_argv": list(sys.orig_argv),
    "path": sys.path[:2],
    "flags": repr(sys.flags),
    "warnoptions": sys.warnoptions,
    "xoptions": sys._xoptions,
    "directory": os.getcwd(),
    "pids": [os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0)],
}
"""
TAIL = """
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload

async def main():
    evreload.start()
    print("state", json.dumps(STATE), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
PROGRAM = HEAD + TAIL

LOOP = """
import asyncio, logging, os, signal, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
{start}
async def main():
    evreload.start()
    print("ready", {what}, flush=True)
    {then}
    await asyncio.Event().wait()

asyncio.run(main())
"""


def program(what="''", start="", then=""):
    return LOOP.format(what=what, start=start, then=then)


def touch(app, name):
    """Restart for *name*, as someone does who types `touch`."""
    app.armed()
    os.utime(app.path(name))
    app.line("restarting server")


def state(app):
    return json.loads(app.line("state ").removeprefix("state "))


def reloads_three_times_alike(app, name):
    first = state(app)
    for _ in range(3):
        touch(app, name)
        assert state(app) == first
    return first


# How the program was named


def test_a_script_with_arguments(app):
    app.write("app.py", PROGRAM)
    app.start("app.py", "--port=80", "a b", "-m", "", "ünï")
    first = reloads_three_times_alike(app, "app.py")
    assert first["argv"] == ["app.py", "--port=80", "a b", "-m", "", "ünï"]


def test_a_script_named_by_a_crooked_path(app):
    app.write("sub/app.py", PROGRAM)
    app.start("./sub/../sub/app.py")
    reloads_three_times_alike(app, "sub/app.py")


def test_a_script_behind_a_symbolic_link(app):
    app.write("real/app.py", PROGRAM)
    os.symlink("real/app.py", app.path("link.py"))
    app.start("link.py")
    first = reloads_three_times_alike(app, "real/app.py")
    assert first["path"][0] == app.path("real")


def test_an_executable_script(app):
    app.write("app.py", f"#!{sys.executable}\n{PROGRAM}").chmod(0o755)
    app.start_command(["./app.py", "x"])
    reloads_three_times_alike(app, "app.py")


def test_a_module(app):
    app.write("app.py", PROGRAM)
    app.start("-m", "app", "x", "-c")
    first = reloads_three_times_alike(app, "app.py")
    assert first["globals"]["__spec__"][0] == "app"


def test_a_module_named_without_a_space_among_flags(app):
    app.write("app.py", PROGRAM)
    app.start("-uBmapp", "x")
    reloads_three_times_alike(app, "app.py")


def test_a_package(app):
    app.write("pkg/__init__.py")
    app.write("pkg/__main__.py", PROGRAM)
    app.start("-m", "pkg")
    first = reloads_three_times_alike(app, "pkg/__main__.py")
    assert first["globals"]["__package__"] == "pkg"


def test_a_submodule_with_relative_imports(app):
    app.write("pkg/__init__.py")
    app.write("pkg/sister.py")
    app.write(
        "pkg/sub.py", HEAD + "from . import sister\nfrom .sister import __name__ as _\n" + TAIL
    )
    app.start("-m", "pkg.sub")
    reloads_three_times_alike(app, "pkg/sister.py")


def test_a_directory(app):
    app.write("dir/__main__.py", HEAD + "import sister\n" + TAIL)
    app.write("dir/sister.py")
    app.start("dir/", "x")
    reloads_three_times_alike(app, "dir/sister.py")


def test_an_archive(app):
    app.write("dir/__main__.py", HEAD + "import sister\n" + TAIL)
    app.write("dir/sister.py")
    zipapp.create_archive(app.path("dir"), app.path("app.pyz"))
    app.start("app.pyz", "x")
    reloads_three_times_alike(app, "app.pyz")


def test_compiled_code_without_its_source(app):
    source = app.write("app.py", HEAD + "import helper\n" + TAIL)
    app.write("helper.py")
    code = "import py_compile; py_compile.compile('app.py', cfile='app.pyc')"
    subprocess.run([sys.executable, "-c", code], cwd=app.directory, check=True)
    source.unlink()
    app.start("app.pyc")
    reloads_three_times_alike(app, "helper.py")


def test_a_console_script(app):
    app.write(
        "tool.py", HEAD + TAIL.replace("asyncio.run(main())", "def run(): asyncio.run(main())")
    )
    app.write("bin/tool", f"#!{sys.executable}\nfrom tool import run\nrun()\n").chmod(0o755)
    app.start_command([app.path("bin/tool"), "x"], PYTHONPATH=app.path(""))
    reloads_three_times_alike(app, "tool.py")


def test_code_on_the_command_line(app):
    app.write("helper.py")
    app.start("-c", HEAD + "import helper\n" + TAIL, "x")
    first = reloads_three_times_alike(app, "helper.py")
    assert first["argv"] == ["-c", "x"]
