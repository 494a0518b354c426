"""python -m evreload: run a program, and run it again when it changes."""

from evreload import main

if __name__ == "__main__":
    main()
