"""Story two: the command, the supervisor that it becomes, and the program's end of it."""
