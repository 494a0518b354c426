"""From a save to the first answer, warm and cold, compared with a bare start of the program."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from .contenders import BARE, EVRELOAD, MODULE, PYTHON, Contender, version
from .heavy import IMPORTS
from .programs import copy_programs, write_modules, write_programs
from .results import SPREAD, Table, ratio, spread
from .runners import Bare, Runner, save_and_follow, side_by_side, take_turns
from .scale import Scale

DJANGO = """
import sys
import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path
import helper

contrib = ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
middleware = ("sessions.middleware.Session", "auth.middleware.Authentication",
              "messages.middleware.Message")
settings.configure(
    DEBUG=True, ROOT_URLCONF=__name__, SECRET_KEY="-", ALLOWED_HOSTS=["*"], STATIC_URL="static/",
    INSTALLED_APPS=["django.contrib." + name for name in contrib],
    MIDDLEWARE=["django.contrib." + name + "Middleware" for name in middleware],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from django.contrib import admin
urlpatterns = [
    path("admin/", admin.site.urls),
    path("", lambda request: HttpResponse(str(helper.value()))),
]
execute_from_command_line(sys.argv)
"""
FASTAPI = """
import fastapi, pydantic
from fastapi.responses import PlainTextResponse
import helper

class Address(pydantic.BaseModel):
    street: str
    city: str = "Berlin"

class Person(pydantic.BaseModel):
    name: str
    email: str | None = None
    addresses: list[Address] = []

class Order(pydantic.BaseModel):
    customer: Person
    amount: float = pydantic.Field(gt=0)

app = fastapi.FastAPI()

@app.post("/orders")
def order(order: Order) -> Order:
    return order

@app.get("/", response_class=PlainTextResponse)
def index():
    return str(helper.value())
"""
SUITE = """
import pytest
import helper

@pytest.mark.parametrize("number", range(10))
def test_value(number):
    assert helper.value() >= 0
"""
# Writes the value at its end, in place of the answer of a server.
CONFTEST = """
import os
import helper

def pytest_unconfigure(config):
    with open(os.environ["ENDS"], "a") as file:
        file.write(f"{helper.value()}\\n")
"""
PRELOADED_WITH = ("evreload", "pathspec", "tornado", "watchdog")


class Suite(Runner):
    """A test run instead of a server: its answer is the value that it writes at its end."""

    def __init__(self, contender: Contender, directory: Path) -> None:
        super().__init__(contender, directory)
        self._ends = directory.with_name(f"{directory.name}.ends")
        self._ends.touch()
        self.variables["ENDS"] = str(self._ends)

    def ask(self, timeout: float) -> str:
        return self._ends.read_text().rpartition("\n")[0].rpartition("\n")[2]

    def alive(self) -> bool:
        return True


class BareSuite(Suite, Bare):
    """A test run without a reloader."""


@dataclass(frozen=True)
class Case:
    """A program: its arguments after `python` or `python -m evreload`, and what it needs."""

    name: str
    target: tuple[str, ...]
    packages: tuple[str, ...] = ()
    more: str = ""  # imported with everything else
    modules: int = 50  # of the project
    python: str = sys.executable
    is_suite: bool = False

    def contender(self, way: str) -> Contender:
        options = {"bare": (), "cold": ("-m", "evreload"), "warm": ("-m", "evreload", "--warm")}
        command = (self.python, *options[way], *self.target)
        return replace(BARE["tornado"], name=f"{self.name}, {way}", command=command)

    def runner(self, way: str, directory: Path) -> Runner:
        kinds = ((Runner, Bare), (Suite, BareSuite))
        return kinds[self.is_suite][way == "bare"](self.contender(way), directory)


def measure(place: Path, scale: Scale) -> list[Table]:
    """Save once in each round for each program: bare, cold and warm."""
    cases = [one for one in _cases(place, scale) if all(map(version, one.packages))]
    absent = next(one.absent for one in EVRELOAD if one.option == "--warm")
    ways = ("bare", "cold") if absent else ("bare", "cold", "warm")
    runners: dict[tuple[str, str], Runner] = {}
    for number, case in enumerate(cases):
        pattern = place / f"case{number}"
        _write(pattern, case)
        for way in ways:
            directory = place / f"case{number}-{way}"
            copy_programs(pattern, directory, "py")
            runners[case.name, way] = case.runner(way, directory)
    with side_by_side(list(runners.values()), "warm"):
        take_turns(list(runners.values()), scale.warm, "warm", save_and_follow)
    table = _table(cases, runners, scale)
    table.remarks.append("With " + ", ".join(_versions(cases)) + ".")
    if absent:
        table.remarks.append(f"Warm is left out: {absent}.")
    return [table]


def _versions(cases: Sequence[Case]) -> list[str]:
    names = dict.fromkeys(name for case in cases for name in case.packages)
    return [f"{name} {version(name)}" for name in ("tornado", *names)]


def _cases(place: Path, scale: Scale) -> list[Case]:
    app = PYTHON[1:]
    imports = "".join(f"import {name}\n" for name in IMPORTS.values())
    python = _environment(place / "environment", scale.preloaded)
    return [
        Case("Tornado", app),
        Case("Tornado, NumPy, SciPy, pandas, SQLAlchemy", app, tuple(IMPORTS), imports),
        Case(
            "Django with admin",
            ("admin_app.py", "runserver", "--noreload", "127.0.0.1:PORT"),
            ("django",),
        ),
        Case(
            "FastAPI under uvicorn",
            ("-m", "uvicorn", "models_app:app", "--host", "127.0.0.1", "--port", "PORT"),
            ("fastapi", "uvicorn"),
        ),
        Case("pytest, ten tests", ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_ten.py"),
             ("pytest",), is_suite=True),
        *(
            Case(f"Tornado, {count:,} modules installed", app, (), f"import preloaded{count}\n", 0,
                 python)
            for count in scale.preloaded
        ),
    ]  # fmt: skip


def _write(directory: Path, case: Case) -> None:
    write_programs(directory, case.modules, ["py"], case.more)
    for name, source in (
        ("admin_app.py", DJANGO),
        ("models_app.py", FASTAPI),
        ("test_ten.py", SUITE),
        ("conftest.py", CONFTEST),
    ):
        (directory / name).write_text(source)


def _environment(directory: Path, counts: Sequence[int]) -> str:
    """Make a virtual environment with *counts* modules installed; return its interpreter."""
    subprocess.run([*MODULE, "venv", "--without-pip", str(directory)], check=True, timeout=60)
    variables = {"base": str(directory), "platbase": str(directory)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=variables))
    for name in PRELOADED_WITH:
        spec = find_spec(name)
        assert spec
        assert spec.submodule_search_locations
        shutil.copytree(spec.submodule_search_locations[0], site / name)
    start = 0
    for count in counts:
        write_modules(site, count, start=start, into=f"preloaded{count}")
        start += count
    return str(directory / "bin" / "python")


def _table(cases: Sequence[Case], runners: dict[tuple[str, str], Runner], scale: Scale) -> Table:
    table = Table(
        f"Save to first answer (of pytest: to its end), warm and cold (ms; {scale.warm} saves)",
        (
            "bare start, median",
            "cold, median",
            "cold, ratio",
            "warm, ratio",
            *(f"warm, {one}" for one in SPREAD),
            "lost",
        ),
        bars="warm, ratio",
    )
    for case in cases:
        mine = {way: one for (name, way), one in runners.items() if name == case.name}
        times = {way: mine[way].times if way in mine else [] for way in ("bare", "cold", "warm")}
        table.add(
            case.name,
            spread(times["bare"])[0],
            spread(times["cold"])[0],
            ratio(times["cold"], times["bare"]),
            ratio(times["warm"], times["bare"]),
            *spread(times["warm"]),
            sum(seen.lost for one in mine.values() for seen in one.seen),
            samples=times["warm"],
        )
        table.remarks += [
            f"{one.contender.name} failed: {one.failed}" for one in mine.values() if one.failed
        ]
    return table
