"""Edit this while the server runs under `python -m evreload`."""

GREETING = "Hello"
