"""The options of the command line and pyproject.toml: what is accepted, and what is an error."""

from __future__ import annotations

import os
import signal

import pytest

from evreload._supervisor.target import UsageError
from support.command_line import parse


def write_project(here, *lines):
    (here / "pyproject.toml").write_text("\n".join(["[tool.evreload]", *lines]))


# The command line


def test_each_option_is_accepted(here):
    (here / "conf").mkdir()
    (here / "a.yaml").touch()
    arguments = [
        *("-w", "conf", "--watch", "./a.yaml", "-i", "*.log", "--ignore", "*.tmp"),
        *("--no-gitignore", "--until-success", "--poll", "--check-time", "250", "--debounce", "0"),
        *("--stop-signal", "INT", "--stop-timeout", "0.5", "--full-exit", "-c", "-q", "-v"),
        "app.py",
    ]
    settings = parse(arguments)
    assert settings.watch == (str(here / "conf"), str(here / "a.yaml"))
    assert settings.ignore == ("*.log", "*.tmp")
    assert not settings.gitignore
    assert settings.until_success
    assert settings.poll
    assert (settings.check_time, settings.debounce) == (0.25, 0)
    assert settings.stop_signal == signal.SIGINT
    assert settings.stop_timeout == 0.5
    assert settings.clear
    assert settings.quiet
    assert settings.verbose
    assert settings.full_exit


@pytest.mark.parametrize("name", ["sigint", "INT", "SIGINT", "int"])
def test_a_signal_has_several_names(here, name):
    assert parse(["--stop-signal", name, "app.py"]).stop_signal == signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_a_wrong_option_gives_a_message_of_one_line(here, arguments, message):
    with pytest.raises(UsageError) as caught:
        parse(arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_dots_after_a_symbolic_link_lead_up_from_its_destination(here, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "inner").mkdir()
    (elsewhere / "x").touch()
    (here / "link").symlink_to(elsewhere / "inner")
    assert parse(["-w", "link/../x", "app.py"]).watch == (os.path.realpath(elsewhere / "x"),)


def test_an_unreadable_path_to_watch_is_an_error(here, monkeypatch):
    (here / "secret").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # for root all is readable
    with pytest.raises(UsageError, match=r"cannot watch .*secret: it may not be read"):
        parse(["-w", "secret", "app.py"])


# pyproject.toml


def test_the_project_file_gives_the_same_settings_as_the_command_line(here):
    (here / "conf").mkdir()
    write_project(
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


def test_every_setting_but_the_target_has_a_key(here):
    settings = parse(["app.py"])
    for name, value in settings.as_dict().items():
        if isinstance(value, bool):
            write_project(here, f"{name.replace('_', '-')} = {str(not value).lower()}")
            assert getattr(parse(["app.py"]), name) is not value
    write_project(here, 'target = ["x"]')
    with pytest.raises(UsageError, match="unknown key 'target'"):
        parse(["app.py"])


def test_the_command_line_overrides_the_project_file(here):
    write_project(here, "check-time = 250", "debounce = 5", 'ignore = ["*.log"]')
    settings = parse(["--check-time", "100", "-i", "*.tmp", "app.py"])
    assert (settings.check_time, settings.debounce) == (0.1, 0.005)
    assert settings.ignore == ("*.tmp",)


def test_a_value_that_the_command_line_overrides_need_not_be_right(here):
    write_project(here, 'watch = ["nowhere"]', 'ignore = ["x"]')
    settings = parse(["-w", ".", "app.py"])
    assert (settings.watch, settings.ignore) == ((str(here),), ("x",))


def test_the_nearest_project_file_is_used_and_its_paths_are_relative_to_it(here, monkeypatch):
    (here / "conf").mkdir()
    write_project(here, 'watch = ["conf"]')
    (here / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(here / "deep" / "er")
    assert parse(["app.py"]).watch == (str(here / "conf"),)
    (here / "deep" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert parse(["app.py"]).watch == ()


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_a_wrong_project_file_gives_a_message_of_one_line(here, text, message):
    (here / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        parse(["app.py"])
    assert message in str(caught.value)
    assert str(here / "pyproject.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_project_file_in_another_encoding_is_an_error(here):
    (here / "pyproject.toml").write_bytes(b"name = '\xe4'")
    with pytest.raises(UsageError, match="cannot read"):
        parse(["app.py"])


def test_a_project_file_may_begin_with_a_byte_order_mark(here):
    text = "[tool.evreload]\r\nignore = ['é.log']\r\n"
    (here / "pyproject.toml").write_bytes(text.encode("utf-8-sig"))
    assert parse(["app.py"]).ignore == ("é.log",)
