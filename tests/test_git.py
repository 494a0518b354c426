"""Whether git is at work."""

from __future__ import annotations

import pytest
from conftest import git

from evreload import _git


@pytest.fixture(autouse=True)
def nothing_remembered():
    _git._repository.cache_clear()


def test_a_lock_tells(tmp_path):
    path = str(tmp_path / "a" / "b" / "helper.py")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert not _git.at_work([path])
    lock = tmp_path / ".git" / "index.lock"
    lock.touch()
    assert _git.at_work([path])
    assert _git.at_work(["/nowhere/at/all", path])
    assert not _git.at_work(["/nowhere/at/all"])
    assert not _git.at_work([])
    lock.unlink()
    assert not _git.at_work([path])


def test_a_worktree_has_a_lock_of_its_own(tmp_path):
    (tmp_path / "main").mkdir()
    git(tmp_path / "main", "init")
    git(tmp_path / "main", "commit", "--allow-empty", "-m", "first")
    git(tmp_path / "main", "worktree", "add", "../other")
    path = str(tmp_path / "other" / "helper.py")
    (tmp_path / "main" / ".git" / "index.lock").touch()
    assert not _git.at_work([path])
    (tmp_path / "main" / ".git" / "worktrees" / "other" / "index.lock").touch()
    assert _git.at_work([path])


def test_a_submodule_points_to_its_repository_relatively(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".git").write_text("gitdir: ../.git/modules/sub\n")
    modules = tmp_path / ".git" / "modules" / "sub"
    modules.mkdir(parents=True)
    path = str(tmp_path / "sub" / "helper.py")
    assert not _git.at_work([path])
    (modules / "index.lock").touch()
    assert _git.at_work([path])
