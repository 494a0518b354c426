"""How long a test waits at most."""

DEADLINE = 60  # seconds; generous, since only a failing test waits that long
