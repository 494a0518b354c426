"""Which files belong to the project."""

from __future__ import annotations

import pytest

from evreload._common.project_paths import ProjectPaths

PATHS = ProjectPaths(["/usr/lib", "/home/me/project/.venv"], ["/home/me/project", "/usr/lib/mine"])


@pytest.mark.parametrize(
    "path", ["/usr/lib", "/usr/lib/x.py", "/home/me/project/.venv/lib/x.py", "/usr/lib/mine.py"]
)
def test_a_path_below_an_outside_directory_is_outside(path):
    assert PATHS.is_outside(path)


@pytest.mark.parametrize(
    "path",
    ["/usr/lib/mine", "/usr/lib/mine/x.py", "/home/me/project/x.py", "/usr/library/x.py", "/x.py"],
)
def test_a_path_below_an_inside_directory_or_below_none_is_inside(path):
    assert not PATHS.is_outside(path)


def test_a_directory_given_as_both_is_inside():
    assert not ProjectPaths(["/a"], ["/a"]).is_outside("/a/x.py")


def test_the_root_may_be_outside():
    paths = ProjectPaths(["/"], ["/project"])
    assert paths.is_outside("/x.py")
    assert not paths.is_outside("/project/x.py")


def test_another_process_can_make_the_same_from_the_directories():
    copy = ProjectPaths(PATHS.outside, PATHS.inside)
    assert set(copy.outside) == {"/usr/lib", "/home/me/project/.venv"}
    assert set(copy.inside) == {"/home/me/project", "/usr/lib/mine"}
