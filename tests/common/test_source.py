"""Source files, and what Python makes of them."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import py_compile
import sys
from pathlib import Path

import pytest

from evreload._common.source import (
    bytecode_time,
    delete_bytecode,
    is_source,
    other_form,
    source_file,
    source_hash,
)

UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


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
    cached = importlib.util.cache_from_source(str(tmp_path / "x.py"))
    assert source_file(cached) == str(tmp_path / "x.py")
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


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "file.py"
    file.write_text("x = 1")
    return file


def test_bytecode_of_each_optimization_level_is_deleted(file):
    caches = [importlib.util.cache_from_source(str(file), optimization=o) for o in ("", 1, 2)]
    for level, cache in enumerate(caches):
        py_compile.compile(str(file), doraise=True, optimize=level)
        assert os.path.exists(cache)
    delete_bytecode([str(file), str(file.with_name("missing.py")), str(file.parent)])
    assert not any(map(os.path.exists, caches))
    assert file.exists()


def test_bytecode_that_others_have_cached_is_deleted_and_no_other(file):
    """As an example, pytest caches that of tests, and trusts it as Python does."""
    cache = file.parent / "__pycache__"
    cache.mkdir()
    tag = sys.implementation.cache_tag
    names = [f"file.{tag}-pytest-9.0.0.pyc", f"file.{tag}.opt-1.pyc"]
    others = [f"files.{tag}.pyc", f"file.{tag}.txt", "file.other-1.pyc"]
    for name in [*names, *others]:
        (cache / name).touch()
    delete_bytecode([str(file)])
    assert sorted(os.listdir(cache)) == sorted(others)


@pytest.mark.parametrize("is_own", [True, False])
def test_bytecode_in_another_directory_is_deleted(file, tmp_path, monkeypatch, is_own):
    prefix = str(tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "pycache_prefix", prefix)
        cache = importlib.util.cache_from_source(str(file))
        os.makedirs(os.path.dirname(cache))
        py_compile.compile(str(file), doraise=True, invalidation_mode=UNCHECKED)
        assert os.path.exists(cache)
        if is_own:
            delete_bytecode([str(file)])
    if not is_own:
        delete_bytecode([str(file)], [prefix])
    assert not os.path.exists(cache)


def test_bytecode_of_a_file_without_a_suffix_is_deleted(tmp_path):
    plugin = tmp_path / "plugin"
    plugin.write_text("x = 1")
    loader = importlib.machinery.SourceFileLoader("plugin", str(plugin))
    assert loader.get_code("plugin")
    (cached,) = (tmp_path / "__pycache__").iterdir()
    delete_bytecode([str(plugin)])
    assert not cached.exists()


def test_bytecode_is_that_of_the_present_content(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("VALUE = 1")
    assert bytecode_time(str(path)) is None
    py_compile.compile(str(path))
    cached = importlib.util.cache_from_source(path)
    assert bytecode_time(str(path)) == os.stat(cached).st_mtime_ns
    path.touch()
    assert bytecode_time(str(path))
    for other in ("VALUE = 2", "VALUE = 1  # changed", "VALUE = ("):
        path.write_text(other)
        assert bytecode_time(str(path)) is None
    Path(cached).write_bytes(b"no bytecode")
    assert bytecode_time(str(path)) is None
