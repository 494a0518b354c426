"""The tested module. Edit it while `python -m evreload -m pytest` runs in this directory."""


def total(prices: list[int]) -> int:
    """Return the sum of *prices*."""
    return sum(prices)
