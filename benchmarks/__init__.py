"""How fast evreload and other reloaders are, and what they cost: `python -m benchmarks`."""
