"""The settings that the command reads from a whole command line."""

from __future__ import annotations

from evreload._settings import Settings
from evreload._supervisor import cli, options


def parse(arguments: list[str]) -> Settings:
    """Return the settings in *arguments*, which include the target. Raises UsageError."""
    ours, target = cli.split_arguments(arguments)
    return options.parse(ours, target)
