"""The management of fork servers, with fork servers that are no processes.

`snapshot/test_preload` has the tests with real ones.
"""

from __future__ import annotations

import asyncio
import colorsys
import os
import sys
from types import SimpleNamespace

import pytest

from evreload._common.project_paths import ProjectPaths
from evreload._common.protocol import ModuleListed
from evreload._settings import Settings
from evreload._supervisor import preload_manager
from evreload._supervisor.fork_server_client import ForkServerClient
from evreload._supervisor.preload_manager import PreloadManager
from evreload._watch.listener import WatchRequest
from support.deadline import DEADLINE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--warm needs Linux")

WARM = Settings(target=["app.py"], warm=True)


class ReadyWhenRead(ForkServerClient):
    """A fork server that becomes ready just as the next run is forked."""

    is_connected = True
    is_outdated = False

    def __init__(
        self, target: list[str], project: ProjectPaths, names: list[str], excluded: list[str]
    ) -> None:
        self.names = names
        self.considered = {*names, *excluded}
        self.excluded = excluded
        self.files, self.left_out = {}, {}
        self.cannot_fork = self.importing = ""
        self.is_ready = self.was_reaped = False
        self.pid = 0
        self.input, self._end = os.pipe()

    def read(self) -> set[WatchRequest]:
        self.is_ready = True
        return set()

    def close(self) -> None:
        os.close(self.input)
        os.close(self._end)


def ignore(*arguments):
    pass


def process_of(*modules):
    """Return a run of the program that has imported `colorsys`, and has listed *modules*."""
    return SimpleNamespace(loaded={}, files={colorsys.__file__: None}, modules=list(modules))


def test_a_fork_server_that_becomes_ready_just_before_a_restart_is_noticed(monkeypatch):
    async def become_ready_just_then():
        became_ready = asyncio.Event()
        manager = PreloadManager(WARM, ignore, became_ready.set)
        manager._prepare(["colorsys"], [])
        assert not manager.forget({})
        await asyncio.wait_for(became_ready.wait(), DEADLINE)
        manager.close()

    monkeypatch.setattr(preload_manager, "ForkServerClient", ReadyWhenRead)
    asyncio.run(become_ready_just_then())


def test_a_fork_server_that_cannot_be_started_is_tried_again_for_the_next_run(monkeypatch):
    def fail(*arguments):
        raise OSError("no more processes")

    monkeypatch.setattr(preload_manager, "ForkServerClient", fail)
    manager = PreloadManager(WARM, ignore, ignore)
    process = process_of(ModuleListed("colorsys", True, (colorsys.__file__,)))
    manager.learn(process)
    assert manager.is_behind(process)


def test_after_two_warm_starts_that_failed_all_starts_are_cold(caplog):
    manager = PreloadManager(WARM, ignore, ignore)
    process = process_of()
    manager.distrust()
    assert manager.is_behind(process)
    manager.distrust()
    assert not manager.is_behind(process)
    assert [message.split(": ")[1] for message in caplog.messages] == [
        "the next start is cold",
        "all further starts are cold",
    ]


class LeavesOneOut(ReadyWhenRead):
    """A fork server that has found one more module that cannot be preloaded."""

    def __init__(
        self, target: list[str], project: ProjectPaths, names: list[str], excluded: list[str]
    ) -> None:
        super().__init__(target, project, names, excluded)
        self.left_out = {names[0]: "it starts a thread"}


def test_the_search_for_modules_to_preload_ends(monkeypatch, caplog):
    async def search():
        manager = PreloadManager(WARM, ignore, ignore)
        manager._prepare([f"module{number}" for number in range(20)], [])
        for _ in range(20):
            manager.forget({})
            await asyncio.sleep(0)

    servers = []

    def make(*arguments):
        servers.append(LeavesOneOut(*arguments))
        return servers[-1]

    monkeypatch.setattr(preload_manager, "ForkServerClient", make)
    asyncio.run(search())
    assert len(servers) == preload_manager.MAX_ATTEMPTS
    assert [server.names[0] for server in servers] == [f"module{n}" for n in range(len(servers))]
    assert caplog.messages == ["--warm has no effect: too few modules can be imported in advance"]
