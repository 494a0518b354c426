"""python -m evreload: run a program, and run it again when it changes."""

import sys

from evreload import main

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working directory: what is in there is the program's, not ours
    main()
