"""The script that each restart executes, by its path: it runs the program by `main_module`.

The path works whatever the program does to `sys.path`, the environment or the working directory,
and under every flag of Python. The script is short, since Python compiles it at each start.

Runs in: the program, in both modes; its workers; and the fork server; on the main thread.
Owns: `sys.argv` and `sys.orig_argv`, until `main_module` has read them.
"""

import os
import sys


def _main() -> None:
    """Run the program that `sys.argv` names; `spawn.runner_command` has made it."""
    role, *arguments = sys.argv[1:]
    sys.orig_argv[:] = arguments
    if not sys.flags.safe_path:
        del sys.path[0]  # this file's directory
    above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, above)
    try:
        from evreload._program import main_module
    finally:
        sys.path.remove(above)
    main_module.main(role)


if __name__ == "__main__":
    _main()
