"""Run `python -m evreload -m pytest` in this directory, then edit total.py.

Or run it with `-m unittest`, or with `-w . -m mypy .`: mypy does not import the files that it
checks, so `-w` names what to watch.
"""

import unittest

from total import total


class TotalTest(unittest.TestCase):
    def test_total(self) -> None:
        assert total([1, 2]) == 3
