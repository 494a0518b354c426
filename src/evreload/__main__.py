"""python -m evreload: run a program, and run it again when it changes."""

import os
import sys

import evreload

if __name__ == "__main__":
    # The working directory comes first: what is in there is the program's, unless we are.
    ours = os.path.dirname(os.path.dirname(os.path.abspath(evreload.__file__)))
    if not sys.flags.safe_path and sys.path[0] != ours:
        del sys.path[0]
    evreload.main()
