"""Each save of an editor causes one reload, and the other files of the editor cause none.

The saves are in a watched directory, where the other files could count as changes. Real editors
run where they are installed, the interactive ones on a pseudo-terminal.
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

from support.deadline import DEADLINE
from support.files import replace
from support.programs import (
    COMMAND,
    MODES,
    START,
    assert_no_other_change,
    await_next_run,
    await_restart,
    runner,
)
from support.waiting import until

FILE = "pkg/helper.py"
BODY = "from pkg import helper; evreload.watch('pkg')"


def installed(name):
    """Return the path of a program, or skip the test."""
    if not (program := shutil.which(name)):
        pytest.skip(f"{name} is not installed")
    return program


# Single saves


def command(*words, stdin=None):
    """Return a function that saves by a command, in which it replaces PATH and TEXT."""

    def save(path, text):
        def filled_in(word):
            return word.replace("PATH", str(path)).replace("TEXT", text)

        arguments = [installed(words[0]), *map(filled_in, words[1:])]
        text_for_stdin = filled_in(stdin) if stdin else ""
        subprocess.run(arguments, input=text_for_stdin, text=True, check=True, capture_output=True)

    return save


def by_copying(*words):
    """Return a function that saves by copying a file with an older modification time."""

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
    """Save as QSaveFile of Qt does."""
    new = path.with_name(f"{path.name}.QbLtpN")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def by_vs_code(path, text):
    """Truncate the file, then write and sync."""
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fdatasync(file.fileno())


SAVES = {
    "ed": command("ed", "-s", "PATH", stdin="%s/.*/TEXT/\nw\nq\n"),
    "sed -i": command("sed", "-i", "s/.*/TEXT/", "PATH"),
    "perl -pi": command("perl", "-pi", "-e", "s/.*/TEXT/", "PATH"),
    "vim -es": command("vim", "-u", "NONE", "-N", "-es", "-c", "%s/.*/TEXT/", "-c", "wq", "PATH"),
    "tee": command("tee", "PATH", stdin="TEXT\n"),
    "cp": by_copying("cp"),
    "cp -p": by_copying("cp", "-p"),
    "install": by_copying("install"),
    "rsync": by_copying("rsync", "-a"),
    "rsync --inplace": by_copying("rsync", "-a", "--inplace"),
    "VS Code": by_vs_code,
    "PyCharm": by_pycharm,
    "GNOME": by_gnome,
    "KDE": by_kde,
    "Sublime Text": by_sublime,
    "a rename": replace,
}


@pytest.mark.parametrize(
    ("mode", "poll"),
    [(START, False), (START, True), (COMMAND, False)],
    ids=["start", "polling", "command"],
)
@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_one_save_is_one_reload(app, save, mode, poll):
    helper = app.write(FILE, "VALUE = 1\n")
    runner(app, mode=mode, poll=poll)(BODY)
    save(helper, "VALUE = 2")
    assert await_restart(app, FILE) == "ready 2"
    assert_no_other_change(app)


# Interactive editors


class Editor(NamedTuple):
    """How to start an editor, its keys, and the files that it creates."""

    command: tuple[str, ...]
    edit: str  # replaces the line of the cursor
    save: str
    leave: str
    beside: tuple[str, ...] = ()  # during the session
    left: str = "helper.py"  # after the session


def vim(backupcopy):
    # By default, vim makes no backups of files in /tmp.
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
    always = "(setq backup-enable-predicate (lambda (name) t))"  # in /tmp, too
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
    """Run *editor*, yield its terminal once that shows the file, then leave the editor."""
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


@MODES
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("editor", EDITORS.values(), ids=EDITORS)
def test_each_save_of_an_interactive_editor_is_one_reload(app, editor, mode):
    helper = app.write(FILE, "VALUE = 1\n")
    beside = [helper.with_name(name) for name in editor.beside]
    runner(app, mode=mode)(BODY)
    with opened(editor, helper) as terminal:
        for value in (2, 3):
            terminal.send(editor.edit.format(f"VALUE = {value}"))
            until(lambda: all(map(os.path.lexists, beside)), f"{beside} exist")
            assert_no_other_change(app)
            terminal.send(editor.save)
            assert await_restart(app, FILE) == f"ready {value}"
    assert not any(map(os.path.lexists, beside))
    assert helper.with_name(editor.left).exists()
    assert_no_other_change(app)


# A formatter on save


@MODES
def test_after_a_save_and_its_formatting_the_formatted_file_runs(app, mode):
    """The formatter writes before, during or after the restart for the save."""
    ruff = installed("ruff")
    helper = app.write("helper.py", "")
    runner(app, mode=mode)("import helper", "vars(helper).get('VALUE')")
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
    app.line("cookie.py")  # names helper.py, too, if that was formatted just before its import
    await_next_run(app)
    assert_no_other_change(app)
