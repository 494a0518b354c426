"""Run `python -m evreload -m pytest` here, or `-m unittest`, or `-w . -m mypy .`, and edit.

A type checker imports nothing of what it checks, so it must be told what to watch.
"""

import unittest

from total import total


class TotalTest(unittest.TestCase):
    def test_total(self) -> None:
        assert total([1, 2]) == 3
