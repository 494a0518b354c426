"""The command: how it splits its command line, how it starts, and how it ends without a program."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import evreload
from evreload._settings import OPTIONS, SWITCH
from evreload._supervisor.cli import FirstProcess, split_arguments
from support.command_line import parse
from support.processes import is_alive
from support.waiting import until

# Splitting the command line


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["app.py"], ["app.py"]),
        (["app.py", "a", "--b", "-m", "c"], ["app.py", "a", "--b", "-m", "c"]),
        (["app.py", "-v", "--version", "--help"], ["app.py", "-v", "--version", "--help"]),
        (["app.py", "--", "-v"], ["app.py", "--", "-v"]),
        (["--", "app.py", "-v"], ["app.py", "-v"]),
        (["-m", "mod"], ["-m", "mod"]),
        (["-m", "mod", "-x", "--poll", "-m", "x"], ["-m", "mod", "-x", "--poll", "-m", "x"]),
        (["-m", "mod", "--", "-x"], ["-m", "mod", "--", "-x"]),
        (["-mmod", "-x", "y"], ["-m", "mod", "-x", "y"]),
        (["-w", ".", "-mmod", "-q"], ["-m", "mod", "-q"]),
        (["--poll", "app.py", "--debounce", "x"], ["app.py", "--debounce", "x"]),
        (["-i", "mist", "app.py", "-mx"], ["app.py", "-mx"]),
        (["--stop-timeout", "3", "-m", "mod", "-3"], ["-m", "mod", "-3"]),
        (["--", "-m", "mod", "-v"], ["-m", "mod", "-v"]),
        (["--", "--odd.py", "-v"], ["./--odd.py", "-v"]),
        (["--", "-x.py"], ["./-x.py"]),
        (["-ci", "x", "app.py", "-i"], ["app.py", "-i"]),
        (["-ix", "app.py"], ["app.py"]),
    ],
)
def test_what_follows_the_target_is_passed_verbatim(here, arguments, target):
    settings = parse(arguments)
    assert settings.target == target
    assert not settings.verbose
    assert not settings.quiet


def test_switches_may_stand_before_m(here):
    settings = parse(["-qcm", "mod", "-v"])
    assert (settings.quiet, settings.clear, settings.verbose) == (True, True, False)
    assert settings.target == ["-m", "mod", "-v"]
    assert parse(["-qmmod", "-v"]) == settings.replace(clear=False)


def flags_of(*, switches: bool) -> tuple[list[str], list[str]]:
    """Return the short flags, without the hyphen, and the long ones."""
    flags = [
        flag
        for option in OPTIONS.values()
        for flag in option.flags
        if (option.type == SWITCH) == switches
    ]
    short = [flag[1:] for flag in flags if not flag.startswith("--")]
    return short, [flag for flag in flags if flag.startswith("--")]


LETTERS, SWITCHES = flags_of(switches=True)
VALUE_LETTERS, VALUE_FLAGS = flags_of(switches=False)
LETTERS_TOGETHER = st.lists(st.sampled_from(LETTERS)).map("".join)


@st.composite
def one_option(draw: st.DrawFn) -> list[str]:
    """Return one option of the command, in one of the forms in which it may be written."""
    value = draw(st.text())
    letters = draw(LETTERS_TOGETHER)
    letter, flag = draw(st.sampled_from(VALUE_LETTERS)), draw(st.sampled_from(VALUE_FLAGS))
    forms = [
        [draw(st.sampled_from(SWITCHES))],
        [f"-{letters or LETTERS[0]}"],
        [flag, value],
        [f"{flag}={value}"],
        [f"-{letters}{letter}", value],
        [f"-{letters}{letter}{value or 'x'}"],
    ]
    return draw(st.sampled_from(forms))


@st.composite
def one_target(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    """Return a target as it is written, what of this is an option, and the target as it is run."""
    arguments = draw(st.lists(st.text() | one_option().map(lambda words: words[0])))
    name = draw(st.text(min_size=1))
    script = name if not name.startswith("-") else f"./{name}"
    letters = draw(LETTERS_TOGETHER)
    module = ["-m", name, *arguments]
    switches = [f"-{letters}"] if letters else []
    forms = [
        ([script, *arguments], [], [script, *arguments]),
        ([f"-{letters}m", name, *arguments], switches, module),
        ([f"-{letters}m{name}", *arguments], switches, module),
        (["--", "-m", name, *arguments], [], module),
        (["--", script, *arguments], [], [script, *arguments]),
        (["--", f"-x{name}", *arguments], [], [f"./-x{name}", *arguments]),
    ]
    return draw(st.sampled_from(forms))


@hypothesis_settings(deadline=None)
@given(st.lists(one_option()), one_target())
def test_any_command_line_is_split_before_its_target(options, target):
    written, switches, expected = target
    flags = [word for words in options for word in words]
    assert split_arguments([*flags, *written]) == ([*flags, *switches], expected)


# The command as a process


def command(*arguments, here, prefix=(sys.executable, "-m", "evreload")):
    return subprocess.run(
        [*prefix, *arguments], cwd=here, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [["nothing.py"], ["--check-time=abc", "app.py"], []])
def test_a_usage_error_is_status_2_and_the_program_does_not_run(here, arguments):
    (here / "app.py").write_text("open('started', 'w')")
    ran = command(*arguments, here=here)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("evreload: ")
    assert ran.stderr.count("\n") == 1
    assert not (here / "started").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no supervisor there")
def test_the_first_process_runs_nothing_before_its_release(here):
    (here / "app.py").write_text("open('started', 'w')")
    first = FirstProcess(["app.py"])
    until(lambda: select.select([first.pipes[0]], [], [], 0)[0], "the interpreter has started")
    first.end()
    assert not is_alive(first.pid)
    with pytest.raises(ChildProcessError):  # the command has reaped it
        os.waitpid(first.pid, 0)
    assert not (here / "started").exists()
    for pipe in first.pipes:
        os.close(pipe)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no supervisor there")
@pytest.mark.parametrize(
    ("arguments", "status"), [("nothing.py", 2), ("--check-time=abc app.py", 2), ("--help x", 0)]
)
def test_the_command_ends_the_first_process_if_it_does_not_run_the_program(here, arguments, status):
    (here / "app.py").touch()
    code = """if True:
        import evreload
        from evreload._supervisor.cli import FirstProcess

        def end(self):
            print("first", self.pid, flush=True)
            before(self)

        before, FirstProcess.end = FirstProcess.end, end
        evreload.main()
    """
    ran = command("-c", code, *arguments.split(), here=here, prefix=[sys.executable])
    assert ran.returncode == status
    word, pid = ran.stdout.splitlines()[-1].split()
    assert word == "first"
    assert not is_alive(int(pid))


def test_a_first_process_that_has_ended_before_its_release_is_reported(app):
    app.write(
        "site/sitecustomize.py", "import os, sys\nif 'runner.py' in str(sys.orig_argv): os._exit(3)"
    )
    app.write("app.py", "print('ready')")
    app.start("-m", "evreload", "app.py", PYTHONPATH=app.path("site"))
    app.line("program exited with status 3; waiting for a change")


def test_the_console_script_is_the_same_command(here):
    script = os.path.join(os.path.dirname(sys.executable), "evreload")
    if not os.path.exists(script):
        pytest.skip("evreload is not installed beside this Python")
    assert command("nothing.py", here=here, prefix=[script]).returncode == 2
    (here / "app.py").write_text("import sys; print(sys.argv)")
    ran = command("--until-success", "app.py", "-x", here=here, prefix=[script])
    assert (ran.returncode, ran.stdout) == (0, "['app.py', '-x']\n")


def test_a_reloader_of_the_programs_own_causes_a_warning(here):
    (here / "manage.py").write_text("")
    ran = command("--until-success", "manage.py", "runserver", here=here)
    assert ran.returncode == 0
    assert ran.stderr.startswith(
        "evreload: the program has a reloader of its own, and it is on: add --noreload\n"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nowhere/python", "the interpreter /nowhere/python is not there any more"),
        ("", "Python does not know its own path: start it by the path of its interpreter"),
    ],
)
def test_an_interpreter_that_is_not_known_gives_a_message_of_one_line(here, path, reason):
    (here / "app.py").write_text("")
    code = f"""if True:
        import os, posix, sys
        sys.executable = {path!r}
        os.readlink = posix.readlink = lambda path: "/opt/uwsgi"
        sys.argv = ["evreload", "app.py"]
        import evreload
        evreload.main()
    """
    ran = command("-c", code, here=here, prefix=[sys.executable])
    assert (ran.returncode, ran.stderr) == (2, f"evreload: cannot start the program: {reason}\n")


def test_the_command_does_not_import_modules_of_the_project(here):
    for name in ("queue", "watchdog", "tornado", "pathspec", "argparse"):
        (here / f"{name}.py").write_text("open('imported', 'w')")
    (here / "app.py").write_text("")
    ran = command("--until-success", "app.py", here=here)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert not (here / "imported").exists()


def test_version(here):
    assert command("--version", here=here).stdout == f"evreload {evreload.__version__}\n"


def test_help_fits_on_a_screen_and_shows_three_examples(here):
    ran = command("--help", here=here)
    assert ran.returncode == 0
    lines = ran.stdout.splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    assert sum("  python -m evreload " in line for line in lines) == 3


def test_without_a_supervisor_the_program_runs_in_the_process_of_the_command(app):
    app.write(
        "elsewhere/command.py",
        "import evreload; from evreload._common import spawn; spawn.CAN_SUPERVISE = False; "
        "evreload.main()",
    )
    app.write("config.py")  # it lies in the working directory, as under the supervisor
    app.write("sub/app.py", "import helper, config; print('ready', helper.VALUE, flush=True)")
    app.write("sub/helper.py", "VALUE = 1")
    app.start("elsewhere/command.py", "sub/app.py")
    app.line("ready 1")
    app.write("sub/helper.py", "VALUE = 2")
    app.line("ready 2")
    app.write("sub/helper.py", "VALUE = 3 / 0")
    app.line("ZeroDivisionError")
    app.write("sub/helper.py", "VALUE = 4")
    app.line("ready 4")
