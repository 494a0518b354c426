"""How a run is ended, step by step; `test_process_tree.py` and `test_hooks.py` end real runs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

if sys.platform == "win32":
    pytest.skip("there is no supervisor there", allow_module_level=True)

from evreload._common.protocol import (
    Drain,
    Drained,
    DrainTimeNeeded,
    HookExited,
    RestartedInPlace,
    ServerListening,
    Started,
    Stop,
)
from evreload._settings import Settings
from evreload._supervisor import shutdown as shutdown_module
from evreload._supervisor.life_cycle import Event, State
from evreload._supervisor.program_process import ProgramProcess
from evreload._supervisor.shutdown import Shutdown


class FakeProcess(ProgramProcess):
    """The process of the test in the place of a program: it ends at the first signal."""

    shutdown: Shutdown
    answers = True  # each request to drain, at once

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.received: list[Drain] = []
        self.was_asked = asyncio.Event()

    def drain(self, grace: float, changed: list[str], *, stop_accepting: bool) -> None:
        self.received.append(Drain(grace, stop_accepting, tuple(changed)))
        self.was_asked.set()
        if self.answers:
            self.shutdown.on_drained(self, Drained(self.pid, answered_all=False))

    def signal(self, number: int) -> None:
        if self.is_running:
            self.end(-number)

    def end(self, status: int) -> None:
        self.status = status
        self.advance(Event.EXIT)
        self.shutdown.on_exit()


def start(*messages, answers=True, **options):
    """Return a fake process that has sent *messages*, and what ends it."""
    process = FakeProcess.start(lambda pipes: os.getpid())
    assert isinstance(process, FakeProcess)
    process.shutdown = Shutdown(
        Settings(target=["app.py"], **options), set, lambda: process.listening_at is not None
    )
    process.answers = answers
    for message in messages:
        process.note(message)
    return process, process.shutdown


# A program that has asked for time


def asking(seconds):
    """Return the messages of a program that needs *seconds* to drain."""
    return Started(), DrainTimeNeeded(os.getpid(), seconds)


@pytest.fixture
def end():
    """Return a function that ends a run that drains, after *meanwhile*.

    It returns whether another run follows.
    """

    async def ends(meanwhile):
        process, shutdown = start(*asking(30.0), answers=False)
        task = asyncio.create_task(shutdown.end(process, {}))
        await process.was_asked.wait()
        assert process.state is State.DRAINING
        meanwhile(shutdown, process)
        process.end(0)
        follows = await task
        process.close()
        return follows

    return lambda meanwhile: asyncio.run(ends(meanwhile))


def test_a_program_that_ends_as_soon_as_it_is_drained_is_followed_by_the_next_run(end):
    def drained(shutdown, process):
        shutdown.on_drained(process, Drained(process.pid, answered_all=True))
        assert process.state is State.STOPPING  # its end is not taken for one by itself

    assert end(drained)


def test_a_program_that_ends_by_chance_while_it_drains_is_followed_by_the_next_run(end):
    assert end(lambda shutdown, process: None)


def test_a_program_that_a_hook_has_ended_is_not_followed(end):
    assert not end(lambda shutdown, process: process.note(HookExited()))


@pytest.mark.parametrize("hook_exited", [False, True], ids=["in vain", "an exit that was caught"])
def test_a_program_that_is_not_drained_in_time_is_stopped_all_the_same(caplog, hook_exited):
    async def ends():
        process, shutdown = start(*asking(0.01), answers=False, grace=0.0)
        if hook_exited:
            process.note(HookExited())
        follows = await shutdown.end(process, {})
        process.close()
        return follows

    assert asyncio.run(ends())
    assert caplog.messages == [
        "requests in progress, or reload hooks, took over 0.01 s: the program is stopped"
    ]


def test_a_restart_in_place_while_the_program_is_drained_does_not_prevent_the_next_run():
    async def ends():
        process, shutdown = start(*asking(0.01), answers=False, grace=0.0)
        task = asyncio.create_task(shutdown.end(process, {}))
        await process.was_asked.wait()
        process.note(RestartedInPlace(1))  # it forgets what the previous life has asked for
        follows = await task
        process.close()
        return follows

    assert asyncio.run(ends())


def test_a_worker_that_has_ended_is_not_waited_for(caplog):
    ended = DrainTimeNeeded(2**30, 1e9)  # no process has this ID
    assert len(requests(Started(), ended)) == 1
    assert caplog.messages == []


# A program that has asked for none

LISTENING = ServerListening(0.0)


def requests(*messages, has_exited=False, pid=0, **options):
    """Return the requests to drain that a run receives before it is stopped."""

    async def ends():
        process, shutdown = start(*messages, **options)
        process.pid = pid or process.pid
        if has_exited:
            process.end(0)
        await shutdown.end(process, {})
        process.close()
        return process.received

    return asyncio.run(ends())


@pytest.mark.parametrize("messages", [(Started(),), (Started(), LISTENING)], ids=["", "server"])
def test_a_program_is_drained_before_it_is_stopped(messages):
    assert requests(*messages) == [Drain(1.0, stop_accepting=True)]


@pytest.mark.parametrize("options", [{"grace": 0.0}, {"keep_sockets": False}])
def test_a_program_may_accept_connections_until_it_is_stopped_if_no_run_takes_them(options):
    (request,) = requests(Started(), LISTENING, **options)
    assert not request.stop_accepting


def test_a_program_that_has_not_started_or_has_ended_is_not_drained():
    assert requests() == requests(Started(), has_exited=True) == []


def test_an_answer_is_not_awaited_for_long(monkeypatch):
    monkeypatch.setattr(shutdown_module, "EXIT_GRACE", 0.01)  # if it is no matter of connections
    monkeypatch.setattr(shutdown_module, "ANSWER_TIME", 1e9)
    assert len(requests(Started(), answers=False)) == 1
    assert len(requests(Started(), LISTENING, answers=False, grace=0.0)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")
@pytest.mark.parametrize("messages", [(Started(),), (Started(), LISTENING)], ids=["", "server"])
def test_no_answer_is_awaited_from_a_main_thread_that_stays_in_c(monkeypatch, messages):
    monkeypatch.setattr(shutdown_module, "EXIT_GRACE", 1e9)
    monkeypatch.setattr(shutdown_module, "ANSWER_TIME", 1e9)
    monkeypatch.setattr(shutdown_module, "send", lambda pids, number: None)
    with subprocess.Popen(["sleep", "600"]) as sleeping:
        assert len(requests(*messages, answers=False, pid=sleeping.pid)) == 1
        sleeping.kill()


def test_a_program_that_waits_for_a_signal_gets_only_the_stop_signal(monkeypatch):
    """Any other signal would end `signal.pause`. A server is drained even so."""
    monkeypatch.setattr(shutdown_module, "waits_for_signal", lambda pid: True)
    assert requests(Started()) == []
    assert requests(Started(), LISTENING) == [Drain(1.0, stop_accepting=True)]


# Stop


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"stop_timeout": 0.02}, 0.02),
        ({"stop_timeout": 0.02, "grace": 1.5}, 1.5),
        ({"stop_timeout": 1.6, "grace": 1.5}, 1.6),
    ],
    ids=["the default grace", "a longer grace", "a shorter grace"],
)
def test_a_program_has_the_time_of_the_grace_to_end(monkeypatch, caplog, options, seconds):
    async def wait_for(event, deadline):
        assert begun + seconds <= deadline <= time.monotonic() + seconds
        return False

    async def ends():
        process, shutdown = start(Started(), **options)
        monkeypatch.setattr(process, "signal", lambda number: None)
        monkeypatch.setattr(shutdown_module, "_wait_for", wait_for)
        monkeypatch.setattr(shutdown_module, "kill_all", lambda pids: process.end(-9))
        monkeypatch.setattr(shutdown, "members", list)
        await shutdown.stop(process)
        process.close()

    begun = time.monotonic()
    with caplog.at_level("INFO", "evreload"):
        asyncio.run(ends())
    (message,) = caplog.messages
    assert message.startswith(f"the program did not end in {seconds:g} s, and is killed")


def test_the_stop_of_a_run_that_another_one_follows_is_announced(monkeypatch):
    sent = []
    monkeypatch.setattr(FakeProcess, "send", lambda self, message: sent.append(message))

    async def ends(method):
        process, shutdown = start(Started())
        await getattr(shutdown, method)(process, *([{}] if method == "end" else []))
        process.close()

    asyncio.run(ends("stop"))
    assert sent == []  # at the end of the command
    asyncio.run(ends("end"))
    assert sent == [Stop()]
