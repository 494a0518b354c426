"""The rules of the house, read from the syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import evreload

HOUSE = Path(evreload.__file__).parent

# Who may import whom, of ours and of the two dependencies; what is in no row may import nothing.
MAY_IMPORT = {
    "__init__": {
        "_command/child",
        "_command/line",
        "_command/forkserver",
        "_modules",
        "_origin",
        "_reloader",
        "_settings",
        "_carried",
        "_tornado",
        "tornado",
    },
    "__main__": {"evreload"},
    "_program": {"evreload"},
    "_tornado": {"evreload", "tornado"},
    "_command/target": {"_modules"},
    "_command/line": {
        "_command/target",
        "_console",
        "_modules",
        "_command/family",
        "_handover",
        "_origin",
        "_process",
        "_program",
        "_command/run",
        "_settings",
        "_command/supervisor",
        "evreload",
    },
    "_reloader": {
        "_broken",
        "_console",
        "_files",
        "_grace",
        "_handover",
        "_hooks",
        "_lookout",
        "_modules",
        "_origin",
        "_process",
        "_settings",
        "_carried",
        "_watching/watcher",
        "_workers",
        "tornado",
    },
    "_lookout": {
        "_handover",
        "_mailbox",
        "_modules",
        "_settings",
        "_watching/observers/__init__",
        "_watching/patterns",
        "_watching/watcher",
        "tornado",
    },
    "_command/supervisor": {
        "_broken",
        "_command/channel",
        "_console",
        "_command/ending",
        "_command/family",
        "_files",
        "_handover",
        "_command/lookout",
        "_modules",
        "_origin",
        "_process",
        "_command/reports",
        "_command/run",
        "_settings",
        "_command/sockets",
        "_command/standby",
        "_watching/watcher",
    },
    "_command/lookout": {
        "_author",
        "_watching/gitignore",
        "_mailbox",
        "_modules",
        "_watching/observers/__init__",
        "_watching/patterns",
        "_command/run",
        "_settings",
        "_command/target",
        "_watching/watcher",
        "tornado",
    },
    "_command/reports": {"_author", "_command/channel", "_command/run"},
    "_command/standby": {
        "_command/channel",
        "_command/run",
        "_settings",
        "_command/warm",
        "_watching/watcher",
    },
    "_command/warm": {
        "_command/channel",
        "_command/guard",
        "_command/preloader",
        "_command/run",
        "_settings",
        "_watching/watcher",
    },
    "_command/preloader": {
        "_command/channel",
        "_command/family",
        "_command/guard",
        "_modules",
        "_process",
        "_command/run",
        "_watching/watcher",
    },
    "_command/forkserver": {
        "_command/channel",
        "_command/guard",
        "_modules",
        "_origin",
        "_process",
        "_command/sockets",
    },
    "_command/guard": {"_modules", "_origin"},
    "_command/hold": {"_command/sockets"},
    "_command/sockets": {"_process"},
    "_carried": {"tornado"},
    "_command/child": {
        "tornado",
        "_command/channel",
        "_console",
        "_files",
        "_handover",
        "_hooks",
        "_modules",
        "_origin",
        "_command/preparation",
        "_process",
        "_command/sockets",
    },
    "_command/preparation": {
        "_process",
        "_command/channel",
        "_grace",
        "_command/hold",
        "_hooks",
        "_command/sockets",
    },
    "_command/channel": {"_process"},
    "_process": {"_origin"},
    "_command/run": {"_author", "_command/channel", "_modules", "_process", "_settings"},
    "_command/ending": {
        "_command/channel",
        "_console",
        "_command/family",
        "_handover",
        "_process",
        "_command/run",
        "_settings",
        "_watching/watcher",
    },
    "_broken": {"_console", "_files", "_watching/watcher"},
    "_watching/gitignore": {"pathspec"},
    "_modules": {"_author"},
    "_watching/watcher": {
        "_author",
        "_files",
        "_watching/observers/__init__",
        "_watching/patterns",
        "_watching/routes",
        "_watching/settling",
        "_watching/suspects",
        "_watching/trees",
        "tornado",
    },
    "_watching/suspects": {"_author", "_files"},
    "_watching/trees": {"_watching/patterns"},
    "_watching/settling": {"_files", "_watching/git", "tornado"},
    "_watching/routes": {"_files", "_watching/observers/__init__"},
    "_mailbox": {"tornado"},
    "_handover": {"_files"},
    "_watching/observers/__init__": {
        "_watching/observers/inotify",
        "_watching/observers/native",
        "_watching/observers/polling",
        "_watching/observers/mounts",
    },
    "_watching/observers/inotify": {"_watching/observers/__init__", "watchdog"},
    "_watching/observers/native": {"_watching/observers/__init__", "watchdog"},
    "_watching/observers/polling": {"_watching/observers/__init__", "_files"},
}
MAY_ASK_FOR_THE_PLATFORM = {"_origin", "_process", "_watching/observers/__init__"}

ROOMS = sorted(str(path.relative_to(HOUSE).with_suffix("")) for path in HOUSE.rglob("*.py"))


def tree(room: str) -> ast.Module:
    return ast.parse((HOUSE / f"{room}.py").read_text())


def imports(room: str):
    """Yield the rooms and dependencies that *room* imports, anywhere in it."""
    for node in ast.walk(tree(room)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            above = room.split("/")[: -node.level]
            place = "/".join([*above, *(node.module or "").split(".")]).strip("/")
            for alias in node.names:
                candidates = (place, f"{place}/{alias.name}".strip("/"), f"{place}/__init__")
                yield next(name for name in candidates if name in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    of_interest = {*ROOMS, "tornado", "watchdog", "evreload", "pathspec"}
    assert set(imports(room)) & of_interest <= MAY_IMPORT.get(room, set())


@pytest.mark.parametrize("room", ROOMS)
def test_few_rooms_ask_for_the_platform(room):
    asked = any(
        isinstance(node, ast.Attribute) and node.attr == "platform" for node in ast.walk(tree(room))
    )
    assert asked <= (room in MAY_ASK_FOR_THE_PLATFORM)


def test_nothing_imports_the_stories():
    stories = {"_reloader", "_command/supervisor"}
    importers = {room for room in ROOMS if stories & set(imports(room))}
    assert importers <= {"__init__", "_command/line"}


def test_every_room_opens_with_its_rule():
    for room in ROOMS:
        assert ast.get_docstring(tree(room)), room
