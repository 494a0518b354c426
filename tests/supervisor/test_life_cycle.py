"""The life cycle of a run: each transition with its reason, and what no sequence of events does."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from evreload._supervisor.life_cycle import TRANSITIONS, Event, State, next_state

# Each row of the table once more: the state, the event, the state after it, and the reason.
ROWS = [
    (State.SPARE, Event.STARTED, State.LOADING, "it was released, and its first line runs next"),
    (State.LOADING, Event.UP, State.LIVING, "it has bound a socket, or has run for a while"),
    (State.LIVING, Event.RESTARTED_IN_PLACE, State.SPARE, "its new interpreter starts"),
    (State.LOADING, Event.RESTARTED_IN_PLACE, State.SPARE, "the same, before it was up"),
    (State.SPARE, Event.STOP, State.STOPPING, "it is stopped before its first line"),
    (State.LOADING, Event.DRAIN, State.DRAINING, "it may have hooks before it is up"),
    (State.LIVING, Event.DRAIN, State.DRAINING, "it may have requests in progress, and hooks"),
    (State.LOADING, Event.STOP, State.STOPPING, "it cannot be drained: it receives no messages"),
    (State.LIVING, Event.STOP, State.STOPPING, "it cannot be drained: it receives no messages"),
    (State.DRAINING, Event.STOP, State.STOPPING, "it is drained, or its time is over"),
    (State.SPARE, Event.EXIT, State.EXITED, "a process may end at any time"),
    (State.LOADING, Event.EXIT, State.EXITED, "a process may end at any time"),
    (State.LIVING, Event.EXIT, State.EXITED, "a process may end at any time"),
    (State.DRAINING, Event.EXIT, State.EXITED, "a hook may end it"),
    (State.STOPPING, Event.EXIT, State.EXITED, "it was asked to end"),
    (State.EXITED, Event.EXIT, State.EXITED, "an end that is noticed twice changes nothing"),
]
LISTED = {(state, event) for state, event, _, _ in ROWS}


def name(value: object) -> str | None:
    return value.name if isinstance(value, (State, Event)) else None


@pytest.mark.parametrize(("state", "event", "after", "reason"), ROWS, ids=name)
def test_each_transition_of_the_table(state, event, after, reason):
    assert next_state(state, event) is after, reason


def test_every_transition_of_the_table_is_tested_once():
    assert len(ROWS) == len(LISTED)
    assert {(state, event): after for state, event, after, _ in ROWS} == TRANSITIONS


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in itertools.product(State, Event) if pair not in LISTED],
    ids=name,
)
def test_an_event_that_is_not_listed_leaves_the_state_alone(state, event):
    assert next_state(state, event) is state


class AnyEvents(RuleBasedStateMachine):
    """A run to which anything happens, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.SPARE
        self.had_exited = self.was_stopped = False

    @rule(event=st.sampled_from(Event))
    def happen(self, event):
        self.state = next_state(self.state, event)
        self.had_exited |= self.state is State.EXITED
        self.was_stopped |= self.state is State.STOPPING

    @invariant()
    def never_leaves_exited(self):
        assert self.state is State.EXITED or not self.had_exited

    @invariant()
    def never_returns_from_stopping(self):
        assert self.state in (State.STOPPING, State.EXITED) or not self.was_stopped


TestAnyEvents = AnyEvents.TestCase
TestAnyEvents.settings = hypothesis_settings(deadline=None)
