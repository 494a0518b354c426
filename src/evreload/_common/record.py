"""Immutable records with named, typed fields, as frozen dataclasses are.

Importing `dataclasses` would cost each start of a program 9 ms, and `typing` 2 ms.

Runs in: any process, any thread.
Owns: nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**options):
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Record:
    """A base class: the annotations of a subclass are its fields; their values are the defaults.

    Two records are equal if they are of one class and all their fields are equal.
    """

    FIELDS: ClassVar[dict[str, str]] = {}  # names and annotations, in order

    def __init_subclass__(cls) -> None:
        cls.FIELDS = {**cls.FIELDS, **cls.__annotations__}
        # mypy refuses an assignment to it.
        type.__setattr__(cls, "__match_args__", tuple(cls.FIELDS))

    def __init__(self, *values: Any, **named: Any) -> None:
        """Set the fields, in order or by name. Raises TypeError as a call of a function does."""
        name = type(self).__name__
        if len(values) > len(self.FIELDS):
            raise TypeError(f"{name} has {len(self.FIELDS)} fields, not {len(values)}")
        given = dict(zip(self.FIELDS, values, strict=False))
        for field, value in named.items():
            if field in given or field not in self.FIELDS:
                raise TypeError(f"{name} got an unexpected or repeated field {field!r}")
            given[field] = value
        for field in self.FIELDS:
            if field in given:
                self.__dict__[field] = given[field]
            elif not hasattr(type(self), field):
                raise TypeError(f"{name} needs the field {field!r}")

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values in some fields."""
        return type(self)(**{**self.as_dict(), **changes})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, and their values."""
        return {field: getattr(self, field) for field in self.FIELDS}

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{field} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((type(self), *self.as_dict().values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{field}={value!r}" for field, value in self.as_dict().items())
        return f"{type(self).__name__}({fields})"
