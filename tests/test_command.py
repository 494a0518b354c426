"""The command line and pyproject.toml: what is understood, and what is refused, and how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipapp

import pytest

import evreload
from evreload._supervisor.cli import parse
from evreload._supervisor.target import BadInput, check, rival


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Go to an empty directory, with no pyproject.toml above it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    return tmp_path


def project(here, *lines):
    (here / "pyproject.toml").write_text("\n".join(["[tool.evreload]", *lines]))


# Targets


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
    options = parse(arguments)
    assert options.target == target
    assert not options.verbose
    assert not options.quiet


def test_flags_may_stand_before_m(here):
    options = parse(["-qcm", "mod", "-v"])
    assert (options.quiet, options.clear, options.verbose) == (True, True, False)
    assert options.target == ["-m", "mod", "-v"]
    assert parse(["-qmmod", "-v"]) == options._replace(clear=False)


# Options


def test_each_option_is_understood(here):
    (here / "conf").mkdir()
    (here / "a.yaml").touch()
    arguments = [
        *("-w", "conf", "--watch", "./a.yaml", "-i", "*.log", "--ignore", "*.tmp"),
        *("--no-gitignore", "--until-success", "--poll", "--check-time", "250", "--debounce", "0"),
        *("--stop-signal", "INT", "--stop-timeout", "0.5", "-c", "-q", "-v", "app.py"),
    ]
    options = parse(arguments)
    assert options.watch == (str(here / "conf"), str(here / "a.yaml"))
    assert options.ignore == ("*.log", "*.tmp")
    assert not options.gitignore
    assert options.until_success
    assert options.poll
    assert (options.check_time, options.debounce) == (0.25, 0)
    assert options.stop_signal == signal.SIGINT
    assert options.stop_timeout == 0.5
    assert options.clear
    assert options.quiet
    assert options.verbose


@pytest.mark.parametrize("name", ["sigint", "INT", "SIGINT", "int"])
def test_a_signal_has_several_names(here, name):
    assert parse(["--stop-signal", name, "app.py"]).stop_signal == signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a script to run, or a module with -m"),
        (["-q"], "give a script to run, or a module with -m"),
        (["-m"], "give a script to run, or a module with -m"),
        (["--"], "give a script to run, or a module with -m"),
        (["--check-time=abc", "app.py"], "--check-time must be a number of milliseconds"),
        (["--check-time", "0", "app.py"], "at least 1, not 0.0"),
        (["--check-time", "inf", "app.py"], "at least 1, not inf"),
        (["--debounce", "-1", "app.py"], "--debounce"),
        (["--debounce", "nan", "app.py"], "at least 0, not nan"),
        (["--stop-timeout", "soon", "app.py"], "--stop-timeout must be a number of seconds"),
        (["--stop-signal", "SIGNOPE", "app.py"], "--stop-signal must be the name of a signal"),
        (["--stop-signal", "_DFL", "app.py"], "--stop-signal must be the name of a signal"),
        (["--stop-signal", "9", "app.py"], "--stop-signal must be the name of a signal"),
        (["--watch"], "expected one argument"),
        (["-w", "nowhere", "app.py"], "nowhere: there is no such file or directory"),
        (["-w", "", "app.py"], "cannot watch a path without a name"),
        (["--unknown", "app.py"], "--unknown"),
        (["--wat", "app.py", "app.py"], "--wat"),
    ],
)
def test_a_bad_option_is_one_sentence(here, arguments, told):
    with pytest.raises(BadInput) as caught:
        parse(arguments)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_up_from_behind_a_link_is_what_the_system_takes_it_for(here, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "inner").mkdir()
    (elsewhere / "x").touch()
    (here / "link").symlink_to(elsewhere / "inner")
    assert parse(["-w", "link/../x", "app.py"]).watch == (os.path.realpath(elsewhere / "x"),)


def test_an_unreadable_path_to_watch_is_one_sentence(here, monkeypatch):
    (here / "secret").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root all is readable
    with pytest.raises(BadInput, match=r"cannot watch .*secret: it may not be read"):
        parse(["-w", "secret", "app.py"])


# pyproject.toml


def test_the_project_may_say_the_same(here):
    (here / "conf").mkdir()
    project(
        here,
        'watch = ["conf"]',
        'ignore = ["*.log"]',
        "gitignore = false",
        "until-success = true",
        "poll = true",
        "check-time = 250",
        "debounce = 5.5",
        'stop-signal = "INT"',
        "stop-timeout = 0",
        "clear = true",
        "quiet = true",
        "verbose = true",
    )
    by_line = ["--no-gitignore", "--until-success", "--poll", "--check-time", "250"]
    by_line += ["-w", "conf", "-i", "*.log", "--debounce", "5.5", "--stop-signal", "INT"]
    by_line += ["--stop-timeout", "0", "-cqv", "app.py"]
    by_project = parse(["app.py"])
    (here / "pyproject.toml").unlink()
    assert by_project == parse(by_line)


def test_every_option_but_the_target_has_a_key(here):
    options = parse(["app.py"])
    for name, value in options._asdict().items():
        if isinstance(value, bool):
            project(here, f"{name.replace('_', '-')} = {str(not value).lower()}")
            assert getattr(parse(["app.py"]), name) is not value
    project(here, 'target = ["x"]')
    with pytest.raises(BadInput, match="unknown key 'target'"):
        parse(["app.py"])


def test_the_command_line_wins(here):
    project(here, "check-time = 250", "debounce = 5", 'ignore = ["*.log"]')
    options = parse(["--check-time", "100", "-i", "*.tmp", "app.py"])
    assert (options.check_time, options.debounce) == (0.1, 0.005)
    assert options.ignore == ("*.tmp",)


def test_what_the_command_line_replaces_need_not_be_right(here):
    project(here, 'watch = ["nowhere"]', 'ignore = ["x"]')
    options = parse(["-w", ".", "app.py"])
    assert (options.watch, options.ignore) == ((str(here),), ("x",))


def test_the_nearest_project_counts_and_its_paths_are_relative_to_it(here, monkeypatch):
    (here / "conf").mkdir()
    project(here, 'watch = ["conf"]')
    (here / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(here / "deep" / "er")
    assert parse(["app.py"]).watch == (str(here / "conf"),)
    (here / "deep" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert parse(["app.py"]).watch == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.evreload]\nchek-time = 5", "unknown key 'chek-time' under [tool.evreload] in "),
        ("[tool.evreload]\ncheck-time = 'x'", "check-time under [tool.evreload] in "),
        ("[tool.evreload]\ncheck-time = true", "must be a number of milliseconds"),
        ("[tool.evreload]\ndebounce = '5'", "must be a number of milliseconds, not '5'"),
        ("[tool.evreload]\npoll = 1", "poll under [tool.evreload] in "),
        ("[tool.evreload]\nwatch = '.'", "must be a list of strings"),
        ("[tool.evreload]\nignore = [1]", "must be a list of strings"),
        (
            "[tool.evreload]\nwatch = ['nowhere']",
            "nowhere: there is no such file or directory (watch under [tool",
        ),
        ("[tool.evreload]\nstop-signal = 15", "must be the name of a signal"),
        ("[tool.evreload", "cannot read "),
        ("[tool]\nevreload = 3", "'evreload' must be a table under [tool]"),
        ("tool = 3", "'tool' must be a table"),
    ],
)
def test_a_bad_project_is_one_sentence(here, text, told):
    (here / "pyproject.toml").write_text(text)
    with pytest.raises(BadInput) as caught:
        parse(["app.py"])
    assert told in str(caught.value)
    assert str(here / "pyproject.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_project_in_another_encoding_is_one_sentence(here):
    (here / "pyproject.toml").write_bytes(b"name = '\xe4'")
    with pytest.raises(BadInput, match="cannot read"):
        parse(["app.py"])


# Whether there is anything to run


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nothing.py", "there is no script 'nothing.py'"),
        ("empty", "the directory 'empty' has no __main__.py"),
        ("-m nothing_there", "there is no module 'nothing_there' to run"),
        ("-m package.nothing", "there is no module 'package.nothing' to run"),
        ("-m module.sub", "there is no module 'module.sub' to run: 'module' is not a package"),
        ("-m package", "the package 'package' has no __main__.py"),
    ],
)
def test_a_target_that_is_not_there_is_one_sentence(here, target, told):
    (here / "empty").mkdir()
    (here / "package").mkdir()
    (here / "package" / "__init__.py").write_text("raise SystemExit('imported')")
    (here / "module.py").touch()
    with pytest.raises(BadInput, match=told):
        check(target.split())


def test_a_target_that_is_there_is_not_run_whatever_is_in_it(here):
    broken = "raise SystemExit('imported'); ("
    (here / "app.py").write_text(broken)
    (here / "package").mkdir()
    (here / "package" / "__init__.py").write_text(broken)
    (here / "package" / "__main__.py").write_text(broken)
    (here / "space").mkdir()
    (here / "space" / "sub.py").write_text(broken)
    zipapp.create_archive("package", "app.pyz")
    for target in ("app.py", "app.pyz", "package", "-m package", "-m app", "-m space.sub"):
        check(target.split())
    check(["-m", "json.tool"])
    check(["-m", "sys"])


def test_where_a_package_looks_is_its_own_affair(here):
    (here / "package").mkdir()
    extends = "import pkgutil; __path__ = pkgutil.extend_path(__path__, __name__)"
    (here / "package" / "__init__.py").write_text(extends)
    check(["-m", "package.elsewhere"])


def test_a_script_that_may_not_be_read_is_one_sentence(here, monkeypatch):
    (here / "app.py").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BadInput, match="may not be read"):
        check(["app.py"])


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("-m uvicorn app:app --reload", "leave out --reload"),
        ("/venv/bin/gunicorn --reload app:app", "leave out --reload"),
        ("-m flask --app app run --debug", "add --no-reload"),
        ("-m quart --app app run --debug", "add --no-reload"),
        ("/venv/bin/fastapi dev app.py", "add --no-reload"),
        ("manage.py runserver 8000", "add --noreload"),
        ("-m django runserver", "add --noreload"),
        ("-m uvicorn app:app", None),
        ("-m flask --app app run --debug --no-reload", None),
        ("-m flask --app app run", None),
        ("-m fastapi run app.py", None),
        ("manage.py runserver --noreload", None),
        ("app.py --reload", None),
        ("-m pytest -k runserver", None),
        ("manage.py test runserver", None),
        ("-m fastapi run dev", None),
        ("-m flask --app run --debug routes", None),
        ("-m gunicorn app:app -- --reload", None),
        ("app.py", None),
    ],
)
def test_a_reloader_of_the_programs_own_is_told_of(target, remedy):
    assert rival(target.split()) == remedy


# The command itself


def command(*arguments, here, prefix=(sys.executable, "-m", "evreload")):
    return subprocess.run(
        [*prefix, *arguments], cwd=here, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [["nothing.py"], ["--check-time=abc", "app.py"], []])
def test_bad_input_is_status_2_and_nothing_is_started(here, arguments):
    (here / "app.py").write_text("open('started', 'w')")
    ran = command(*arguments, here=here)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("evreload: ")
    assert ran.stderr.count("\n") == 1
    assert not (here / "started").exists()


def test_the_console_script_is_the_same_command(here):
    script = os.path.join(os.path.dirname(sys.executable), "evreload")
    if not os.path.exists(script):
        pytest.skip("evreload is not installed beside this Python")
    assert command("nothing.py", here=here, prefix=[script]).returncode == 2
    (here / "app.py").write_text("import sys; print(sys.argv)")
    ran = command("--until-success", "app.py", "-x", here=here, prefix=[script])
    assert (ran.returncode, ran.stdout) == (0, "['app.py', '-x']\n")


def test_a_reloader_of_the_programs_own_is_warned_of(here):
    (here / "manage.py").write_text("")
    ran = command("--until-success", "manage.py", "runserver", here=here)
    assert ran.returncode == 0
    assert ran.stderr.startswith(
        "evreload: the program has a reloader of its own, and it is on: add --noreload\n"
    )


def test_an_interpreter_that_cannot_be_started_is_one_sentence(here):
    (here / "app.py").write_text("")
    code = f"""if True:
        import sys
        sys.executable = {str(here / "nowhere")!r}
        sys.argv = ["evreload", "app.py"]
        import evreload
        evreload.main()
    """
    ran = command("-c", code, here=here, prefix=[sys.executable])
    assert ran.returncode == 2
    assert ran.stderr.startswith("evreload: cannot start the program: ")
    assert ran.stderr.count("\n") == 1


def test_modules_of_the_project_do_not_take_the_place_of_ours(here):
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


def test_where_there_is_no_supervisor_the_program_runs_in_this_process(app):
    app.write(
        "elsewhere/command.py",
        "import evreload._process; evreload._common.process.CAN_SUPERVISE = False; evreload.main()",
    )
    app.write("config.py")  # found where the command is given, as under the supervisor
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
