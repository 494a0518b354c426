"""Each save of an editor is one reload, and none of its other files leads to one.

In a watched directory, where those files could be taken for changes. Of real editors where they
are installed, the interactive ones on a pseudo-terminal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import (
    COMMAND,
    DEADLINE,
    START,
    WAYS,
    nothing_else,
    replace,
    restarted,
    runner,
    until,
    up_again,
)

FILE = "pkg/helper.py"
BODY = "from pkg import helper; evreload.watch('pkg')"


def installed(name):
    """Return the path of a program, or skip the test."""
    if not (program := shutil.which(name)):
        pytest.skip(f"there is no {name}")
    return program


# Saves at one stroke


def command(*words, stdin=None):
    """Return what saves by a command; in its words, PATH and TEXT stand for what they say."""

    def save(path, text):
        def said(word):
            return word.replace("PATH", str(path)).replace("TEXT", text)

        arguments = [installed(words[0]), *map(said, words[1:])]
        given = said(stdin) if stdin else ""
        subprocess.run(arguments, input=given, text=True, check=True, capture_output=True)

    return save


def from_elsewhere(*words):
    """Return what saves by copying a file, older than the one it replaces."""

    def save(path, text):
        other = path.parents[1] / "elsewhere"
        other.mkdir()
        (other / path.name).write_text(f"{text}  # and longer\n")
        os.utime(other / path.name, (10**9, 10**9))
        subprocess.run([installed(words[0]), *words[1:], other / path.name, path], check=True)

    return save


def by_pycharm(path, text):
    new = Path(f"{path}___jb_tmp___")
    old = Path(f"{path}___jb_old___")
    new.write_text(text)
    path.rename(old)
    new.rename(path)
    old.unlink()


def by_gnome(path, text):
    shutil.copy2(path, f"{path}~")
    new = path.with_name(".goutputstream-A1B2C3")
    new.write_text(text)
    new.chmod(0o644)
    new.rename(path)


def by_sublime(path, text):
    new = path.with_name(".sublB73.tmp")
    new.write_text(text)
    shutil.copystat(path, new)
    new.rename(path)


def by_kde(path, text):
    """As Qt's QSaveFile does."""
    new = path.with_name(f"{path.name}.QbLtpN")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def by_vs_code(path, text):
    """Truncate what is there, then write and sync."""
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fdatasync(file.fileno())


STROKES = {
    "ed": command("ed", "-s", "PATH", stdin="%s/.*/TEXT/\nw\nq\n"),
    "sed -i": command("sed", "-i", "s/.*/TEXT/", "PATH"),
    "perl -pi": command("perl", "-pi", "-e", "s/.*/TEXT/", "PATH"),
    "vim -es": command("vim", "-u", "NONE", "-N", "-es", "-c", "%s/.*/TEXT/", "-c", "wq", "PATH"),
    "tee": command("tee", "PATH", stdin="TEXT\n"),
    "cp": from_elsewhere("cp"),
    "cp -p": from_elsewhere("cp", "-p"),
    "install": from_elsewhere("install"),
    "rsync": from_elsewhere("rsync", "-a"),
    "rsync --inplace": from_elsewhere("rsync", "-a", "--inplace"),
    "VS Code": by_vs_code,
    "PyCharm": by_pycharm,
    "GNOME": by_gnome,
    "KDE": by_kde,
    "Sublime Text": by_sublime,
    "a rename": replace,
}


@pytest.mark.parametrize(
    ("way", "poll"),
    [(START, False), (START, True), (COMMAND, False)],
    ids=["start", "polling", "command"],
)
@pytest.mark.parametrize("save", STROKES.values(), ids=STROKES)
def test_one_save_is_one_reload(app, save, way, poll):
    helper = app.write(FILE, "VALUE = 1\n")
    runner(app, way=way, poll=poll)(BODY)
    save(helper, "VALUE = 2")
    assert restarted(app, FILE) == "ready 2"
    nothing_else(app)


# Sessions


class Editor(NamedTuple):
    """How to start it, which keys do what, and what lies beside a file being edited."""

    command: tuple[str, ...]
    edit: str  # replaces the line in which the cursor is
    save: str
    leave: str
    beside: tuple[str, ...] = ()
    left: str = "helper.py"  # once it has ended


def vim(backupcopy):
    # It makes no backups of files in /tmp unless told to.
    options = f"backupskip= backup backupdir=. backupcopy={backupcopy}"
    return Editor(
        command=(
            *("vim", "-u", "NONE", "-i", "NONE", "-N", "--cmd"),
            f"set {options} directory=. undofile undodir=.",
        ),
        edit=":%s/.*/{}/\r:preserve\r",
        save=":w\r",
        leave=":q\r",
        beside=(".helper.py.swp",),
        left="helper.py~",
    )


def nano(*options, **files):
    return Editor(
        command=("nano", "--ignorercfiles", *options),
        edit="\v{}",
        save="\x13",
        leave="\x18",
        **files,
    )


def emacs(*settings):
    always = "(setq backup-enable-predicate (lambda (name) t))"  # as above
    return Editor(
        command=("emacs", "-nw", "-Q", "--eval", always, *settings),
        edit="\x01\v{}\x1bxdo-auto-save\r",
        save="\x18\x13",
        leave="\x18\x03",
        beside=(".#helper.py", "#helper.py#"),
        left="helper.py~",
    )


EDITORS = {
    "vim": vim("auto"),
    "vim backupcopy=yes": vim("yes"),
    "vim backupcopy=no": vim("no"),
    "emacs": emacs(),
    "emacs, copying": emacs("--eval", "(setq backup-by-copying t)"),
    "nano": nano(),
    "nano with backup and lock": nano("-B", "-G", beside=(".helper.py.swp",), left="helper.py~"),
}


@contextlib.contextmanager
def opened(editor, path):
    """Run *editor* on a terminal, and yield that once it shows the file; then leave it."""
    pexpect = pytest.importorskip("pexpect")
    name, *options = editor.command
    terminal = pexpect.spawn(
        installed(name),
        [*options, str(path)],
        cwd=str(path.parent),
        env={**os.environ, "TERM": "xterm", "HOME": str(path.parents[1])},
        encoding="utf-8",
        timeout=DEADLINE,
    )
    try:
        terminal.expect_exact("VALUE")
        yield terminal
        terminal.send(editor.leave)
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0


@WAYS
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("editor", EDITORS.values(), ids=EDITORS)
def test_each_save_of_a_session_is_one_reload(app, editor, way):
    helper = app.write(FILE, "VALUE = 1\n")
    beside = [helper.with_name(name) for name in editor.beside]
    runner(app, way=way)(BODY)
    with opened(editor, helper) as terminal:
        for value in (2, 3):
            terminal.send(editor.edit.format(f"VALUE = {value}"))
            until(lambda: all(map(os.path.lexists, beside)), f"{beside} are there")
            nothing_else(app)
            terminal.send(editor.save)
            assert restarted(app, FILE) == f"ready {value}"
    assert not any(map(os.path.lexists, beside))
    assert helper.with_name(editor.left).exists()
    nothing_else(app)


# A formatter on save


@WAYS
def test_what_the_formatter_makes_of_a_save_is_run_in_the_end(app, way):
    """It comes after the restart for the save, before it, or while it is under way."""
    ruff = installed("ruff")
    helper = app.write("helper.py", "")
    runner(app, way=way)("import helper", "vars(helper).get('VALUE')")
    restarts = 0
    for number, pause in enumerate((0, 0.01, 0.02, 0.05, 0.1, 0.2)):
        save = app.write if number % 2 else app.write_in_place
        save("helper.py", f"import sys;VALUE={number},sys._getframe().f_lineno")
        time.sleep(pause)
        subprocess.run([ruff, "format", "--quiet", "--isolated", helper], check=True)
        app.line(f"ready ({number}, 3)")
        assert app.count("restarting server") in (restarts + 1, restarts + 2)
        restarts = app.count("restarting server")
    app.write("cookie.py", "# not changed yet")
    app.line("cookie.py")  # and the helper, if it was formatted just before it was read
    up_again(app)
    nothing_else(app)
