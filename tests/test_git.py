"""Whether git is at work, and what its work leads to."""

from __future__ import annotations

import os
import subprocess

import pytest
from conftest import (
    COMMAND,
    START,
    WAYS,
    App,
    git,
    nothing_else,
    restarted,
    runner,
    up_again,
    write_modules,
)

from evreload._watch.git_lock import _repository, at_work


@pytest.fixture(autouse=True)
def nothing_remembered():
    _repository.cache_clear()


def test_a_lock_tells(tmp_path):
    path = str(tmp_path / "a" / "b" / "helper.py")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert not at_work([path])
    lock = tmp_path / ".git" / "index.lock"
    lock.touch()
    assert at_work([path])
    assert at_work(["/nowhere/at/all", path])
    assert not at_work(["/nowhere/at/all"])
    assert not at_work([])
    os.utime(lock, (0, 0))
    assert not at_work([path])
    os.utime(lock)
    assert at_work([path])
    lock.unlink()
    assert not at_work([path])


def test_a_worktree_has_a_lock_of_its_own(tmp_path):
    (tmp_path / "main").mkdir()
    git(tmp_path / "main", "init")
    git(tmp_path / "main", "commit", "--allow-empty", "-m", "first")
    git(tmp_path / "main", "worktree", "add", "../other")
    path = str(tmp_path / "other" / "helper.py")
    (tmp_path / "main" / ".git" / "index.lock").touch()
    assert not at_work([path])
    (tmp_path / "main" / ".git" / "worktrees" / "other" / "index.lock").touch()
    assert at_work([path])


def test_a_submodule_points_to_its_repository_relatively(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".git").write_text("gitdir: ../.git/modules/sub\n")
    modules = tmp_path / ".git" / "modules" / "sub"
    modules.mkdir(parents=True)
    path = str(tmp_path / "sub" / "helper.py")
    assert not at_work([path])
    (modules / "index.lock").touch()
    assert at_work([path])


# Git itself, on a repository of which a part is imported

COUNT, IMPORTED = 2_000, 300


class Repository:
    """2,000 modules under git, a program that imports some of them, and what it should say."""

    def __init__(self, app, origin):
        self.app = app
        self.git("clone", "-q", "--shared", origin, ".")
        app.write(".git/info/exclude", "app.py\ncookie.py\n__pycache__/\n")
        modules = app.directory.glob("package*/module*.py")
        self.modules = sorted(modules, key=lambda path: int(path.stem.removeprefix("module")))

    def git(self, *arguments):
        return git(self.app.directory, *arguments)

    def edit(self, value, first=0, end=COUNT, step=1):
        for path in self.modules[first:end:step]:
            path.write_text(f"VALUE = {value}\n")

    def commit(self, value, *part):
        self.edit(value, *part)
        self.git("commit", "-qam", f"{value}")

    @property
    def ready(self):
        """What the program says of what is on the disk."""
        return f"ready {sum(int(path.read_text().split()[2]) for path in self.modules[:IMPORTED])}"

    def run(self, way, body="", debounce=5):
        way = way and (*way, "--debounce", str(debounce))
        start = runner(self.app, way=way)
        start(f"import everything\n{body}", "everything.VALUE", arguments=f", debounce={debounce}")

    def reloads_once(self, *arguments):
        self.git(*arguments)
        self.app.line("restarting server")
        assert up_again(self.app) == self.ready, arguments

    def serves_what_is_there(self):
        """Wait for it, though it may have been told already."""
        self.app.write("cookie.py", "# changed")
        self.app.line("cookie.py")
        assert self.app.line("ready ") == self.ready

    def has_reloaded(self, times):
        nothing_else(self.app)
        assert self.app.count("restarting server") == times + 1, self.app.output


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    app = App(tmp_path_factory.mktemp("origin"))
    write_modules(app, COUNT, imported=IMPORTED)
    git(app.directory, "init", "-q", "-b", "main")
    git(app.directory, "add", ".")
    git(app.directory, "commit", "-qm", "first")
    return app.directory


@pytest.fixture
def repository(app, origin):
    return Repository(app, str(origin))


@pytest.mark.parametrize(
    "way",
    [pytest.param((), marks=pytest.mark.soak), ("-m", "evreload")],
    ids=["start", "command"],
)
def test_an_operation_is_one_reload(repository, way):
    repository.git("switch", "-qc", "other")
    repository.commit(1)
    repository.commit(2, 100, 200)
    repository.git("switch", "-q", "main")
    repository.edit(3, 0, COUNT, 10)
    repository.run(way)
    operations = [
        ("stash", "-q"),
        ("switch", "-q", "other"),
        ("switch", "-q", "main"),
        ("stash", "pop", "-q"),
        ("reset", "-q", "--hard"),
        ("merge", "-q", "other"),
        ("revert", "--no-edit", "HEAD"),
        ("checkout", "-q", "HEAD~3", "--", "package0", "package99"),
        ("restore", "--staged", "--worktree", "."),
        ("reset", "-q", "--hard", "HEAD~3"),
        ("cherry-pick", "other~"),
    ]
    for arguments in operations:
        repository.reloads_once(*arguments)
    repository.has_reloaded(len(operations))


def test_each_step_of_a_bisection_is_one_reload(repository):
    for number in range(8):
        repository.commit(number, 10 * number, 10 * number + 20)
    repository.run(COMMAND)
    repository.git("bisect", "start")
    repository.git("bisect", "bad")
    repository.reloads_once("bisect", "good", "HEAD~8")
    repository.reloads_once("bisect", "good")
    repository.reloads_once("bisect", "bad")
    assert "is the first bad commit" in repository.git("bisect", "bad")
    repository.reloads_once("bisect", "reset")
    repository.has_reloaded(4)


@WAYS
def test_a_rebase_with_conflicts_ends_with_the_final_state(repository, way):
    app = repository.app
    repository.git("switch", "-qc", "topic")
    for value in range(10, 13):
        repository.edit(value, 0, 1)
        repository.commit(value, 200, 400)
    repository.git("switch", "-q", "main")
    repository.commit(20, 0, 200)
    repository.git("switch", "-q", "topic")
    repository.run(way)
    for value in range(10, 13):
        with pytest.raises(subprocess.CalledProcessError):
            repository.git("rebase", *(["main"] if value == 10 else ["--continue"]))
        app.line("SyntaxError")
        repository.edit(10 * value, 0, 1)
        app.line(repository.ready)
        repository.git("add", ".")
    repository.git("rebase", "--continue")
    repository.serves_what_is_there()


@pytest.mark.soak
def test_a_rebase_of_many_commits_ends_with_the_final_state(repository):
    repository.git("switch", "-qc", "topic")
    for value in range(20):
        repository.commit(value, 10 * value, 10 * value + 10)
    repository.git("switch", "-q", "main")
    repository.commit(20, 200)
    repository.git("switch", "-q", "topic")
    repository.run(START)
    repository.git("rebase", "-q", "main")
    repository.app.line(repository.ready)
    repository.serves_what_is_there()


@pytest.mark.soak
def test_an_operation_that_takes_long_is_one_reload(repository):
    app = repository.app
    app.write(".gitattributes", "module1[0257]0.py filter=slow")
    repository.git("config", "filter.slow.smudge", "sleep 1; cat")
    repository.git("add", ".gitattributes")
    repository.git("switch", "-qc", "other")
    repository.commit(1)
    repository.git("switch", "-q", "main")
    repository.run(COMMAND)
    repository.reloads_once("switch", "-q", "other")
    repository.has_reloaded(1)


@WAYS
def test_cleaning_is_a_change_only_of_what_is_watched(repository, way):
    """An imported file that is gone is none, until it is back."""
    app = repository.app
    app.write("pages/tracked.html")
    repository.git("add", "pages")
    app.write("pages/new.html")
    app.write("pages/sub/new.html")
    app.write("untracked.py")
    body = """
try:
    import untracked
except ImportError:
    pass
evreload.watch('pages')
"""
    repository.run(way, body, debounce=200)  # for cleaning, git takes no lock
    repository.git("clean", "-qf", "untracked.py")
    nothing_else(app)
    repository.git("clean", "-qfd")
    restarted(app, "pages/new.html", "pages/sub", "pages/sub/new.html")
    repository.has_reloaded(2)
