"""Answer two: wanted paths in, settled changes out.

The loop's thread, but for the first survey: whoever arms the watcher owns it until the mailbox
is opened. Any thread may disarm it, between two steps. An event says only where to look; the disk
says whether it changed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tornado.ioloop import IOLoop

from .._common.filestat import Fingerprint, Status, differing, look
from .._common.own_writes import Author
from .debounce import Settling
from .ignore import Ignored, by_default
from .observers import News, Observers
from .recursive import NEW, Trees
from .startup_changes import Suspects
from .watch_plan import Routes

SLICE = 0.002  # seconds of surveying before the loop gets its turn
TURN = 0.0001  # seconds until somebody who waits for the guard has it
UNKNOWN = Fingerprint(-1, -1, -1, -1)

Changes = dict[str, Fingerprint | None]

logger = logging.getLogger("evreload")


class Want(NamedTuple):
    """Watch *path*; if it changed from *since* on, the program may not know.

    *since* is in nanoseconds since the epoch, by the clock that stamps files.
    An *explicit* one was asked for by name; if it is a directory, all beneath it is wanted.
    """

    path: str
    since: int
    explicit: bool = False

    def together_with(self, other: Want) -> Want:
        """Return what stands for two wants of one path."""
        return Want(self.path, min(self.since, other.since), self.explicit or other.explicit)


class Watcher:
    """Keeps the wanted files, and says which of them differ from what the program runs.

    *connect* makes the observers, whenever there are none. *deliver* is called on the loop with
    all changes, after *debounce* seconds of quiet; *author* and *excused* tell what is none, as
    for `Suspects`. *ignored* tells by which rule a path never matters, *left_out* by which it
    doesn't just for lying in a tree, *other_form* where a wanted file may turn up once it is gone.
    The *guard* is held in each step, and may be entered again by the thread that holds it:
    meanwhile, no other thread can disarm.
    """

    def __init__(
        self,
        connect: Callable[[], Observers],
        deliver: Callable[[Changes], object],
        *,
        debounce: float,
        author: Callable[[], Author],
        excused: Callable[[str, bool], bool],
        ignored: Ignored,
        left_out: Ignored = lambda path: None,
        other_form: Callable[[str], str | None] = lambda path: None,
        guard: contextlib.AbstractContextManager[Any] = contextlib.nullcontext(),  # noqa: B008
    ) -> None:
        self._connect = connect
        self._deliver = deliver
        self._other_form = other_form
        self._ignored = ignored
        self._guard = guard
        self._left_out: Ignored = lambda path: by_default(path) or ignored(path) or left_out(path)
        self._routes = Routes()
        self._observers: Observers | None = None
        self._wanted: dict[str, Want] = {}  # by name
        self._by_this_run: set[str] = set()  # wanted by the present run of the program
        self._running: Changes = {}  # what the program runs, as far as we know
        self._trees = Trees(self._left_out)
        self._suspects = Suspects(author, excused)
        self._todo: dict[str, None] = {}  # to be surveyed
        self._surveying_all = False
        self._candidates: set[str] = set()
        self._delivered: tuple[Changes, IOLoop | None] = ({}, None)
        self._asked: set[str] = set()  # of which there was news
        self._settling = Settling(debounce, self._candidates, self._is_new, self._judge)

    @property
    def entries(self) -> dict[str, set[str] | None]:
        """What the observers are to listen for; see `Routes`."""
        return self._routes.entries

    def want(self, want: Want) -> None:
        """Add a path to what is wanted; it is armed in the next survey."""
        known = self._wanted.get(want.path)
        if not known and not want.explicit and self._ignored(want.path):
            return
        if not known or want.explicit:
            self._todo[want.path] = None
        self._wanted[want.path] = want.together_with(known) if known else want
        self._by_this_run.add(want.path)

    def keep(self, paths: Iterable[str]) -> None:
        """Take *paths*, which are wanted already, for wanted by this run, too."""
        self._by_this_run.update(paths)

    def program_is_up(self, at: int | None = None) -> None:
        """Take what changes from now on, or *at* some time, for a change, whoever made it."""
        self._suspects.program_is_up(at, {*self._todo, *self._candidates})

    def renew(self, stale: Changes, *, was_complete: bool = True) -> None:
        """Begin with a new run of the program, which will say anew what it wants.

        *stale* is what `stale` has found just before. What the run before wanted is kept until
        the next: this one may fail before it gets there. If that one *was_complete*, and has told
        of all that it wants, what it did not want is forgotten.
        """
        if was_complete:
            for path in self._wanted.keys() - self._by_this_run:
                del self._wanted[path]
                if path not in self._trees:
                    self._forget(path)
            self._leave_trees()
        self._by_this_run.clear()
        for path in (stale.keys() | self._candidates) & self._running.keys():
            now = self._running[path] = stale.get(path, self._running[path])
            self._forget_if_gone(path, now)
        self._candidates.clear()
        self._suspects.begin_run()
        self._delivered = ({}, None)

    def survey(self) -> None:
        """Arm observers for everything wanted, and look at it all, unless disarmed meanwhile."""
        with self._guard:
            self._survey_all()
        while self._take_steps() and self._todo:
            time.sleep(TURN)

    def disarm(self) -> None:
        """End the observers; `receive` or `survey` makes new ones. Any thread."""
        with self._guard:
            if self._observers:
                self._observers.stop()
                self._observers = None

    @property
    def first_news(self) -> float:
        """When the latest changes began; by time.monotonic."""
        return self._settling.began

    @property
    def is_surveying(self) -> bool:
        """Whether something wanted is not armed yet."""
        return bool(self._todo)

    def __str__(self) -> str:
        files = sum(bool(fingerprint) for fingerprint in self._running.values())
        directories = sum(names != set() for names in self.entries.values())
        return f"{files} files in {directories} directories ({self._observers})"

    # What comes in

    def receive(self, mail: set[News | Want]) -> None:
        """Take what the mailbox delivers."""
        with self._guard:
            for item in mail:
                if isinstance(item, Want):
                    self.want(item)
            # Of two news about one entry the finished one counts: should it have been created
            # again after that, it will be closed again, too.
            for news in sorted((item for item in mail if isinstance(item, News)), reverse=True):
                self._heed(news)
            if self._observers is None:
                self._survey_all()
        self._survey_a_slice()

    def _heed(self, news: News) -> None:
        path, unfinished, gone = news
        touched = self._touched(path)
        self._asked |= touched
        self._todo.update(dict.fromkeys(touched))
        if not path or self._routes.is_junction(path) or self._trees.is_scanned(path):
            self._survey_all()
        self._settling.note(path, matters=bool(touched), unfinished=unfinished, gone=gone)
        if not touched and path not in self.entries and self._holds_wanted(os.path.dirname(path)):
            rule = self._left_out(path)
            logger.debug("%s: %s", path, f"ignored ({rule})" if rule else "not imported")

    def _holds_wanted(self, directory: str) -> bool:
        """Whether *directory* is more than a step on the way to a wanted file."""
        return self.entries.get(directory, set()) != set()

    def _touched(self, entry: str) -> set[str]:
        # Routes are only found anew in the next survey: they may lead to what is wanted no more.
        touched = {path for path in self._routes.meant_by(entry) if path in self._running}
        if entry in self._running:
            touched.add(entry)
        elif self._trees.is_open(os.path.dirname(entry)) and not self._left_out(entry):
            self._trees.enter(entry)
            self._running.setdefault(entry, None)
            touched.add(entry)
        return touched

    def is_wanted(self, path: str) -> bool:
        """Whether *path* is wanted by its name, and does not just lie in a tree."""
        return path in self._wanted

    def stale(self) -> Changes:
        """Look at every wanted file, now; return those that differ from what the program runs."""
        return differing(self._running)

    def changes(self) -> Changes:
        """Look at every wanted file, now; return what would be delivered once it is quiet."""
        return {path: now for path, now in self.stale().items() if self._counts(path, now)}

    # Looking

    def _survey_all(self) -> None:
        if self._observers is None:
            self._observers = self._connect()
        self._surveying_all = True
        self._routes.begin(self._observers)
        self._todo.update(dict.fromkeys(self._wanted))
        self._todo.update(dict.fromkeys(self._running))

    def _survey_a_slice(self) -> None:
        if not self._take_steps():
            return  # whoever arms it again looks at everything
        if self._todo:
            IOLoop.current().add_callback(self._survey_a_slice)
        elif self._candidates:
            self._settling.begin()

    def _take_steps(self) -> bool:
        """Survey for a moment; return whether there are observers to survey with."""
        end = time.perf_counter() + SLICE
        with self._guard:
            while self._observers and self._todo and time.perf_counter() < end:
                self._step()
            return self._observers is not None

    def _step(self) -> None:
        """Arm one path, then look at it: in this order nothing goes unseen."""
        path = next(iter(self._todo))
        del self._todo[path]
        self._arm(path)
        if path in self._asked:
            self._asked.discard(path)
            if path not in self._candidates:
                logger.debug("%s: unchanged on disk", path)
        if not self._todo and self._surveying_all:
            self._surveying_all = False
            self._routes.finish()

    def _arm(self, path: str) -> None:
        named = path in self._wanted
        here = look(path, follow=named)
        if named or (here and here.is_link):  # whatever else lies in a tree is told of anyway
            self._routes.lead_to(path)
            here = look(path)
        if here and here.is_directory and self._is_tree(path):
            self._scan(path)
        now = here and here.fingerprint
        if path not in self._running:
            self._running[path] = now
            if here and self._may_have_changed(path, here):
                self._running[path] = UNKNOWN  # it may have changed since the program read it
                self._suspects.add(path, now)
        if now is None and named and self._running[path]:
            self._want_other_form(path)
        if self._running[path] != now:
            self._candidates.add(path)
        elif path not in self._candidates:
            self._forget_if_gone(path, now)

    def _want_other_form(self, path: str) -> None:
        """Watch what the program would read now that *path* is gone, unless it was always there."""
        if other := self._other_form(path):
            self.want(Want(other, self._suspects.began))

    def _may_have_changed(self, path: str, here: Status) -> bool:
        """Whether *path* may be different from what the program has read, or missed."""
        if here.is_directory and (path in self._trees or self._wanted[path].explicit):
            return False  # what has come into it is looked at for itself
        return here.ctime_ns >= self._since(path) and not self._was_set_back(path, here)

    def _was_set_back(self, path: str, here: Status) -> bool:
        """Whether our clock was, after it had stamped *path*: it is from before, then."""
        if here.ctime_ns <= time.time_ns() or self._observers is None:
            return False
        return not self._observers.mounts.may_be_afar(path)

    def _since(self, path: str) -> int:
        want = self._wanted.get(path)
        return want.since if want else self._trees.since(path)

    def _is_tree(self, path: str) -> bool:
        if self._is_top(path):
            return True
        return path in self._trees and not os.path.islink(path)  # or links would lead astray

    def _is_top(self, path: str) -> bool:
        return path in self._wanted and self._wanted[path].explicit

    def _scan(self, directory: str) -> None:
        """Want all that is in *directory*: as the program knows it, or as new."""
        real = self._routes.open_up(directory)
        since, is_top = self._since(directory), self._is_top(directory)
        for path in self._trees.scan(directory, real, since, is_top=is_top):
            if self._trees.since(path) == NEW:
                self._running.setdefault(path, None)
            self._todo[path] = None

    def _leave_trees(self) -> None:
        """Forget what only lies in trees that are wanted no more, or that links led to."""
        left = self._trees.leave_all_but(filter(self._is_top, self._wanted))
        if left:
            for path in left:
                if path not in self._wanted:
                    self._forget(path)
            self._survey_all()

    def _forget(self, path: str) -> None:
        self._running.pop(path, None)
        self._todo.pop(path, None)

    def _forget_if_gone(self, path: str, now: Fingerprint | None) -> None:
        """Forget what has come and gone in a tree: should it come again, it is entered again."""
        if now is None and self._running[path] is None and path not in self._wanted:
            self._trees.forget(path)
            self._forget(path)

    # What goes out

    def _is_new(self, path: str) -> bool:
        return self._running[path] is None

    def _judge(self) -> None:
        changes = {}
        for path in sorted(self._candidates):
            here = look(path)
            now = here and here.fingerprint
            if now == self._running[path] or not self._counts(path, now):
                self._candidates.discard(path)
                self._forget_if_gone(path, now)
            elif self._is_known(path, here):
                self._running[path] = now
                self._candidates.discard(path)
            else:
                changes[path] = now
        self._suspects.have_settled()
        delivery = (changes, IOLoop.current())  # on another, what the first led to has ended
        if changes and delivery != self._delivered:
            self._delivered = delivery
            self._deliver(changes)

    def _counts(self, path: str, now: Fingerprint | None) -> bool:
        """Whether it is a change that *path* is this *now*: a deletion only is one in a tree."""
        return now is not None or path in self._trees

    def _is_known(self, path: str, here: Status | None) -> bool:
        """Whether the program runs what is there, or would only write it again."""
        if here and path in self._wanted and self._suspects.is_made(path, here):
            return True
        return self._suspects.is_excused(path, here)
