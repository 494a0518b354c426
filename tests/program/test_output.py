"""What the program has printed, and Python still buffers."""

from __future__ import annotations

import io
import sys
import types

from evreload._program.output import flush_output


def test_a_stream_that_is_being_written_to_cannot_be_flushed(monkeypatch):
    """As where the request to flush comes in the middle of a write to a full pipe."""

    class Busy:
        def flush(self):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

    monkeypatch.setattr(sys, "stdout", Busy())
    monkeypatch.setattr(sys, "stderr", err := io.TextIOWrapper(io.BytesIO()))
    err.write("buffered")
    flush_output()
    assert err.buffer.getvalue() == b"buffered"


def test_a_program_may_have_no_streams(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    flush_output()


def test_nothing_of_logging_is_flushed_while_it_is_being_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "logging", types.ModuleType("logging"))
    flush_output()
