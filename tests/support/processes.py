"""Processes: their descendants, activity, end and open files; namespaces to run them in."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from support.deadline import DEADLINE
from support.waiting import until

SETTLED = 1.0  # seconds without activity, after which a program counts as idle


def threads(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/task")


def children(pid: int) -> list[int]:
    """Return the children of *pid*; those of one thread are in the order of their creation."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):  # it has just ended
        for task in threads(pid):
            with contextlib.suppress(FileNotFoundError):  # the thread has
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def process_tree(pid: int) -> list[int]:
    """Return *pid* and its descendants, parents first."""
    found = [pid]
    for one in found:
        found += children(one)
    return found


def context_switches(pids: list[int]) -> dict[str, int]:
    """Return the number of context switches of each thread of *pids*."""
    counts = {}
    for pid, thread in ((one, thread) for one in pids for thread in threads(one)):
        status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
        name = re.search(r"^Name:\s*(.*)", status)
        assert name
        switches = re.findall(r"ctxt_switches:\s*(\d+)", status)
        counts[f"{name[1]} {pid}/{thread}"] = sum(map(int, switches))
    return counts


def processor_ticks(pids: list[int]) -> dict[str, int]:
    """Return the processor time of each of *pids*, in whole ticks; see proc_pid_stat(5).

    A process that wakes and sleeps again at once uses no whole tick.
    """
    ticks = {}
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks[str(pid)] = int(fields[11]) + int(fields[12])
    return ticks


def idle(pid: int, seconds: float = SETTLED, does=context_switches) -> list[int]:
    """Block until *pid* and its descendants do nothing for *seconds*; return all of them.

    One idle period is enough: a deletion in a directory above the program, such as /tmp, wakes it
    for a moment. A program that wakes periodically has no idle period.
    """
    active: set[str] = set()

    def is_idle():
        with contextlib.suppress(OSError):  # one of them has just ended
            pids = process_tree(pid)
            before = does(pids)
            time.sleep(seconds)
            after = does(pids)
            active.update(one for one in after if after[one] != before.get(one))
            return pids if process_tree(pid) == pids and after == before else None
        return None

    return until(is_idle, lambda: f"{seconds} s in which {pid} does nothing; active were {active}")


def memory(pid: int) -> int:
    """Return the resident memory of *pid* in kilobytes."""
    found = re.search(r"^VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def was_forked(pid: int) -> bool:
    """Return whether *pid* is the fork server, or was forked by it."""
    with contextlib.suppress(OSError):  # it has just ended
        return b"fork-server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def have_ended(descriptors: list[int], seconds: float = DEADLINE) -> None:
    """Block until the processes of all these pidfds have ended; fail if one does not end."""
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(seconds * 1000)
        os.close(descriptor)


def assert_gone(pids: set[int]) -> None:
    """Block until all of *pids* have ended; fail if one does not end."""
    deadline = time.monotonic() + DEADLINE
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.01)


def in_a_namespace(*arguments):
    """Return a prefix that runs a command in new namespaces; skip the test if that fails."""
    command = ["unshare", *arguments]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no new namespace: {error}")
    return command


def with_limit(name, value):
    """Return a prefix that runs a command with the kernel limit *name* lowered to *value*."""
    shell = ["sh", "-c", f'echo {value} > /proc/sys/user/{name} && exec "$@"', "sh"]
    prefix = [*in_a_namespace("-Ur"), *shell]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip(f"{name} cannot be lowered here")
    return prefix


def descriptors(pid: int) -> list[str]:
    """Return the target of each open descriptor of *pid*."""
    targets = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue  # closed meanwhile
    return targets


def inotify_instances(pid: int) -> int:
    return descriptors(pid).count("anon_inode:inotify")


def descriptor_kinds(targets: list[str]) -> collections.Counter[str]:
    return collections.Counter(target.split(":")[0] for target in targets)


def everything_open(pid: int):
    """Return threads, inotify instances and descriptors of *pid* and its descendants, once idle."""
    pids = idle(pid, does=processor_ticks)
    return [
        (len(threads(one)), inotify_instances(one), descriptor_kinds(descriptors(one)))
        for one in pids
    ]
