"""What the command learns from the program, in the order it matters."""

from __future__ import annotations

import re
import signal

WRITER = """
import time
with open("stamp.txt", "w") as file:
    file.write(str(time.time_ns()))
print("wrote", flush=True)
time.sleep(1000)
"""

SERVER = """
import socket, time
with socket.socket() as sock:
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    time.sleep(1000)
"""


def test_a_file_that_differs_at_each_start_is_soon_let_be(app):
    app.write("stamp.txt")
    app.write("app.py", WRITER)
    app.start("-m", "evreload", "-w", "stamp.txt", "app.py")
    app.line("stamp.txt is different each time the program starts")
    assert app.count("stamp.txt modified; restarting server") == 5
    app.armed()
    app.write("stamp.txt", "something else")
    app.line("stamp.txt modified; restarting server")


def test_what_is_announced_is_armed_even_if_a_socket_is_bound_at_once(app):
    app.write("app.py", SERVER)
    app.start("-m", "evreload", "app.py")
    count = re.search(r"watching (\d+) files", app.armed())
    assert count
    assert int(count[1]) > 10
    app.write("app.py", "print('other', flush=True)")
    app.line("other")
    app.signal(signal.SIGTERM)
    assert app.wait() == 128 + signal.SIGTERM
