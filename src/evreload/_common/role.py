"""The role of a process that evreload starts, as one argument of its command line.

Runs in: any process, any thread.
Owns: nothing.
"""

from __future__ import annotations

from .record import Record

ALONE = "alone"  # the program without a supervisor, after a restart in place
PLAIN = "plain"  # any program; the runner does nothing after its end: for `python -m evreload`
PROGRAM = "program"  # the program under a supervisor; it waits until it is released
RESTARTED = "restarted"  # the same, restarted in place by evreload.reload(); it does not wait
WORKER = "worker"  # an interpreter that the program's multiprocessing has started
FORK_SERVER = "fork-server"  # forks programs, which then are of the kind PROGRAM
DEFAULT_GRACE = 1.0  # seconds
KINDS = (ALONE, PLAIN, PROGRAM, RESTARTED, WORKER, FORK_SERVER)


class Role(Record):
    """The kind of a process, and its connection to the supervisor.

    *pipes* are descriptors: one to send messages to the supervisor, one to receive messages from
    it, and, if sockets are kept, the socket that passes sockets to and from it. *program* is the
    process ID of the program that a worker belongs to. *lists_modules*: the process sends the list
    of its modules when it ends. *grace*: seconds for requests in progress, in a worker.
    *full_exit*: Python deletes all objects at each end; see `quick_exit`.
    """

    kind: str
    pipes: tuple[int, ...] = ()
    program: int = 0
    lists_modules: bool = False
    grace: float = DEFAULT_GRACE
    full_exit: bool = False

    def __str__(self) -> str:
        words = [self.kind]
        if self.pipes:
            words.append(f"pipes={','.join(map(str, self.pipes))}")
        if self.program:
            words.append(f"program={self.program}")
        if self.lists_modules:
            words.append("lists-modules")
        if self.grace != DEFAULT_GRACE:
            words.append(f"grace={self.grace}")
        if self.full_exit:
            words.append("full-exit")
        return " ".join(words)

    @classmethod
    def parse(cls, argument: str) -> Role:
        """Return the role whose text is *argument*. Raises ValueError if there is none."""
        kind, *words = argument.split(" ")
        if kind not in KINDS:
            raise ValueError(f"there is no role {kind!r}")
        values = dict(word.partition("=")[::2] for word in words)
        pipes = values.get("pipes", "")
        return cls(
            kind,
            tuple(map(int, filter(None, pipes.split(",")))),
            int(values.get("program", 0)),
            "lists-modules" in values,
            float(values.get("grace", DEFAULT_GRACE)),
            "full-exit" in values,
        )
