"""Writing files as editors and git do, and the clock of the file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from evreload._common.filestat import file_time


def await_tick() -> None:
    """Block until the clock of the file system, which is coarse, has passed the current time.

    A file saved just before the program is up counts as the program's own write. An edit in the
    same tick would count as such a write, too.
    """
    now = time.time_ns()
    while file_time() < now:
        pass


def replace(path, text, ns=None):
    """Replace *path* by another file, whose modification time is *ns* if that is given."""
    beside = Path(f"{path}.beside~")
    beside.write_text(text)
    if ns:
        os.utime(beside, ns=(ns, ns))
    beside.replace(path)


def write_modules(app, count, per_directory=20, *, imported=None):
    """Write *count* modules, and `everything`, which imports the first *imported* of them, or all.

    Return the paths of the modules. `everything.VALUE` is the sum of the imported values.
    """
    paths = []
    for number in range(count):
        path = app.directory / f"package{number // per_directory}" / f"module{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"VALUE = {number}\n")
        paths.append(path)
    names = [f"{path.parent.name}.{path.stem}" for path in paths[:imported]]
    imports = "".join(f"import {name}\n" for name in names)
    app.write(
        "everything.py", f"{imports}VALUE = sum([{', '.join(f'{n}.VALUE' for n in names)}])\n"
    )
    return paths


def git(directory: Path, *arguments: str) -> str:
    """Run git in *directory* without the user's settings; return what it prints."""
    if not (program := shutil.which("git")):
        pytest.skip("git is not installed")
    settings = ["user.name=n", "user.email=e@example.org", "core.fsync=none", "gc.auto=0"]
    options = [option for setting in settings for option in ("-c", setting)]
    no_files = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        [program, *options, *arguments],
        cwd=directory,
        env={**os.environ, **no_files, "GIT_EDITOR": "true"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout.strip()
