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
        "_child",
        "_command",
        "_forkserver",
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
    "_command": {
        "_console",
        "_family",
        "_handover",
        "_origin",
        "_process",
        "_program",
        "_run",
        "_settings",
        "_supervisor",
        "evreload",
    },
    "_reloader": {
        "_broken",
        "_console",
        "_files",
        "_grace",
        "_handover",
        "_hooks",
        "_mailbox",
        "_modules",
        "_observers",
        "_patterns",
        "_origin",
        "_process",
        "_settings",
        "_carried",
        "_watcher",
        "_workers",
        "tornado",
    },
    "_supervisor": {
        "_broken",
        "_channel",
        "_console",
        "_ending",
        "_family",
        "_files",
        "_gitignore",
        "_handover",
        "_mailbox",
        "_modules",
        "_observers",
        "_patterns",
        "_origin",
        "_process",
        "_reports",
        "_run",
        "_settings",
        "_sockets",
        "_standby",
        "_watcher",
        "tornado",
    },
    "_reports": {"_channel", "_run"},
    "_standby": {"_channel", "_run", "_settings", "_warm", "_watcher"},
    "_warm": {"_channel", "_guard", "_preloader", "_run", "_settings", "_watcher"},
    "_preloader": {"_channel", "_family", "_guard", "_modules", "_process", "_run", "_watcher"},
    "_forkserver": {"_channel", "_guard", "_modules", "_origin", "_process", "_sockets"},
    "_guard": {"_modules", "_origin"},
    "_carried": {"tornado"},
    "_child": {
        "tornado",
        "_channel",
        "_files",
        "_grace",
        "_handover",
        "_hold",
        "_hooks",
        "_modules",
        "_process",
        "_sockets",
    },
    "_process": {"_origin"},
    "_run": {"_channel", "_process", "_settings"},
    "_ending": {
        "_channel",
        "_console",
        "_family",
        "_handover",
        "_process",
        "_run",
        "_settings",
        "_watcher",
    },
    "_broken": {"_files", "_watcher"},
    "_gitignore": {"pathspec"},
    "_watcher": {"_files", "_observers", "_patterns", "_routes", "_settling", "tornado"},
    "_settling": {"_files", "_git", "tornado"},
    "_routes": {"_files", "_observers"},
    "_mailbox": {"tornado"},
    "_handover": {"_files"},
    "_observers/__init__": {"_observers/*"},
    "_observers/inotify": {"_observers", "watchdog"},
    "_observers/native": {"_observers", "watchdog"},
    "_observers/polling": {"_observers", "_files"},
}
MAY_ASK_FOR_THE_PLATFORM = {"_origin", "_process", "_observers/__init__"}

ROOMS = sorted(str(path.relative_to(HOUSE).with_suffix("")) for path in HOUSE.rglob("*.py"))


def tree(room: str) -> ast.Module:
    return ast.parse((HOUSE / f"{room}.py").read_text())


def imports(room: str):
    """Yield the rooms and dependencies that *room* imports, anywhere in it."""
    package = room.split("/")[0] if "/" in room else ""
    for node in ast.walk(tree(room)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = (node.module or "").split(".")[0]
            if node.level == 0:
                yield name
            elif package and node.level == 1:
                yield package if room != f"{package}/__init__" else f"{package}/*"
            elif name:
                yield name
            else:
                yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    ours = {name.split("/")[0] for name in ROOMS} | {f"{p}/*" for p in ("_observers",)}
    of_interest = ours | {"tornado", "watchdog", "evreload", "pathspec"}
    assert set(imports(room)) & of_interest <= MAY_IMPORT.get(room, set())


@pytest.mark.parametrize("room", ROOMS)
def test_only_two_rooms_ask_for_the_platform(room):
    asked = any(
        isinstance(node, ast.Attribute) and node.attr == "platform" for node in ast.walk(tree(room))
    )
    assert asked <= (room in MAY_ASK_FOR_THE_PLATFORM)


def test_nothing_imports_the_stories():
    stories = {"_reloader", "_supervisor"}
    importers = {room for room in ROOMS if stories & set(imports(room))}
    assert importers <= {"__init__", "_command"}


def test_every_room_opens_with_its_rule():
    for room in ROOMS:
        assert ast.get_docstring(tree(room)), room
