"""What a watched directory leaves out because git does."""

from __future__ import annotations

import logging
import warnings

import pytest

from evreload._watch.gitignore import Gitignore


def test_what_git_ignores_is_left_out(tmp_path):
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n!keep.log\n")
    (tmp_path / "build").mkdir()
    rule = Gitignore().rule
    file = str(tmp_path / ".gitignore")
    assert rule(str(tmp_path / "sub" / "app.log")) == file
    assert rule(str(tmp_path / "build")) == file
    assert rule(str(tmp_path / "build" / "page.html")) == file
    assert rule(str(tmp_path / "keep.log")) is None
    assert rule(str(tmp_path / "app.py")) is None


@pytest.mark.parametrize("line", ["foo\\", "\\", "!", "!\\", "[z-a]x", "foo\\ ", "[[:alpha:]]x"])
def test_a_malformed_line_matches_nothing_and_the_others_count(tmp_path, caplog, line):
    (tmp_path / ".gitignore").write_text(f"*.log\n{line}\n!keep.log\n")
    caplog.set_level(logging.DEBUG, "evreload")
    rule = Gitignore().rule
    with warnings.catch_warnings(action="error"):
        assert rule(str(tmp_path / "app.log")) == str(tmp_path / ".gitignore")
    for name in ("keep.log", "foo", "zx"):
        assert rule(str(tmp_path / name)) is None
    told = {record.message for record in caplog.records}
    assert told <= {f"{tmp_path}/.gitignore:2: malformed, matches nothing: {line!r}"}
    assert told or line.startswith("[")


def test_what_lies_above_the_work_tree_has_no_say(tmp_path):
    (tmp_path / ".gitignore").write_text("*.py\n")
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    assert Gitignore().rule(str(tmp_path / "tree" / "app.py")) is None


def test_a_folder_that_tells_git_to_ignore_all_in_it_is_left_out_itself(tmp_path):
    (tmp_path / ".pytest_cache").mkdir()
    (tmp_path / ".pytest_cache" / ".gitignore").write_text("*\n")
    assert Gitignore().rule(str(tmp_path / ".pytest_cache")) == str(
        tmp_path / ".pytest_cache" / ".gitignore"
    )
