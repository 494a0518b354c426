"""The file watcher: requests and file events come in, settled changes go out to the listener.

Runs in: the supervisor and the program; `request` on any thread, `disconnect` and `reopen` on a
thread that forks, the rest on the thread of the loop.
Owns: the event queue, and the thread of the first scan.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .._common.source import source_file
from .event_queue import EventQueue
from .listener import Changes, WatchListener, WatchRequest

if TYPE_CHECKING:
    from .._settings import Settings
    from .gitignore import Gitignore
    from .observers.base import FileEvent
    from .observers.observer_set import ObserverSet
    from .owner_loop import OwnerLoop
    from .watched_files import WatchedFiles

BACKGROUND_DELAY = 0.002  # seconds until the first scan begins: `start` is to return before
SCAN_TIMEOUT = 2.0  # seconds that a fork, or `stop`, waits for the end of the first scan
ANNOUNCE_INTERVAL = 0.01  # seconds between two checks whether everything is watched
MAX_REQUESTS = 100  # handled before the loop gets its turn: a program imports hundreds of modules

logger = logging.getLogger("evreload")


class FileWatcher:
    """Watches files for *listener* as *settings* say, on the thread of *loop*.

    No edit is lost: a file that changed before it was watched counts as changed, too. Each step
    holds *lock*, which is reentrant. A thread that forks the process holds it during the fork.
    """

    def __init__(
        self,
        settings: Settings,
        listener: WatchListener,
        loop: OwnerLoop,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._lock = lock or threading.RLock()
        self._queue: EventQueue[FileEvent | WatchRequest] = EventQueue(loop, self._on_items)
        self._scan_thread: threading.Thread | None = None
        self._files: WatchedFiles | None = None
        self._gitignore: Gitignore | None = None
        self._is_stopped = False
        self._has_delivered = self._is_announced = False

    # Start and stop

    def start(self, requests: Iterable[WatchRequest] = ()) -> None:
        """Import watchdog, watch all paths, and look at every file: this takes a while."""
        files = self._make_files()
        for request in requests:
            files.request(self._prepared(request))
        files.scan()
        with self._lock:
            self._scan_thread = None
            if self._is_stopped:
                files.disconnect()
            else:
                self._queue.open()

    def start_in_background(self, requests: Callable[[], Iterable[WatchRequest]]) -> None:
        """Do what `start` does on another thread, so that the loop does not wait for it."""

        def scan() -> None:
            time.sleep(BACKGROUND_DELAY)
            try:
                self.start(requests())
            except Exception:
                logger.exception("evreload could not begin to watch: nothing will be reloaded")

        self._scan_thread = threading.Thread(target=scan, name="evreload-scan", daemon=True)
        self._scan_thread.start()

    def stop(self) -> None:
        """Watch no more, for good."""
        self.await_first_scan()
        with self._lock:
            self._is_stopped = True
            self.disconnect()

    def disconnect(self) -> None:
        """End all threads of the watcher, until `reopen`. Any thread that holds the lock."""
        if self._files:
            self._files.disconnect()  # first: an event may make the queue search for a loop
            self._queue.close()

    def reopen(self) -> None:
        """Deliver again, and look at every file. The first scan does so itself when it ends."""
        is_scanning = self._scan_thread is not None and self._scan_thread.is_alive()
        if not self._is_stopped and not is_scanning:
            self._queue.open()

    @property
    def is_delivering(self) -> bool:
        """Whether events and requests are handled as they come."""
        return self._queue.is_open

    def await_first_scan(self) -> None:
        """Wait a limited time for the end of the first scan. The caller must not hold the lock."""
        thread = self._scan_thread
        if thread and thread is not threading.current_thread():
            thread.join(SCAN_TIMEOUT)

    def _make_files(self) -> WatchedFiles:
        from . import ignore
        from .watched_files import WatchedFiles

        settings = self._settings
        if settings.gitignore:
            from .gitignore import Gitignore

            self._gitignore = Gitignore()
        self._files = WatchedFiles(
            self._connect,
            self._listener,
            self._lock,
            debounce=settings.debounce,
            ignored=ignore.by_globs(settings.ignore),
            left_out=self._gitignore.rule if self._gitignore else lambda path: None,
        )
        return self._files

    def _connect(self) -> ObserverSet:
        from .observers.observer_set import ObserverSet

        assert self._files is not None
        observers = ObserverSet(
            functools.partial(self._queue.put, is_event=True),
            self._files.entries,
            check_time=self._settings.check_time,
            poll=self._settings.poll,
            reports_all=self._settings.verbose,
        )
        observers.start()
        return observers

    # Requests, and runs of the program

    def request(self, request: WatchRequest) -> None:
        """Watch what *request* says, too. Any thread."""
        self._queue.put(request)

    def request_now(self, requests: Iterable[WatchRequest]) -> None:
        """Watch what *requests* say, too. On the loop's thread."""
        if self._files and not self._is_stopped:
            self._files.handle(self._prepared_all(requests))

    def begin_run(
        self,
        stale: Changes,
        loaded: Iterable[str],
        requests: Iterable[WatchRequest],
        *,
        was_complete: bool,
    ) -> None:
        """Begin with a new run of the program; see `WatchedFiles.begin_run`.

        *requests* are those of the user, which hold for every run.
        """
        assert self._files is not None
        self._files.begin_run(stale, loaded, was_complete=was_complete)
        if self._gitignore:
            self._gitignore.clear()
        for request in requests:
            self._files.request(self._prepared(request))

    def program_is_up(
        self, ended_ns: int | None = None, *, listening_ns: int | None = None
    ) -> None:
        """Note that the program has started; see `StartupChanges.program_is_up`."""
        if self._files:
            self._files.program_is_up(ended_ns, listening_ns=listening_ns)

    def look_at(self, paths: Iterable[str]) -> None:
        """Look at *paths* as if there were events of them."""
        from .observers.base import FileEvent

        if self._files and not self._is_stopped:
            self._files.handle(list(map(FileEvent, paths)))

    def announce(self) -> None:
        """Log once what is watched, as soon as all of it is."""
        if self._is_announced or self._files is None or self._is_stopped:
            return
        if self._files.is_scanning:
            asyncio.get_running_loop().call_later(ANNOUNCE_INTERVAL, self.announce)
            return
        self._is_announced = True
        logger.info("watching %s", self._files)

    # What comes in

    def _on_items(self, items: set[FileEvent | WatchRequest]) -> None:
        """Handle what was put into the queue."""
        if self._is_stopped:
            return
        if not self._listener.may_continue():
            self.stop()
            return
        with self._lock:
            if self._is_stopped:
                return
            if not self._has_delivered:
                self._has_delivered = True
                self._listener.on_watching()
            requests = [item for item in items if isinstance(item, WatchRequest)]
            events = items.difference(requests)
            if len(requests) > MAX_REQUESTS:
                for request in requests[MAX_REQUESTS:]:
                    self._queue.put(request)
                del requests[MAX_REQUESTS:]
            elif requests:
                requests += self._listener.new_requests()
            if self._files:
                self._files.handle([*events, *self._prepared_all(requests)])

    def _prepared_all(self, requests: Iterable[WatchRequest]) -> list[WatchRequest]:
        # Sorted, so that a directory comes before its entries.
        return list(map(self._prepared, sorted(requests)))

    def _prepared(self, request: WatchRequest) -> WatchRequest:
        """Return *request* for the file to watch: code in an archive has a path inside it."""
        if not request.is_explicit:
            return request._replace(path=source_file(request.path))
        if self._gitignore:
            self._gitignore.include(request.path)
        return request

    # Questions

    def is_requested(self, path: str) -> bool:
        """Whether *path* itself was requested; it may also lie below a watched directory."""
        return self._files is not None and self._files.is_requested(path)

    def transformed_source(self, path: str) -> bytes | None:
        """Return what *path* contained when the program requested it, if it may transform it."""
        return self._files.transformed_source(path) if self._files else None

    def stale(self) -> Changes:
        """Return the files that differ, now, from what the program runs. On the loop's thread.

        Look at those with events only, if it is certain that the observers have reported all.
        """
        if self._files is None:
            return {}
        if not self._files.catch_up():
            return self._files.stale()
        self._queue.deliver_now()
        return self._files.stale_with_events()

    def changes(self) -> Changes:
        """Look at every file, now; return what would be delivered once it has settled."""
        return self._files.changes() if self._files else {}

    @property
    def triggered_at(self) -> float:
        """When the latest changes began; by time.monotonic."""
        return self._files.triggered_at if self._files else 0.0
