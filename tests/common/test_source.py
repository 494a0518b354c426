"""Source files, and what Python makes of them."""

from __future__ import annotations

import importlib.util
import os
import py_compile

import pytest

from evreload._common.source import delete_bytecode, is_source, other_form, source_file, source_hash


@pytest.mark.parametrize("name", ["a.py", "/b/c.pyw", ".py"])
def test_source_is_recognised_by_its_name(name):
    assert is_source(name)


@pytest.mark.parametrize("name", ["a.pyc", "a.so", "py", "a.py~", ""])
def test_other_files_are_not_taken_for_source(name):
    assert not is_source(name)


def test_the_hash_is_that_of_the_content():
    assert source_hash(b"one") == source_hash(b"one")
    assert source_hash(b"one") != source_hash(b"two")
    assert bytes.fromhex(source_hash(b"one"))


def test_for_bytecode_its_source_is_watched_if_there_is_one(tmp_path):
    with_source, without_source = tmp_path / "x.pyc", tmp_path / "y.pyc"
    for path in (with_source, without_source, tmp_path / "x.py"):
        path.touch()
    assert source_file(str(with_source)) == str(tmp_path / "x.py")
    assert source_file(str(without_source)) == str(without_source)


def test_for_a_module_in_an_archive_the_archive_is_watched(tmp_path):
    archive = tmp_path / "lib.zip"
    archive.touch()
    assert source_file(f"{archive}/pkg/mod.py") == str(archive)
    assert source_file(str(archive)) == str(archive)


def test_for_a_missing_module_the_place_where_it_would_be_is_watched(tmp_path):
    missing = str(tmp_path / "no" / "such.py")
    assert source_file(missing) == missing


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/a/b.py", "/a/b/__init__.py"),
        ("/a/b/__init__.py", "/a/b.py"),
        ("/a/b.txt", None),
        ("/a/b.pyc", None),
    ],
)
def test_a_module_may_become_a_package_and_a_package_a_module(path, other):
    assert other_form(path) == other


def test_bytecode_of_each_optimization_level_is_deleted(tmp_path):
    file = tmp_path / "file.py"
    file.write_text("x = 1")
    caches = [importlib.util.cache_from_source(str(file), optimization=o) for o in ("", 1, 2)]
    for level, cache in enumerate(caches):
        py_compile.compile(str(file), doraise=True, optimize=level)
        assert os.path.exists(cache)
    delete_bytecode([str(file), str(file.with_name("missing.py")), str(file.parent)])
    assert not any(map(os.path.exists, caches))
    assert file.exists()
