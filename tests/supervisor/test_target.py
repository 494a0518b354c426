"""The target of the command: whether it exists, and whether it has a reloader of its own."""

from __future__ import annotations

import os
import zipapp

import pytest

from evreload._supervisor.target import UsageError, check, reloader_remedy


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing.py", "there is no script 'nothing.py'"),
        ("empty", "the directory 'empty' has no __main__.py"),
        ("-m nothing_there", "there is no module 'nothing_there' to run"),
        ("-m package.nothing", "there is no module 'package.nothing' to run"),
        ("-m module.sub", "there is no module 'module.sub' to run: 'module' is not a package"),
        ("-m package", "the package 'package' has no __main__.py"),
    ],
)
def test_a_target_that_does_not_exist_is_an_error(here, target, message):
    (here / "empty").mkdir()
    (here / "package").mkdir()
    (here / "package" / "__init__.py").write_text("raise SystemExit('imported')")
    (here / "module.py").touch()
    with pytest.raises(UsageError, match=message):
        check(target.split())


def test_a_target_that_exists_is_neither_run_nor_compiled(here):
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


def test_a_package_that_extends_its_path_may_have_any_module(here):
    (here / "package").mkdir()
    extends = "import pkgutil; __path__ = pkgutil.extend_path(__path__, __name__)"
    (here / "package" / "__init__.py").write_text(extends)
    check(["-m", "package.elsewhere"])


def test_an_unreadable_script_is_an_error(here, monkeypatch):
    (here / "app.py").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="may not be read"):
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
def test_the_remedy_for_a_reloader_of_the_programs_own(target, remedy):
    assert reloader_remedy(target.split()) == remedy
