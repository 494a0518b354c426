"""The watched files: which content of each the program runs, and which have changed.

An event only says where to look; the file system says whether a file has changed.

Runs in: the supervisor and the program; on the thread of the loop, but for the first scan in the
program, which has a thread of its own. Each step holds the lock of `FileWatcher`.
Owns: the requests, the fingerprint of each file as the program knows it, and the observers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Any

from .._common.filestat import Fingerprint, Status, differs, find_differing, has_writer, stat_path
from .._common.paths import is_installed
from .._common.source import is_source, other_form, source_hash
from .._common.unpatched import os, read_bytes
from .debounce import Debouncer
from .ignore import OWN_OUTPUT, IgnoreRule, by_default, by_output
from .listener import Changes, WatchListener, WatchRequest
from .observers.base import FileEvent
from .observers.observer_set import ObserverSet
from .recursive import NEW_NS, RecursiveDirs
from .startup_changes import StartupChanges
from .watch_plan import WatchPlan

SLICE = 0.002  # seconds of scanning before the loop gets its turn
YIELD_TIME = 0.0001  # seconds in which a thread that waits for the lock gets it
UNKNOWN = Fingerprint(-1, -1, -1, -1, -1)  # differs from that of any file

logger = logging.getLogger("evreload")


class WatchedFiles:
    """Keeps the requested files, and delivers those that differ from what the program runs.

    *connect* makes the observers, whenever there are none. *debounce* is in seconds. *ignored* is
    the rule for all paths, *left_out* the rule for paths below a watched directory. *lock* is held
    in each step, so that no other thread stops the observers meanwhile. It is reentrant.
    """

    def __init__(
        self,
        connect: Callable[[], ObserverSet],
        listener: WatchListener,
        lock: AbstractContextManager[Any],
        *,
        debounce: float,
        ignored: IgnoreRule,
        left_out: IgnoreRule = lambda path: None,
    ) -> None:
        self._connect = connect
        self._listener = listener
        self._lock = lock
        self._ignored = ignored
        printed_to = by_output()
        self._left_out: IgnoreRule = lambda path: (
            by_default(path) or printed_to(path) or ignored(path) or left_out(path)
        )
        self._plan = WatchPlan()
        self._observers: ObserverSet | None = None
        self._requests: dict[str, WatchRequest] = {}
        self._by_this_run: set[str] = set()  # requested by the present run of the program
        # The contents of files that the program may not compile as they are.
        self._transformed: dict[str, bytes] = {}
        self._running: Changes = {}  # what the program runs, as far as is known
        self._directories = RecursiveDirs(self._left_out)
        self._startup = StartupChanges(listener)
        self._to_scan: dict[str, None] = {}
        self._is_scanning_all = False
        self._changing: set[str] = set()
        self._written: set[str] = set()  # paths that events say are written
        self._linked: set[str] = set()  # files that are watched themselves
        self._delivered: tuple[Changes, asyncio.AbstractEventLoop | None] = ({}, None)
        self._explain: set[str] = set()  # paths with an event; logged if the scan finds no change
        self._debouncer = Debouncer(
            debounce, self._changing, self._is_new, self._deliver, self._find_unclosed
        )

    @property
    def entries(self) -> dict[str, set[str] | None]:
        """What the observers report; see `WatchPlan`."""
        return self._plan.entries

    @property
    def triggered_at(self) -> float:
        """When the latest changes began; by time.monotonic."""
        return self._debouncer.triggered_at

    @property
    def is_scanning(self) -> bool:
        """Whether something requested is not watched yet."""
        return bool(self._to_scan)

    def __str__(self) -> str:
        files = sum(bool(fingerprint) for fingerprint in self._running.values())
        directories = sum(names != set() for names in self.entries.values())
        return f"{files} files in {directories} directories ({self._observers})"

    # Requests, and runs of the program

    def request(self, request: WatchRequest) -> None:
        """Add *request*; the next scan watches its path."""
        known = self._requests.get(request.path)
        if not known and not request.is_explicit and self._ignored(request.path):
            return
        if not known or request.is_explicit:
            self._to_scan[request.path] = None
        self._requests[request.path] = request.merge(known) if known else request
        self._by_this_run.add(request.path)
        if not request.is_plain and is_source(request.path):
            with contextlib.suppress(OSError), open(request.path, "rb") as file:
                self._transformed[request.path] = file.read()

    def is_requested(self, path: str) -> bool:
        """Whether *path* itself was requested; it may also lie below a watched directory."""
        return path in self._requests

    def transformed_source(self, path: str) -> bytes | None:
        """Return what *path* contained when the program requested it, if it may transform it."""
        return self._transformed.get(path)

    def program_is_up(
        self, ended_ns: int | None = None, *, listening_ns: int | None = None
    ) -> None:
        """Note that the program has started; see `StartupChanges.program_is_up`."""
        unsettled = {*self._to_scan, *self._changing}
        self._startup.program_is_up(ended_ns, unsettled, listening_ns=listening_ns)

    def begin_run(
        self, stale: Changes, loaded: Iterable[str] = (), *, was_complete: bool = True
    ) -> None:
        """Begin with a new run of the program, which will request its files anew.

        *stale* is what `stale` has found just before; *loaded* are files that the run has read
        already. The requests of the previous run are kept until the next run, since this one may
        fail before it makes them. *was_complete*: the previous run had made all its requests; then
        older requests, which it did not make, are forgotten.
        """
        if was_complete:
            for path in self._requests.keys() - self._by_this_run:
                del self._requests[path]
                if path not in self._directories:
                    self._forget(path)
            self._forget_directories()
        self._by_this_run = set(loaded)
        self._transformed.clear()
        for path in (stale.keys() | self._changing) & self._running.keys():
            now = self._running[path] = stale.get(path, self._running[path])
            self._forget_if_gone(path, now)
        self._changing.clear()
        self._written &= self._to_scan.keys()
        self._startup.begin_run()
        self._delivered = ({}, None)

    # Events

    def handle(self, items: Collection[FileEvent | WatchRequest]) -> None:
        """Handle what the event queue delivers."""
        with self._lock:
            for item in items:
                if isinstance(item, WatchRequest):
                    self.request(item)
            # If a path has two events, the one that is not "unfinished" is handled last, and so
            # it counts. If the file was created again after that, another event will follow when
            # its writer closes it.
            events = [item for item in items if isinstance(item, FileEvent)]
            for event in sorted(events, reverse=True):
                self._handle_event(event)
            if self._observers is None:
                self._begin_full_scan()
        self._scan_in_slices()

    def _handle_event(self, event: FileEvent) -> None:
        path, is_unfinished, is_gone, is_written = event
        touched = self._paths_touched(path)
        if is_written or is_unfinished:
            self._written |= touched
        self._explain |= touched
        self._to_scan.update(dict.fromkeys(touched))
        if not path or self._plan.is_junction(path) or self._directories.is_scanned(path):
            self._begin_full_scan()
        self._debouncer.on_event(
            path, matters=bool(touched), is_unfinished=is_unfinished, is_gone=is_gone
        )
        if not touched and path not in self.entries and self._holds_files(os.path.dirname(path)):
            rule = self._left_out(path)
            if rule == OWN_OUTPUT:
                return  # to log it would change the file again
            logger.debug("%s: %s", path, f"ignored ({rule})" if rule else "not imported")

    def _holds_files(self, directory: str) -> bool:
        """Whether *directory* is more than a step on the way to a requested file."""
        return self.entries.get(directory, set()) != set()

    def _paths_touched(self, entry: str) -> set[str]:
        # Until the next scan, the plan may still name paths that are not requested any more.
        touched = {path for path in self._plan.paths_through(entry) if path in self._running}
        if entry in self._running:
            touched.add(entry)
        elif self._directories.is_open(os.path.dirname(entry)) and not self._left_out(entry):
            self._directories.add_new(entry)
            self._running.setdefault(entry, None)
            touched.add(entry)
        return touched

    # Scanning: each path is watched, then looked at; in this order no change goes unseen

    def scan(self) -> None:
        """Watch and look at every path; stop early if `disconnect` is called meanwhile."""
        with self._lock:
            self._begin_full_scan()
        while self._scan_slice() and self._to_scan:
            time.sleep(YIELD_TIME)

    def disconnect(self) -> None:
        """Stop the observers; `handle` or `scan` makes new ones. Any thread."""
        with self._lock:
            if self._observers:
                self._observers.stop()
                self._observers = None

    def _begin_full_scan(self) -> None:
        if self._observers is None:
            self._observers = self._connect()
            self._linked.clear()
        self._is_scanning_all = True
        self._plan.begin(self._observers)
        self._to_scan.update(dict.fromkeys(self._requests))
        self._to_scan.update(dict.fromkeys(self._running))

    def _scan_in_slices(self) -> None:
        if not self._scan_slice():
            return  # disconnected: the next `scan` or `handle` looks at every path
        if self._to_scan:
            asyncio.get_running_loop().call_soon(self._scan_in_slices)
        elif self._changing:
            self._debouncer.begin()

    def _scan_slice(self) -> bool:
        """Scan for a moment; return whether there are observers to scan with."""
        end = time.perf_counter() + SLICE
        with self._lock:
            while self._observers and self._to_scan and time.perf_counter() < end:
                path = next(iter(self._to_scan))
                del self._to_scan[path]
                self._scan_path(path)
            if self._observers and not self._to_scan and self._is_scanning_all:
                self._is_scanning_all = False
                self._plan.finish()
            return self._observers is not None

    def _scan_path(self, path: str) -> None:
        is_requested = path in self._requests
        here = stat_path(path, follow=is_requested)
        # Any other path lies in a directory that is watched for all names.
        if is_requested or (here and here.is_link):
            self._plan.add(path)
            here = stat_path(path)
        if here and here.is_directory and self._is_recursive(path):
            self._scan_directory(path)
        self._watch_links(path, here)
        now = here and here.fingerprint
        if path not in self._running:
            self._running[path] = now
            if here and self._may_have_changed(path, here):
                self._running[path] = UNKNOWN  # the program may have read an earlier content
                self._startup.add(path, now)
        if now is None and is_requested and self._running[path] and (other := other_form(path)):
            # The module may become a package, or the reverse: the program would read that file.
            self.request(WatchRequest(other, self._startup.began_ns))
        if self._has_changed(path, now):
            self._changing.add(path)
        elif path not in self._changing:
            self._written.discard(path)
            self._forget_if_gone(path, now)
        if path in self._explain:
            self._explain.discard(path)
            if path not in self._changing:
                logger.debug("%s: unchanged on disk", path)

    def _watch_links(self, path: str, here: Status | None) -> None:
        """Watch the file *path* itself if it has other hard links, by which it may be written.

        The files of installed packages may all have: package managers link them from a cache.
        """
        assert self._observers is not None
        if here and here.links > 1 and not here.is_directory and not is_installed(path):
            self._linked.add(path)
            self._observers.add_file_watch(path)
        elif path in self._linked:
            self._linked.discard(path)
            self._observers.remove_file_watch(path)

    def _has_changed(self, path: str, now: Fingerprint | None) -> bool:
        """Whether *path* differs from what the program runs, with the fingerprint *now*."""
        before = self._running[path]
        if before == now:
            return False
        if differs(before, now):
            return not self._is_renumbered(path, before, now)
        if self._is_rewritten(path):
            self._running[path] = UNKNOWN
            return True
        return False

    def _is_rewritten(self, path: str) -> bool:
        """Whether *path* has another content, though the same time and size as before.

        Its ctime differs. Its events say whether it was written; after that it has another content,
        unless it is known to have the same.
        """
        if content_hash := self._listener.own_writes().hash_read(path):
            try:
                return source_hash(read_bytes(path)) != content_hash
            except OSError:
                return False
        return path in self._written

    def _is_renumbered(
        self, path: str, before: Fingerprint | None, now: Fingerprint | None
    ) -> bool:
        """Whether *path* is the same file, whose inode has got another number."""
        same = before and now and now.is_renumbered(before)
        return bool(same and self._observers and self._observers.mounts.may_renumber(path))

    def _may_have_changed(self, path: str, here: Status) -> bool:
        """Whether *path* may have changed since the program read it, or did not find it."""
        if here.is_directory and (path in self._directories or self._is_top(path)):
            return False  # the scan looks at each of its entries
        request = self._requests.get(path)
        since_ns = request.since_ns if request else self._directories.since_ns(path)
        return here.ctime_ns >= since_ns and not self._is_from_the_future(path, here)

    def _is_from_the_future(self, path: str, here: Status) -> bool:
        """Whether this machine's clock was set back after it had stamped *path*."""
        if here.ctime_ns <= time.time_ns() or self._observers is None:
            return False
        return not self._observers.mounts.may_be_remote(path)

    def _is_recursive(self, path: str) -> bool:
        if self._is_top(path):
            return True
        return path in self._directories and not os.path.islink(path)  # links may form a cycle

    def _is_top(self, path: str) -> bool:
        return path in self._requests and self._requests[path].is_explicit

    def _scan_directory(self, directory: str) -> None:
        """Add the unknown entries of *directory* to the paths to scan."""
        real = self._plan.add_directory(directory)
        is_top = self._is_top(directory)
        request = self._requests.get(directory)
        since_ns = request.since_ns if request else self._directories.since_ns(directory)
        for path in self._directories.scan(directory, real, since_ns, is_top=is_top):
            if self._directories.since_ns(path) == NEW_NS:
                self._running.setdefault(path, None)
            self._to_scan[path] = None

    def _forget_directories(self) -> None:
        """Forget the paths below directories that are not requested any more."""
        left = self._directories.keep_only(filter(self._is_top, self._requests))
        if left:
            for path in left:
                if path not in self._requests:
                    self._forget(path)
            self._begin_full_scan()

    def _forget(self, path: str) -> None:
        self._running.pop(path, None)
        self._to_scan.pop(path, None)
        self._written.discard(path)
        if path in self._linked and self._observers:
            self._linked.discard(path)
            self._observers.remove_file_watch(path)

    def _forget_if_gone(self, path: str, now: Fingerprint | None) -> None:
        """Forget *path* if it was created and removed again below a watched directory."""
        if now is None and self._running[path] is None and path not in self._requests:
            self._directories.remove(path)
            self._forget(path)

    # Changes

    def stale(self) -> Changes:
        """Look at every file, now; return those that differ from what the program runs."""
        return self._find_differing(self._running)

    def stale_with_events(self) -> Changes:
        """Do what `stale` does, but look only at files with events that were handled before."""
        paths = (self._to_scan.keys() | self._changing) & self._running.keys()
        return self._find_differing({path: self._running[path] for path in paths})

    def catch_up(self) -> bool:
        """Have the observers report what has happened so far; return whether that is all."""
        return self._observers is not None and self._observers.catch_up()

    def _find_differing(self, known: Changes) -> Changes:
        return {
            path: now
            for path, now in find_differing(known).items()
            if not self._is_renumbered(path, known.get(path), now)
        }

    def changes(self) -> Changes:
        """Look at every file, now; return what would be delivered once it has settled."""
        return {path: now for path, now in self.stale().items() if self._counts(path, now)}

    def _find_unclosed(self) -> set[str]:
        """Return the files of code that differ, and that a writer has open; they change, too.

        There is no event until the writer closes the file; until then it may be empty. Other files,
        such as a database or a log, may be open all the time.
        """
        code = {
            path: fingerprint
            for path, fingerprint in self._running.items()
            if fingerprint and path in self._requests and not self._requests[path].is_explicit
        }
        known = {path: code.pop(path) for path in self._changing & code.keys()}
        # Those that were changed in place: the inode and the device are the same.
        late = {
            path
            for path, now in find_differing(code).items()
            if now and (now.inode, now.device) == (code[path].inode, code[path].device)
        }
        unclosed = {path for path in late if has_writer(path) is not False}
        self._changing |= unclosed
        return unclosed | {path for path in known if _is_open(path, known[path])}

    def _is_new(self, path: str) -> bool:
        return self._running[path] is None

    def _deliver(self) -> None:
        changes = {}
        for path in sorted(self._changing):
            here = stat_path(path)
            now = here and here.fingerprint
            if not self._has_changed(path, now) or not self._counts(path, now):
                self._changing.discard(path)
                self._forget_if_gone(path, now)
                continue
            is_code = path in self._requests and not self._requests[path].is_explicit
            delay = self._startup.delay(path, here, is_code=is_code)
            if delay == 0:
                changes[path] = now
                continue
            self._changing.discard(path)
            if delay is None:  # the program runs the present content
                self._running[path] = now
            else:
                asyncio.get_running_loop().call_later(delay, self._end_wait, path)
        self._written &= self._to_scan.keys() | self._changing
        self._startup.settle()
        # On another loop, the same changes are delivered again: the task that the first delivery
        # started has ended with its loop.
        delivery = (changes, asyncio.get_running_loop())
        if changes and delivery != self._delivered:
            self._delivered = delivery
            self._listener.on_changes(changes)

    def _counts(self, path: str, now: Fingerprint | None) -> bool:
        """Whether *now* is a change of *path*: a deletion only below a watched directory."""
        return now is not None or path in self._directories

    def _end_wait(self, path: str) -> None:
        """Look at *path* again: the restart for it has waited long enough."""
        if self._observers and self._startup.is_waiting(path):
            self.handle([FileEvent(path)])


def _is_open(path: str, before: Fingerprint) -> bool:
    """Whether a writer has *path* open. If that cannot be known, an emptied file is."""
    writes = has_writer(path)
    here = stat_path(path)
    was_emptied = here is not None and here.fingerprint.size == 0 < before.size
    return was_emptied if writes is None else writes
