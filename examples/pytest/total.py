"""What is tested. Edit it while `python -m evreload -m pytest` runs in this directory."""


def total(prices: list[int]) -> int:
    """Return what all of it costs."""
    return sum(prices)
