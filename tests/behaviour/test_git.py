"""Whether git holds a lock, and which restarts the operations of git cause."""

from __future__ import annotations

import os
import subprocess

import pytest

from evreload._watch.git_lock import _repository, is_held
from support.app import App
from support.files import git, write_modules
from support.programs import (
    COMMAND,
    MODES,
    START,
    assert_no_other_change,
    await_next_run,
    await_restart,
    runner,
)


@pytest.fixture(autouse=True)
def clear_repository_cache():
    _repository.cache_clear()


def test_only_a_recent_lock_is_held(tmp_path):
    path = str(tmp_path / "a" / "b" / "helper.py")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    assert not is_held([path])
    lock = tmp_path / ".git" / "index.lock"
    lock.touch()
    assert is_held([path])
    assert is_held(["/nowhere/at/all", path])
    assert not is_held(["/nowhere/at/all"])
    assert not is_held([])
    os.utime(lock, (0, 0))
    assert not is_held([path])
    os.utime(lock)
    assert is_held([path])
    lock.unlink()
    assert not is_held([path])


def test_a_worktree_has_a_lock_of_its_own(tmp_path):
    (tmp_path / "main").mkdir()
    git(tmp_path / "main", "init")
    git(tmp_path / "main", "commit", "--allow-empty", "-m", "first")
    git(tmp_path / "main", "worktree", "add", "../other")
    path = str(tmp_path / "other" / "helper.py")
    (tmp_path / "main" / ".git" / "index.lock").touch()
    assert not is_held([path])
    (tmp_path / "main" / ".git" / "worktrees" / "other" / "index.lock").touch()
    assert is_held([path])


def test_the_lock_of_a_submodule_is_found_by_a_relative_path(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".git").write_text("gitdir: ../.git/modules/sub\n")
    modules = tmp_path / ".git" / "modules" / "sub"
    modules.mkdir(parents=True)
    path = str(tmp_path / "sub" / "helper.py")
    assert not is_held([path])
    (modules / "index.lock").touch()
    assert is_held([path])


# Operations of git, on a repository of which the program imports a part

COUNT, IMPORTED = 2_000, 300


class Repository:
    """2,000 modules under git, and a program that imports some of them."""

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
        """The line that the program prints if it has imported the files on the disk."""
        return f"ready {sum(int(path.read_text().split()[2]) for path in self.modules[:IMPORTED])}"

    def run(self, mode, body="", debounce=5):
        mode = mode and (*mode, "--debounce", str(debounce))
        start = runner(self.app, mode=mode)
        start(f"import everything\n{body}", "everything.VALUE", arguments=f", debounce={debounce}")

    def assert_one_reload(self, *arguments):
        """Run git with *arguments*; check that the next run has imported the files on the disk."""
        self.git(*arguments)
        self.app.line("restarting server")
        assert await_next_run(self.app) == self.ready, arguments

    def assert_serves_files_on_disk(self):
        """Trigger one more restart, and check the line of that run.

        An earlier run may have printed `ready` already.
        """
        self.app.write("cookie.py", "# changed")
        self.app.line("cookie.py")
        assert self.app.line("ready ") == self.ready

    def assert_reloads(self, times):
        """Check that there were *times* restarts, and that no other is due."""
        assert_no_other_change(self.app)
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
    "mode",
    [pytest.param((), marks=pytest.mark.soak), ("-m", "evreload")],
    ids=["start", "command"],
)
def test_each_operation_of_git_is_one_reload(repository, mode):
    repository.git("switch", "-qc", "other")
    repository.commit(1)
    repository.commit(2, 100, 200)
    repository.git("switch", "-q", "main")
    repository.edit(3, 0, COUNT, 10)
    repository.run(mode)
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
        repository.assert_one_reload(*arguments)
    repository.assert_reloads(len(operations))


def test_each_step_of_a_bisection_is_one_reload(repository):
    for number in range(8):
        repository.commit(number, 10 * number, 10 * number + 20)
    repository.run(COMMAND)
    repository.git("bisect", "start")
    repository.git("bisect", "bad")
    repository.assert_one_reload("bisect", "good", "HEAD~8")
    repository.assert_one_reload("bisect", "good")
    repository.assert_one_reload("bisect", "bad")
    assert "is the first bad commit" in repository.git("bisect", "bad")
    repository.assert_one_reload("bisect", "reset")
    repository.assert_reloads(4)


@MODES
def test_a_rebase_with_conflicts_ends_with_the_final_state(repository, mode):
    app = repository.app
    repository.git("switch", "-qc", "topic")
    for value in range(10, 13):
        repository.edit(value, 0, 1)
        repository.commit(value, 200, 400)
    repository.git("switch", "-q", "main")
    repository.commit(20, 0, 200)
    repository.git("switch", "-q", "topic")
    repository.run(mode)
    for value in range(10, 13):
        with pytest.raises(subprocess.CalledProcessError):
            repository.git("rebase", *(["main"] if value == 10 else ["--continue"]))
        app.line("SyntaxError")
        repository.edit(10 * value, 0, 1)
        app.line(repository.ready)
        repository.git("add", ".")
    repository.git("rebase", "--continue")
    repository.assert_serves_files_on_disk()


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
    repository.assert_serves_files_on_disk()


@pytest.mark.soak
def test_a_slow_operation_of_git_is_one_reload(repository):
    app = repository.app
    app.write(".gitattributes", "module1[0257]0.py filter=slow")
    repository.git("config", "filter.slow.smudge", "sleep 1; cat")
    repository.git("add", ".gitattributes")
    repository.git("switch", "-qc", "other")
    repository.commit(1)
    repository.git("switch", "-q", "main")
    repository.run(COMMAND)
    repository.assert_one_reload("switch", "-q", "other")
    repository.assert_reloads(1)


@MODES
def test_git_clean_is_a_change_only_in_a_watched_directory(repository, mode):
    """The deletion of an imported file is no change until the file is back."""
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
    repository.run(mode, body, debounce=200)  # `git clean` takes no lock
    repository.git("clean", "-qf", "untracked.py")
    assert_no_other_change(app)
    repository.git("clean", "-qfd")
    await_restart(app, "pages/new.html", "pages/sub", "pages/sub/new.html")
    repository.assert_reloads(2)
