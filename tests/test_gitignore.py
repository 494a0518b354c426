"""What a watched directory leaves out because git does."""

from __future__ import annotations

from evreload._watching.gitignore import Gitignore


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
