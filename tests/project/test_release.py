"""The wheel and the sdist are built, installed in an empty environment, and examined.

This needs `build` and `hatchling`, which `tox -e release` installs.
"""

from __future__ import annotations

import ast
import email
import importlib.util
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import evreload
from support.files import git

ROOT = Path(__file__).parents[2]
CLIENT = Path(__file__).parent / "typed_client.py"
KINDS = pytest.mark.parametrize("kind", ["wheel", "sdist"])


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Built(NamedTuple):
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """Build the sdist, and from that the wheel."""
    for needed in ("build", "hatchling"):
        if not importlib.util.find_spec(needed):
            pytest.skip(f"{needed} is not installed")
    there = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", there, ROOT, cwd=there)
    (wheel,), (sdist,) = there.glob("*.whl"), there.glob("*.tar.gz")
    return Built(wheel, sdist)


def in_wheel(built: Built) -> dict[str, bytes]:
    with zipfile.ZipFile(built.wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Return a function that installs one kind in a new environment, and returns its Python."""
    made: dict[str, Path] = {}

    def install(kind: str) -> Path:
        if kind not in made:
            place = tmp_path_factory.mktemp(kind)
            venv.create(place, with_pip=True)
            python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
            pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
            run(*pip, "install", "-q", getattr(built, kind), cwd=place)
            run(*pip, "check", cwd=place)
            made[kind] = python
        return made[kind]

    return install


@KINDS
def test_it_installs_in_an_empty_environment(installed, kind, tmp_path):
    python = installed(kind)
    version = f"evreload {evreload.__version__}\n"
    assert run(python, "-m", "evreload", "--version", cwd=tmp_path) == version
    assert run(python.with_name("evreload"), "--version", cwd=tmp_path) == version
    (tmp_path / "hello.py").write_text("print('hello', __name__)")
    ran = run(python, "-m", "evreload", "--until-success", "hello.py", cwd=tmp_path)
    assert ran == "hello __main__\n"


def test_mypy_checks_a_client_of_the_wheel(installed, tmp_path):
    if not importlib.util.find_spec("mypy"):
        pytest.skip("mypy is not installed")
    (tmp_path / CLIENT.name).write_text(CLIENT.read_text())
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed("wheel")]
    assert "Success" in run(*mypy, CLIENT.name, cwd=tmp_path)


def test_the_client_uses_every_public_name():
    used = {
        node.attr
        for node in ast.walk(ast.parse(CLIENT.read_text()))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "evreload"
    }
    assert set(evreload.__all__) <= used


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = in_wheel(built)
    assert {name.split("/")[0] for name in names} == {
        "evreload",
        f"evreload-{evreload.__version__}.dist-info",
    }
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.suffix in (".py", ".typed")
    }
    assert "evreload/py.typed" in files
    assert {name for name in names if name.startswith("evreload/")} == files


def test_the_sdist_holds_every_file_in_git(built):
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a clone")
    with tarfile.open(built.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set(git(ROOT, "ls-files").splitlines()) <= held


def test_the_metadata_are_complete_and_name_no_site_or_person(built):
    import trove_classifiers

    names = in_wheel(built)
    (place,) = (name for name in names if name.endswith("/METADATA"))
    metadata = email.message_from_bytes(names[place])
    assert metadata["Name"] == "evreload"
    assert metadata["Version"] == evreload.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert place.replace("METADATA", "licenses/LICENSE") in names
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme = metadata.get_payload()
    assert isinstance(readme, str)
    assert readme.strip() == (ROOT / "README.md").read_text().strip()
    classifiers = metadata.get_all("Classifier", [])
    assert set(classifiers) <= set(trove_classifiers.classifiers)
    assert "Typing :: Typed" in classifiers
    needed = {re.split(r"\W", name)[0] for name in metadata.get_all("Requires-Dist", [])}
    assert needed == {"pathspec", "tornado", "watchdog"}
    assert not {"Home-page", "Download-URL", "Project-URL", "Author-email"} & set(metadata)


def test_each_interpreter_that_is_tested_is_a_classifier():
    settings = (ROOT / "pyproject.toml").read_text()
    tested = re.search(r"^env_list = (.*)", (ROOT / "tox.ini").read_text(), re.MULTILINE)
    assert tested
    versions = set(re.findall(r"py3(\d+)", tested[1]))
    assert versions == set(re.findall(r'Python :: 3\.(\d+)"', settings))


def test_the_changelog_begins_with_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    latest = re.search(r"^## \[(.*?)\]", text, re.MULTILINE)
    assert latest
    assert latest[1] == evreload.__version__
