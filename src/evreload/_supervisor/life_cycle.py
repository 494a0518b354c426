"""The life cycle of a run of the program: its states, and the only table of transitions.

Runs in: the supervisor, on its loop's thread.
Owns: nothing; each `ProgramProcess` owns its state.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What a run of the program does at present."""

    SPARE = "spare"  # Python and the client are ready; the program's first line has not run
    LOADING = "loading"  # the program runs, but is not known to be up
    LIVING = "living"  # the program is up: it has bound a socket, or has run for a while
    DRAINING = "draining"  # it finishes requests and runs hooks, before it is stopped
    STOPPING = "stopping"  # it may end now, or gets the stop signal: its end is expected
    EXITED = "exited"


class Event(Enum):
    """What happens to a run of the program."""

    STARTED = "its first line runs next"
    UP = "it has bound a socket, or has run for a while"
    RESTARTED_IN_PLACE = "it replaces itself by an exec, in the same process"
    DRAIN = "the supervisor asks it to finish its requests"
    STOP = "it has been drained, or the supervisor sends the stop signal"
    EXIT = "its process has ended"


# The state after each event. An event that is not listed for a state changes nothing: a message
# may arrive late, such as that of a bound socket after the stop signal was sent.
TRANSITIONS = {
    (State.SPARE, Event.STARTED): State.LOADING,
    (State.LOADING, Event.UP): State.LIVING,
    (State.LIVING, Event.RESTARTED_IN_PLACE): State.SPARE,  # until it has started once more
    (State.LOADING, Event.RESTARTED_IN_PLACE): State.SPARE,
    # It was released, but is stopped before its first line.
    (State.SPARE, Event.STOP): State.STOPPING,
    (State.LOADING, Event.DRAIN): State.DRAINING,
    (State.LIVING, Event.DRAIN): State.DRAINING,
    # A program that cannot be drained is stopped at once.
    (State.LOADING, Event.STOP): State.STOPPING,
    (State.LIVING, Event.STOP): State.STOPPING,
    (State.DRAINING, Event.STOP): State.STOPPING,
    **{(state, Event.EXIT): State.EXITED for state in State},
}


def next_state(state: State, event: Event) -> State:
    """Return the state after *event* in *state*."""
    return TRANSITIONS.get((state, event), state)
