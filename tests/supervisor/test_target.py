"""The target of the command: whether it exists, and whether it has a reloader of its own."""

from __future__ import annotations

import os
import sys
import zipapp
import zipfile
from importlib.machinery import ModuleSpec

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


@pytest.fixture
def spaces(here):
    """Write packages, most of them without `__init__.py`, and an archive."""
    for name in ("space/deep/er/module.py", "space/deep/__main__.py", "space/real/__init__.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("raise SystemExit('imported')")
    (here / "space" / "real" / "inner").mkdir()
    (here / "space" / "real" / "inner" / "module.py").touch()
    with zipfile.ZipFile(here / "lib.zip", "w") as archive:
        archive.writestr("space/", "")
        archive.writestr("space/zipped/", "")
        archive.writestr("space/zipped/module.py", "")
    sys.path.append(str(here / "lib.zip"))
    return here


@pytest.mark.parametrize(
    "name",
    [
        "space.deep.er.module",
        "space.deep",
        "space.deep.__main__",
        "space.real.inner.module",
        "space.zipped.module",
    ],
)
def test_packages_without_init_are_found(spaces, name):
    before = list(sys.path), dict(sys.modules)
    check(["-m", name])
    assert (sys.path, sys.modules) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("space.deep.er.none", "there is no module 'space.deep.er.none' to run from"),
        ("space.none.er", "there is no module 'space.none.er' to run from"),
        ("space.deep.er", "the package 'space.deep.er' has no __main__.py"),
        ("space.deep.er.module.none", "'space.deep.er.module' is not a package"),
    ],
)
def test_what_is_missing_from_packages_without_init_is_an_error(spaces, name, message):
    with pytest.raises(UsageError, match=message):
        check(["-m", name])
    assert "space" not in sys.modules


class Finder:
    """Finds the package `installed` in a directory that is not on `sys.path`."""

    def __init__(self, directory):
        self.directory = directory

    def find_spec(self, name, path=None, target=None):
        if name == "installed":
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(self.directory)]
            return spec
        if name == "installed.broken":
            raise LookupError("a defect of this finder")
        return None


def test_a_package_found_by_a_finder_of_its_own(spaces, monkeypatch):
    """An editable installation may have such a finder."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder(spaces / "space")])
    check(["-m", "installed.deep.er.module"])
    check(["-m", "installed.broken.module"])  # Python says what is wrong
    with pytest.raises(UsageError, match=r"no module 'installed\.deep\.none'"):
        check(["-m", "installed.deep.none"])


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
        ("litestar --app app:app run -r", "leave out -r"),
        ("-m sanic app:app --auto-reload", "leave out --auto-reload"),
        ("-m sanic app:app --dev", "leave out --dev"),
        ("datasette serve data.db --reload", "leave out --reload"),
        ("/venv/bin/panel serve app.py --autoreload", "leave out --autoreload"),
        ("-m bokeh serve --dev app.py", "leave out --dev"),
        ("-m streamlit run app.py --server.runOnSave=true", "leave out --server.runOnSave"),
        ("-m streamlit run app.py --server.runOnSave true", "leave out --server.runOnSave"),
        ("pserve development.ini --reload", "leave out --reload"),
        ("-m flask --app app run --reload", "leave out --reload"),
        ("-m fastapi run app.py --reload", "leave out --reload"),
        ("adev runserver app.py", "run the application without adev"),
        ("-m streamlit run app.py --server.runOnSave=false", None),
        ("-m streamlit run app.py --server.runOnSave false", None),
        ("-m bokeh json --dev app.py", None),
        ("-m sanic app:app --debug", None),
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
