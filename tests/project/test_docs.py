"""What README.md, CONTRIBUTING.md and docs/ say is compared with the code."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import evreload
from evreload._settings import LISTS, OPTIONS, SIGNAL, SWITCH, Settings
from evreload._supervisor import cli
from evreload._supervisor.options import parser
from evreload._watch.observers.observer_set import REMEDIES
from support.command_line import parse
from support.pages import DOCS, PAGES, ROOT

PACKAGE = Path(evreload.__file__).parent

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"python(?: -X \S+| -W \S+)* -m evreload (.*)")

# Options of other programs that the pages mention.
FOREIGN = {
    "--debounce-interval",
    "--debug",
    "--delay",
    "--exclude-patterns",
    "--group",
    "--no-reload",
    "--noreload",
    "--reload",
    "--reload-ignore-worker-failure",
    "--timeout",
    "--workers",
}

# Variables of the environment that only evreload itself uses.
INTERNAL = {"EVRELOAD_EXECUTED", "EVRELOAD_PID", "EVRELOAD_SOCKETS"}


def name(page: Path) -> str:
    return page.name


def fenced(page: Path, *languages: str) -> Iterator[str]:
    for language, block in FENCE.findall(page.read_text()):
        if language in languages:
            yield block


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def commands() -> Iterator[tuple[str, str]]:
    """Yield the arguments of each `python -m evreload` of the pages, after the page's name."""
    for page in PAGES:
        for block in fenced(page, "console", "sh"):
            for line in block.splitlines():
                if match := COMMAND.fullmatch(line.removeprefix("$ ")):
                    yield page.name, match[1]


def existing_options() -> set[str]:
    return {flag for action in parser()._actions for flag in action.option_strings}


def literals(node: ast.expr) -> list[str]:
    """Return the fixed parts of a message."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.split(r"%(?:\.\d)?[sgdfr]", node.value)
    if isinstance(node, ast.JoinedStr):
        constants = [part.value for part in node.values if isinstance(part, ast.Constant)]
        return [value for value in constants if isinstance(value, str)]
    return []


def messages() -> Iterator[tuple[str, str]]:
    """Yield the fixed parts of each problem that is logged, and of each usage error."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            function = node.func
            called = getattr(function, "attr", None) or getattr(function, "id", None)
            if called in ("warning", "error", "exception", "UsageError"):
                for part in literals(node.args[0]):
                    if len(part.strip(" ();:,'")) > 5 and "{PROG}" not in part:
                        yield path.name, part.strip(" ();:,'")


def test_there_are_commands_to_check():
    assert len(list(commands())) > 20


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_a_command_parses(page, command, tmp_path, monkeypatch):
    arguments = shlex.split(command)
    monkeypatch.chdir(tmp_path)
    if set(arguments) & {"--help", "--version"}:
        with pytest.raises(SystemExit, match=r"^0$"):
            parse(arguments)
        return
    given = parser().parse_args(cli.split_arguments(arguments)[0])
    for path in getattr(given, "watch", ()):
        (tmp_path / path).mkdir(exist_ok=True)
    target = parse(arguments).target
    assert target[0] == "-m" or target[0].endswith(".py")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_option_named_exists(page):
    named = re.findall(r"`(--[a-z][a-z-]*)", prose(page))
    assert set(named) <= existing_options() | FOREIGN


def test_every_option_is_in_the_guide_with_its_default():
    rows = [line for line in prose(DOCS / "guide.md").splitlines() if line.startswith("| `-")]
    in_table = {option for row in rows for option in re.findall(r"`(--?[a-z][a-z-]*)`", row)}
    assert existing_options() <= in_table
    with_default = []
    for option in OPTIONS.values():
        if option.type not in (SWITCH, *LISTS):
            default = "SIGTERM" if option.type == SIGNAL else f"{option.shown_default:g}"
            (row,) = (row for row in rows if f"`{option.flags[-1]}`" in row)
            assert f"({default})" in row
            with_default.append(option.flags[-1])
    assert with_default == [
        "--check-time",
        "--debounce",
        "--stop-signal",
        "--stop-timeout",
        "--grace",
    ]


def test_every_option_has_an_example_in_the_guide():
    shown = set()
    for block in fenced(DOCS / "guide.md", "console"):
        shown.update(re.findall(r"(?<=\s)--?[a-z][a-z-]*(?=\s)", block))
    for action in parser()._actions:
        if action.option_strings:
            assert shown.intersection(action.option_strings), action.option_strings


def test_every_key_of_the_project_file_is_in_the_guide(tmp_path, monkeypatch):
    (block,) = fenced(DOCS / "guide.md", "toml")
    keys = tomllib.loads(block)["tool"]["evreload"]
    assert {key.replace("-", "_") for key in keys} == {*OPTIONS} == {*Settings.FIELDS} - {"target"}
    (tmp_path / "pyproject.toml").write_text(block)
    for path in keys["watch"]:
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVRELOAD_POLL", raising=False)
    shown = parse(["app.py"])
    # The values shown there are the defaults, except for the lists.
    assert shown.replace(watch=(), ignore=(), cold=()) == Settings(target=["app.py"])


@pytest.mark.parametrize("public", evreload.__all__)
def test_every_public_name_has_a_heading_in_the_guide(public):
    headings = re.findall(r"^#+ .*$", (DOCS / "guide.md").read_text(), re.MULTILINE)
    assert any(f"`{public}(" in heading for heading in headings)


def test_the_list_of_modules_is_complete():
    page = (DOCS / "how-it-works.md").read_text()
    mapped = re.findall(r"^\|(?:[ \w]*\|)? `([\w/]+(?:\.py|/))` \|", page, re.MULTILINE)
    files = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")]
    modules = {re.sub(r"(?<=observers/)\w+\.py|(?<=/)__init__\.py", "", file) for file in files}
    assert sorted(mapped) == sorted(modules)


def test_every_environment_variable_is_in_the_guide():
    guide = (DOCS / "guide.md").read_text()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"EVRELOAD(_[A-Z]+)?|NO_COLOR", text):
                assert text in INTERNAL or f"`{text}`" in guide, text


@pytest.mark.parametrize(("module", "message"), sorted(set(messages())))
def test_every_problem_is_in_troubleshooting(module, message):
    page = " ".join((DOCS / "troubleshooting.md").read_text().split())
    assert message in page


def test_every_obstacle_and_remedy_is_documented():
    page = " ".join(" ".join(path.read_text().split()) for path in DOCS.glob("*.md"))
    obstacles = [
        part.strip("; ")
        for module in ("_program/restart.py", "_inprocess/workers.py")
        for function in ast.walk(ast.parse((PACKAGE / module).read_text()))
        if isinstance(function, ast.FunctionDef) and function.name == "obstacle"
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and node.value
        for part in literals(node.value)
    ]
    assert len(obstacles) > 5
    for text in [*obstacles, *(part for remedy in REMEDIES.values() for part in remedy)]:
        assert text in page


def test_every_option_and_public_function_is_in_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text()
    named = {"--help", "--version"} | set(re.findall(r"`(--[a-z-]+|\w+(?=\(\)`))", text))
    options = {option for option in existing_options() if option.startswith("--")}
    assert options | set(evreload.__all__) <= named


def test_the_guide_shows_the_signature_of_start():
    signature = inspect.signature(evreload.start)
    names = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    shown = signature.replace(parameters=names, return_annotation=signature.empty)
    assert f"### `start{shown}`" in (DOCS / "guide.md").read_text()


def anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_internal_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", prose(found), re.MULTILINE)
            assert fragment in map(anchor, headings), target


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name)
def test_the_readme_links_to_every_page(page):
    assert f"(docs/{page.name})" in (ROOT / "README.md").read_text()


def table(page: str, after: str) -> dict[str, dict[str, str]]:
    """Return the rows of the first table that comes *after* something, by their first cells."""
    found = re.search(r"(^\|.*\n)+", page[page.index(after) :], re.MULTILINE)
    assert found
    lines = found[0].splitlines()
    columns, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {row[0]: dict(zip(columns, row, strict=True)) for row in rows}


def test_every_figure_of_the_readme_was_measured():
    shown = table((ROOT / "README.md").read_text(), "## How fast it is")
    report = (ROOT / "benchmarks" / "README.md").read_text()
    titles = {
        "ratio to bare start": "**Save to first answer (ms;",
        "refused": "**Connections during these restarts**",
        "system calls a second": "**Idle: 1,000 modules**",
    }
    for column, title in titles.items():
        measured = table(report, title)
        for contender, row in shown.items():
            assert row[column] == measured[contender][column], (contender, column)


def test_the_cost_of_polling_was_measured():
    readme = " ".join((ROOT / "README.md").read_text().split())
    claim = re.search(r"With (\S+) modules this takes (\S+) ms of processor time a minute", readme)
    assert claim
    report = (ROOT / "benchmarks" / "README.md").read_text()
    measured = table(report, f"**Idle: {claim[1]} modules**")["tornado.autoreload"]
    assert claim[2] == measured["CPU, ms a minute"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_python_block_compiles(page):
    for block in fenced(page, "python"):
        compile(block, str(page), "exec")
