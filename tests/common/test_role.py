"""What a process is for, as one argument of its command line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evreload._common.role import FORK_SERVER, KINDS, PLAIN, PROGRAM, RESTARTED, WORKER, Role

NUMBERS = st.integers(min_value=0)
ROLES = st.builds(
    Role,
    st.sampled_from(KINDS),
    st.lists(NUMBERS).map(tuple),
    NUMBERS,
    st.booleans(),
    st.floats(min_value=0, allow_infinity=False),
    st.booleans(),
)


@settings(deadline=None)
@given(ROLES)
def test_a_role_survives_the_command_line(role):
    assert Role.parse(str(role)) == role


@pytest.mark.parametrize(
    ("role", "argument"),
    [
        (Role(PLAIN), "plain"),
        (Role(PROGRAM, (3, 4, 5)), "program pipes=3,4,5"),
        (Role(WORKER, (3, 4), 17), "worker pipes=3,4 program=17"),
        (Role(FORK_SERVER, (3,), 0, True), "fork-server pipes=3 lists-modules"),
        (Role(RESTARTED, (3, 4), grace=0.5), "restarted pipes=3,4 grace=0.5"),
        (Role(WORKER, (3, 4), 17, full_exit=True), "worker pipes=3,4 program=17 full-exit"),
    ],
)
def test_a_process_list_shows_the_role(role, argument):
    assert str(role) == argument


@pytest.mark.parametrize("argument", ["", "-", "3,4,5", "forks", "program pipes=x"])
def test_an_argument_that_is_no_role_is_refused(argument):
    with pytest.raises(ValueError, match=r"there is no role|invalid literal for int"):
        Role.parse(argument)
