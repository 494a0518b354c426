"""The log that the command prints."""

from __future__ import annotations

import logging
import os

import pytest

from evreload._common import log, unpatched


@pytest.fixture
def logger(monkeypatch):
    """Return the logger, and restore it afterwards."""
    logger = logging.getLogger("evreload")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logger.level)
    yield logger
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({}, ["info", "warning", "error"]),
        ({"quiet": True}, ["warning", "error"]),
        ({"verbose": True}, ["debug", "info", "warning", "error"]),
        ({"quiet": True, "verbose": True}, ["warning", "error"]),
    ],
)
def test_the_options_decide_which_levels_are_printed(logger, capsys, options, printed):
    log.configure(**{"quiet": False, "verbose": False, **options})
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)(level)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"evreload: {level}" for level in printed]
    assert captured.out == ""


def test_paths_are_shortened_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert log.shorten(str(tmp_path / "a" / "b.py")) == os.path.join("a", "b.py")
    assert log.shorten(f"{tmp_path}x/b.py") == f"{tmp_path}x/b.py"
    monkeypatch.setattr(unpatched.os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    assert log.shorten("/a/b.py") == "/a/b.py"


def test_three_paths_are_named_and_the_others_counted():
    assert log.name_some(["b"]) == "b"
    assert log.name_some(["c", "a", "b"]) == "a, b, c"
    assert log.name_some(map(str, range(5))) == "0, 1, 2 and 2 more"
