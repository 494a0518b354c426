"""Immutable records with named fields."""

from __future__ import annotations

import pytest

from evreload._common.record import Record


class Point(Record):
    x: int
    y: int = 0


class Point3(Point):
    z: int = 0


def test_fields_are_set_in_order_or_by_name_and_else_have_their_defaults():
    assert Point(1, 2) == Point(1, y=2) == Point(y=2, x=1)
    assert (Point(1).x, Point(1).y) == (1, 0)


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((), {"y": 1}), ((1, 2, 3), {}), ((1,), {"x": 2}), ((1,), {"other": 2})],
    ids=["none", "lacking", "too many", "repeated", "unknown"],
)
def test_wrong_fields_are_refused(values, named):
    with pytest.raises(TypeError, match="Point"):
        Point(*values, **named)


def test_a_subclass_adds_fields_and_is_never_equal_to_its_base():
    assert Point3(1, 2, 3).as_dict() == {"x": 1, "y": 2, "z": 3}
    assert Point3(1, 2) != Point(1, 2)
    assert list(Point.FIELDS) == ["x", "y"]


def test_a_record_cannot_be_changed():
    point = Point(1)
    with pytest.raises(AttributeError, match="x cannot be changed"):
        point.x = 2  # type: ignore[misc]
    assert point.x == 1


def test_a_copy_has_other_values_in_some_fields():
    point = Point(1, 2)
    assert point.replace(y=3) == Point(1, 3)
    assert point == Point(1, 2)
    with pytest.raises(TypeError):
        point.replace(other=3)


def test_equal_records_have_equal_hashes():
    assert len({Point(1, 2), Point(1, 2), Point(2, 1), Point3(1, 2)}) == 3


def test_a_record_can_be_matched():
    match Point3(1, 2, 3):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_the_fields_are_shown():
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"
