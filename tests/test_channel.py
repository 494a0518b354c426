"""Records, and how a pipe that gives any part of them loses none."""

from __future__ import annotations

import pytest

from evreload._common.protocol import Records, pack

RECORDS = [
    ("prepared",),
    ("file", "1234", "/a/b.py"),
    ("watch", "5", "/ä/\udcff ü\n.py"),
    ("ended",),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_records_are_put_together_again(size):
    sent = b"".join(map(pack, RECORDS))
    records = Records()
    got = []
    for start in range(0, len(sent), size):
        got += records.feed(sent[start : start + size])
    assert got == RECORDS


def test_half_a_record_is_none():
    records = Records()
    assert list(records.feed(pack(("file", "1", "/a"))[:-1])) == []
    assert list(records.feed(b"\0")) == [("file", "1", "/a")]
