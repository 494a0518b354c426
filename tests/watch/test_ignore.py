"""Which paths do not matter."""

from __future__ import annotations

import pytest

from evreload._watch.ignore import by_default, by_globs


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        "__pycache__",
        "page.html~",
        ".page.html.swp",
        ".page.html.swo",
        ".page.html.swpx",
        "4913",
        ".#page.html",
        "#page.html#",
        "sedAb12cd",
        "page.html___jb_tmp___",
        "page.html___jb_old___",
        ".goutputstream-A1B2C3",
        ".nfs00000000012345678",
        "module.pyc",
        ".ruff_cache",
        ".import_linter_cache",
        ".coverage",
        ".coverage.host.4242.XaBcDe",
        ".testmondata",
        ".testmondata-shm",
        "app.db-wal",
        "app.sqlite3-journal",
        ".tox",
        ".nox",
        ".eggs",
        "my_app.egg-info",
        ".ipynb_checkpoints",
        "htmlcov",
    ],
)
def test_ignored_by_default(name):
    assert by_default(f"/srv/app/{name}")


@pytest.mark.parametrize(
    "name",
    [
        *["page.html", "sedate.py", "sedan.html", ".env", "git", "a.swp", "tilde~.py", "49130"],
        *[".coveragerc", "coverage.py", "app.db", "my-journal", "data_cache", "tox.ini", "eggs"],
    ],
)
def test_not_ignored_by_default(name):
    assert by_default(f"/srv/app/{name}") is None


def test_the_names_of_the_directories_above_do_not_count():
    """Otherwise a program in a directory of the name CVS could not be watched."""
    assert by_default("/home/CVS/app/page.html") is None


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*.tmp", "/srv/app/a.tmp"),
        ("vendor", "/srv/app/vendor/lib/a.py"),
        ("vendor/", "/srv/app/vendor/lib/a.py"),
        ("lib/*.py", "/srv/app/lib/a.py"),
        ("./lib/*.py", "/srv/app/lib/a.py"),
        ("lib/*", "/srv/app/lib/deep/a.py"),
        ("/srv/app/a.py", "/srv/app/a.py"),
        ("/srv/*", "/srv/app/a.py"),
        ("[ab].py", "/srv/app/a.py"),
    ],
)
def test_a_glob_ignores(glob, path):
    assert by_globs(["nothing", glob])(path) == glob


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*.tmp", "/srv/app/a.tmpx"),
        ("vendor", "/srv/app/vendored/a.py"),
        ("lib/*.py", "/srv/app/mylib/a.py"),
        ("/app/*", "/srv/app/a.py"),
        ("a.py", "/srv/app/A.py"),
    ],
)
def test_a_glob_does_not_ignore(glob, path):
    assert by_globs([glob])(path) is None


def test_no_globs_ignore_nothing():
    assert by_globs([])("/srv/app/a.py") is None
