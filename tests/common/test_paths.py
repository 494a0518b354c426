"""Paths as they are compared and watched."""

from __future__ import annotations

import os

import pytest

from evreload._common.paths import absolute


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return a working directory in which `link` leads to `real/bin`."""
    here = tmp_path.resolve()
    (here / "real" / "bin").mkdir(parents=True)
    (here / "link").symlink_to("real/bin")
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x.py", "x.py"),
        ("./real//x.py", "real/x.py"),
        ("real/../x.py", "x.py"),
        ("link/x.py", "link/x.py"),
        ("link/../x.py", "real/x.py"),
        ("link/..", "real"),
        ("link/../bin/../x.py", "real/x.py"),
    ],
)
def test_a_way_up_leads_up_from_where_a_link_points_to(here, path, expected):
    assert absolute(path) == str(here / expected)
    assert absolute(str(here) + os.sep + path) == str(here / expected)


def test_a_link_on_the_way_down_stays_in_the_name(here):
    (here / "real" / "lib").symlink_to("bin")
    assert absolute("link/../lib/x.py") == str(here / "real" / "lib" / "x.py")


def test_without_a_working_directory_only_relative_paths_fail(here):
    os.chdir("real/bin")
    os.rmdir(here / "real" / "bin")
    assert absolute("/a/../b") == "/b"
    with pytest.raises(FileNotFoundError):
        absolute("x.py")
