"""A small Tornado server that restarts when its source or its templates change."""

import argparse
import asyncio
from datetime import datetime
from pathlib import Path

import greeting
import tornado.web

import evreload

HERE = Path(__file__).resolve().parent
STARTED = datetime.now().astimezone()


class Page(tornado.web.RequestHandler):
    def get(self) -> None:
        self.render("index.html", greeting=greeting.greet(datetime.now().astimezone()))


class Now(tornado.web.RequestHandler):
    def get(self) -> None:
        now = datetime.now().astimezone()
        self.write({"now": now.isoformat(), "started": STARTED.isoformat()})


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8888)
    port = parser.parse_args().port

    app = tornado.web.Application(
        [("/", Page), ("/api/now", Now)], template_path=str(HERE / "templates")
    )
    evreload.watch(str(HERE / "templates"))
    evreload.start()
    app.listen(port, "127.0.0.1")
    print(f"Open http://127.0.0.1:{port}, then edit {HERE / 'greeting.py'}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
