"""python -m evreload: run a program, and run it again when it changes.

Runs in: the supervisor, on its main thread.
Owns: the first entry of `sys.path`.
"""

import os
import sys

import evreload

if __name__ == "__main__":
    # The first entry is the working directory. The supervisor must not import the program's modules
    # from it, so the entry is kept only if evreload itself lies there.
    location = os.path.dirname(os.path.dirname(os.path.abspath(evreload.__file__)))
    if not sys.flags.safe_path and sys.path[0] != location:
        del sys.path[0]
    evreload.main()
