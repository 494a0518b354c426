"""Servers that answer `VALUE PID`, and functions that send requests and restart them."""

from __future__ import annotations

import contextlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.deadline import DEADLINE

# Answers at once, or after so many seconds, which it says.
PAGE = """\
class Page(tornado.web.RequestHandler):
    async def get(self):
        if sleep := float(self.get_argument("sleep", "0")):
            print("asked", flush=True)
            await asyncio.sleep(sleep)
        self.write(f"{helper.VALUE} {os.getpid()}")
"""

TORNADO = """
import asyncio, os, sys
import tornado.web
import helper

PAGE

class Events(tornado.web.RequestHandler):
    async def get(self):
        self.set_header("Content-Type", "text/event-stream")
        self.write("data: first\\n\\n")
        await self.flush()
        await asyncio.Event().wait()

async def main():
    application = tornado.web.Application([("/", Page), ("/events", Events)])
    application.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
""".replace("PAGE\n", PAGE)


ASYNCIO = """
import asyncio, os, sys
import helper

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    body = f"{helper.VALUE} {os.getpid()}".encode()
    writer.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

"""


UVLOOP = ASYNCIO + "import uvloop\nuvloop.run(main())\n"
ASYNCIO += "asyncio.run(main())\n"


HTTP_SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import helper

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{helper.VALUE} {os.getpid()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""


WORKERS = """
import asyncio, os, sys
import tornado.httpserver, tornado.netutil, tornado.process, tornado.web
import helper

PAGE

if sys.argv[2] == "shared":
    sockets = tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1")
    tornado.process.fork_processes(3)
else:
    tornado.process.fork_processes(3)
    sockets = tornado.netutil.bind_sockets(int(sys.argv[1]), "127.0.0.1", reuse_port=True)

async def main():
    tornado.httpserver.HTTPServer(tornado.web.Application([("/", Page)])).add_sockets(sockets)
    await asyncio.Event().wait()

asyncio.run(main())
""".replace("PAGE\n", PAGE)


IN_PLACE = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import tornado.httpserver, tornado.web
import helper

PAGE

async def main():
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Page)]))
    server.add_sockets(evreload.bind_sockets(int(sys.argv[1]), "127.0.0.1"))
    evreload.start()
    await asyncio.Event().wait()

asyncio.run(main())
""".replace("PAGE\n", PAGE)


def ask(port, path="/", timeout=DEADLINE):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def await_value(port, value, path="/"):
    """Send requests until the answer is *value*; return the process id in that answer."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer, _, pid = ask(port, path).partition(" ")
            if answer == str(value):
                return int(pid)
        time.sleep(0.005)
    return pytest.fail(f"never answered {value}")


def start(app, port, program, *options, arguments=()):
    app.write("helper.py", "VALUE = 0")
    app.write("app.py", program)
    app.start("-m", "evreload", *options, "app.py", str(port), *arguments)
    await_value(port, 0)
    app.await_watching()


def restart(app, port, value):
    app.write("helper.py", f"VALUE = {value}")
    return await_value(port, value)


@contextlib.contextmanager
def requests_in_progress(app, port):
    """Run the block during twenty slow requests; check that the first code answers each of them."""
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(ask, port, "/?sleep=0.3") for _ in range(20)]
        for _ in answers:
            app.line("asked")
        yield
        assert [answer.result().split()[0] for answer in answers] == ["0"] * 20
