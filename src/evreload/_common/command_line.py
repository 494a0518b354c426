"""Splits a command line of Python into its flags and what it runs.

Runs in: any process, any thread.
Owns: nothing.
"""

from __future__ import annotations

import os

# CPython's options that take a value, attached or in the next argument; see `python --help`.
FLAGS_WITH_VALUE = "WX"
TARGET_FLAGS = "cm"
LONG_FLAG_WITH_VALUE = "--check-hash-based-pycs"


def split_command_line(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split a Python command line, less the interpreter, into its flags and its target.

    The target begins with ``-m``, ``-c``, or a path, and includes the program's own arguments;
    it is empty for an interactive interpreter. ``-mname`` becomes ``-m name``.
    """
    rest = list(arguments)
    flags: list[str] = []
    while rest:
        argument = rest[0]
        if argument == "-" or not argument.startswith("-"):
            return flags, rest
        if argument == "--":  # what follows is a path, even if it looks like a flag, or "-"
            target = rest[1:]
            if target and target[0].startswith("-") and target[0] != "-":
                target[0] = os.path.join(os.curdir, target[0])
            return flags, target
        if argument.startswith("--"):
            count = 2 if argument == LONG_FLAG_WITH_VALUE else 1
            flags += rest[:count]
            rest = rest[count:]
            continue
        # Letters may stand together; the rest after one that takes a value is its value.
        index = next(
            (i for i, c in enumerate(argument) if c in FLAGS_WITH_VALUE + TARGET_FLAGS), None
        )
        if index is not None and argument[index] in TARGET_FLAGS:
            flags += [argument[:index]] if index > 1 else []
            value = argument[index + 1 :]
            return flags, ["-" + argument[index], *([value] if value else []), *rest[1:]]
        count = 2 if index is not None and index == len(argument) - 1 else 1
        flags += rest[:count]
        rest = rest[count:]
    return flags, []
