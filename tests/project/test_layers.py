"""Which package may import which, and what each module says of itself; read from the syntax tree.

A package of evreload is a process, or a part that processes share. So a module imports only what
belongs to the same process.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import evreload

PACKAGE = Path(evreload.__file__).parent
PUBLIC = "evreload"  # the public functions; in their own modules: `__init__`

# What the modules of a package may import from other packages, and from the top.
MAY_IMPORT = {
    "_common": set(),
    "_watch": {"_common", "_settings"},
    "_program": {"_common"},
    "_inprocess": {"_common", "_watch", "_program", "_settings"},
    "_child": {"_common", "_program"},
    "_snapshot": {"_common", "_program"},
    "_supervisor": {"_common", "_watch", "_settings"},
    "_settings": {"_common"},
    "_tornado4_start": set(),
    # These two bring the parts together.
    "_backend": {"_common", "_program", "_inprocess", "_child", "_snapshot", "_settings"},
    "__init__": {"_common", "_program", "_supervisor", "_backend", "_tornado4_start", "_settings"},
    "__main__": {PUBLIC},
}

# What single modules may import beyond that. Names: only these.
EXCEPTIONS = {
    "_program/main_module": {PUBLIC: {"evreload"}, "_backend": {"_backend"}},
    "_child/exec_interceptor": {"_backend": {"_backend"}},
    "_program/tornado_compat": {PUBLIC: {"evreload"}},
    "_supervisor/cli": {
        PUBLIC: {"evreload"},
        "_backend": {"_backend"},
        "_program/main_module": {"run_and_wait"},
    },
    "_supervisor/options": {PUBLIC: {"evreload"}},
    "_supervisor/program_process": {"_program/imports": {"CLOCK_TICK_NS"}},
}

# Where each dependency may be imported: packages, modules, or one function of a module.
MAY_IMPORT_DEPENDENCY = {
    "tornado": {
        "_inprocess",
        "_program/tornado_compat",
        "_child/client:bind_sockets",
        "__init__:TYPE_CHECKING",
    },
    "watchdog": {"_watch/observers"},
    "pathspec": {"_watch/gitignore"},
}

# Only these import the parts that bring the others together, one in each mode.
ENTRANCES = {"_inprocess/reloader": {"_backend"}, "_supervisor/supervisor": {"_supervisor/cli"}}

MAY_ASK_FOR_THE_PLATFORM = {
    "_common/filestat",
    "_common/startup",
    "_common/spawn",
    "_common/terminal",
    "_program/restart",
    "_watch/observers/observer_set",
}

# In the program, the program may have replaced what `os` has; these need the module itself.
PATCHED = {"_child", "_common", "_inprocess", "_program", "_watch"}
MAY_IMPORT_OS = {
    "_child/exec_interceptor",  # which replaces them
    "_child/executed/sitecustomize",
    "_common/command_line",
    "_common/spawn",
    "_common/unpatched",
    "_program/runner",
}

# How the line begins in which a module says where it runs.
RUNS_IN = {
    "_watch": ("the supervisor and the program", "the supervisor", "the program"),
    "_program": ("the program",),
    "_inprocess": ("the program",),
    "_child": ("the program",),
    "_snapshot": ("the fork server",),
    "_supervisor": ("the supervisor", "the parent-death monitor"),
}

MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py")
)
PACKAGES = [module for module in MODULES if module.endswith("/__init__")]
DOCUMENTED = [module for module in MODULES if module not in PACKAGES]


class Import(NamedTuple):
    """What a module imports: a *name* of a *module*, within a function, a condition or neither."""

    module: str  # of evreload, as in MODULES, or PUBLIC, or the name of another package
    name: str
    scope: str


def parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text())


def package(module: str) -> str:
    return module.partition("/")[0]


def imports(module: str) -> Iterator[Import]:
    """Yield what *module* imports, anywhere in it."""
    yield from _imports(module, parse(module), "")


def _imports(module: str, node: ast.AST, scope: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield _absolute(alias.name, alias.name, scope)
        elif isinstance(child, ast.ImportFrom) and child.level:
            above = module.split("/")[: -child.level]
            where = [*above, *filter(None, (child.module or "").split("."))]
            for alias in child.names:
                yield _of_evreload(where, alias.name, scope)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                yield _absolute(child.module or "", alias.name, scope)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _imports(module, child, child.name)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                yield from _imports(module, ast.Module([statement], []), "TYPE_CHECKING")
            yield from _imports(module, ast.Module(child.orelse, []), scope)
        else:
            yield from _imports(module, child, scope)


def _absolute(dotted: str, name: str, scope: str) -> Import:
    first, *others = dotted.split(".")
    if first == "evreload" and name != dotted:
        return _of_evreload(others, name, scope)
    return Import(first, name, scope)


def _of_evreload(where: list[str], name: str, scope: str) -> Import:
    for parts in ([*where, name], where, [*where, "__init__"]):
        if "/".join(parts) in MODULES:
            return Import("/".join(parts), name, scope)
    return Import(PUBLIC, name, scope)


def test_the_imports_are_found():
    found = {one.module for module in MODULES for one in imports(module)}
    assert found > {"_common/startup", "_backend", PUBLIC, "tornado", "watchdog", "pathspec", "os"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_package_may(module):
    allowed = {package(module), *MAY_IMPORT[package(module)]}
    for one in imports(module):
        if one.module in MODULES or one.module == PUBLIC:
            names = EXCEPTIONS.get(module, {}).get(one.module, ())
            assert package(one.module) in allowed or one.name in names, one


def test_every_exception_is_needed():
    found = {(module, one.module, one.name) for module in MODULES for one in imports(module)}
    for module, exceptions in EXCEPTIONS.items():
        for other, names in exceptions.items():
            assert {(module, other, name) for name in names} <= found
            assert package(other) not in MAY_IMPORT[package(module)]


@pytest.mark.parametrize("dependency", MAY_IMPORT_DEPENDENCY)
def test_a_dependency_is_imported_only_where_it_may_be(dependency):
    places = set()
    for module in MODULES:
        for one in imports(module):
            if one.module == dependency:
                parts = module.split("/")
                above = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
                here = (above | {f"{module}:{one.scope}"}) & MAY_IMPORT_DEPENDENCY[dependency]
                assert here, (module, one)
                places |= here
    assert places == MAY_IMPORT_DEPENDENCY[dependency]


@pytest.mark.parametrize("module", MODULES)
def test_few_modules_ask_for_the_platform(module):
    asks = any(
        isinstance(node, ast.Attribute) and node.attr == "platform"
        for node in ast.walk(parse(module))
    )
    assert asks <= (module in MAY_ASK_FOR_THE_PLATFORM)


@pytest.mark.parametrize("module", MODULES)
def test_what_runs_in_the_program_uses_the_functions_that_it_cannot_replace(module):
    imports_os = "os" in {one.module for one in imports(module)}
    assert imports_os <= (package(module) not in PATCHED or module in MAY_IMPORT_OS)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_each_mode_has_one_entrance(entrance):
    importers = {
        module for module in MODULES if entrance in {one.module for one in imports(module)}
    }
    assert importers == ENTRANCES[entrance]


@pytest.mark.parametrize("module", PACKAGES)
def test_importing_a_package_imports_nothing_else(module):
    assert not list(imports(module))


def stated(module: str) -> dict[str, str]:
    """Return what *module* says in its docstring, by the word before the colon."""
    lines = (ast.get_docstring(parse(module)) or "").splitlines()
    pairs = [line.partition(": ") for line in lines]
    return {word: rest for word, colon, rest in pairs if colon}


@pytest.mark.parametrize("module", DOCUMENTED)
def test_a_module_says_where_it_runs_and_what_it_owns(module):
    docstring = stated(module)
    assert docstring.get("Runs in")
    assert docstring.get("Owns")


@pytest.mark.parametrize("module", [one for one in DOCUMENTED if package(one) in RUNS_IN])
def test_a_module_runs_in_the_process_of_its_package(module):
    assert stated(module)["Runs in"].startswith(RUNS_IN[package(module)])
