"""The measured programs: servers of each kind, the modules that they import, and saving these.

Every server answers each request with `helper.value()`: the answer shows which version of `helper`
it serves. `starting` records each start, and sleeps for PAUSE seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

MODULES_IN_A_PACKAGE = 20
FILES_IN_A_DIRECTORY = 5

TORNADO = """
import asyncio, os
import tornado.web
import everything, helper, starting

class Handler(tornado.web.RequestHandler):
    def get(self):
        self.write(str(helper.value()))

async def main():
    tornado.web.Application([("/", Handler)]).listen(int(os.environ["PORT"]), "127.0.0.1")
    exec(os.environ.get("START", ""))
    await asyncio.Event().wait()

asyncio.run(main())
"""
ASGI = """
import everything, helper, starting

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(helper.value()).encode()})
"""
WSGI = """
import everything, helper, starting

def app(environ, start_response):
    start_response("200 OK", [])
    return [str(helper.value()).encode()]
"""
FLASK = """
import flask
import everything, helper, starting

app = flask.Flask(__name__)

@app.get("/")
def index():
    return str(helper.value())
"""
DJANGO = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    DEBUG=True, ROOT_URLCONF="django_urls", SECRET_KEY="-", ALLOWED_HOSTS=["*"]
)
execute_from_command_line(sys.argv)
"""
DJANGO_URLS = """
from django.http import HttpResponse
from django.urls import path
import everything, helper, starting

urlpatterns = [path("", lambda request: HttpResponse(str(helper.value())))]
"""
NODE = """
import http from "node:http"
import "./everything.mjs"
import { value } from "./helper.mjs"
import "./starting.mjs"

http.createServer((request, response) => response.end(String(value())))
  .listen(Number(process.env.PORT), "127.0.0.1")
"""
BUN = """
import "./everything.mjs"
import { value } from "./helper.mjs"
import "./starting.mjs"

Bun.serve({
  port: Number(process.env.PORT),
  hostname: "127.0.0.1",
  fetch: () => new Response(String(value())),
})
"""
STARTING = """
import os, time

if path := os.environ.get("STARTS"):
    with open(path, "a") as file:
        file.write("started\\n")
    time.sleep(float(os.environ.get("PAUSE", "0")))
"""
STARTING_MJS = """
import { appendFileSync } from "node:fs"

if (process.env.STARTS) {
  appendFileSync(process.env.STARTS, "started\\n")
  const pause = Number(process.env.PAUSE ?? 0) * 1000
  if (pause) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause)
}
"""

# The servers of a directory by their file names.
PROGRAMS = {
    "py": {
        "tornado_app.py": TORNADO,
        "asgi_app.py": ASGI,
        "wsgi_app.py": WSGI,
        "flask_app.py": FLASK,
        "django_app.py": DJANGO,
        "django_urls.py": DJANGO_URLS,
        "starting.py": STARTING,
    },
    "mjs": {"node_app.mjs": NODE, "bun_app.mjs": BUN, "starting.mjs": STARTING_MJS},
}
HELPERS = {
    "py": "def value():\n    return {}  # {}\n",
    "mjs": "export function value() {{\n  return {}  // {}\n}}\n",
}
BROKEN = {"py": "def value(:\n    return 0\n", "mjs": "export function value( {\n"}
MODULE = {"py": "VALUE = {}  # {}\n", "mjs": "export const VALUE = {}  // {}\n"}
# The value that all modules have, or 'mixed' if they differ.
TOTAL = {
    "py": (
        "import importlib\n"
        "modules = [importlib.import_module(name) for name in {}]\n"
        "def value():\n"
        "    values = {{module.VALUE for module in modules}}\n"
        "    return values.pop() if len(values) == 1 else 'mixed'\n"
    ),
    "mjs": (
        "const modules = await Promise.all({}.map(name => import("
        "'./' + name.replaceAll('.', '/') + '.mjs')))\n"
        "export function value() {{\n"
        "  const values = new Set(modules.map(module => module.VALUE))\n"
        "  return values.size == 1 ? [...values][0] : 'mixed'\n"
        "}}\n"
    ),
}


def write_modules(
    directory: Path, count: int, language: str = "py", *, start: int = 0, into: str = "everything"
) -> list[str]:
    """Write *count* modules, and one named *into* that imports them all; return their names."""
    names = []
    for number in range(start, start + count):
        package = directory / f"package{number // MODULES_IN_A_PACKAGE}"
        package.mkdir(parents=True, exist_ok=True)
        names.append(f"{package.name}.module{number}")
        (package / f"module{number}.{language}").write_text(different(MODULE[language], number))
    imports = {
        "py": "".join(f"import {name}\n" for name in names),
        "mjs": "".join(f'import "./{name.replace(".", "/")}.mjs"\n' for name in names),
    }
    (directory / f"{into}.{language}").write_text(imports[language])
    return names


def write_programs(directory: Path, modules: int, languages: Iterable[str], more: str = "") -> None:
    """Write all servers of *languages*, which import *modules* modules and `helper`.

    *more* is added to `everything.py`. The bytecode is written, too.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for language in languages:
        write_modules(directory, modules, language)
        for name, source in PROGRAMS[language].items():
            (directory / name).write_text(source)
        save(directory, 0, language)
    if "py" in languages:
        with (directory / "everything.py").open("a") as file:
            file.write(more)
        compiled = [sys.executable, "-m", "compileall", "-q", str(directory)]
        subprocess.run(compiled, check=True, timeout=120)


def copy_programs(source: Path, directory: Path, language: str) -> None:
    """Create *directory* with links to the files of *source*, but its own `helper`."""
    link_tree(source, directory)
    save(directory, 0, language)


def link_tree(source: Path, directory: Path) -> None:
    """Create *directory* with hard links to the files of *source*, which must not be changed."""
    subprocess.run(["cp", "-al", source, directory], check=True, timeout=300)


def write_others(directory: Path, directories: int) -> None:
    """Write files that no program imports."""
    for number in range(directories):
        place = directory / "others" / f"group{number // 100}" / f"directory{number}"
        place.mkdir(parents=True)
        for file in range(FILES_IN_A_DIRECTORY):
            (place / f"file{file}.txt").touch()


def different(template: str, value: object) -> str:
    """Fill in *value*; the length differs from value to value.

    So no contender runs stale bytecode, which Python uses if time (in seconds) and size are equal.
    """
    return template.format(value, "x" * (hash(value) % 7))


def save(directory: Path, value: int, language: str, *, in_place: bool = False) -> float:
    """Save `helper` with *value*, in place or by a rename; return the time before."""
    return save_text(directory, different(HELPERS[language], value), language, in_place=in_place)


def save_text(directory: Path, text: str, language: str, *, in_place: bool = False) -> float:
    path = directory / f"helper.{language}"
    began = time.perf_counter()
    if in_place:
        path.write_text(text)
    else:
        beside = directory / f"helper.{language}~"
        beside.write_text(text)
        beside.replace(path)
    return began
