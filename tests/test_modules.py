"""What the program is made of. An audit hook can't be removed: each test has its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
import zipfile

import pytest
from evreload._program.runner.imports import source, traceback_files

HEAD = """
import json, os, sys, types
import early
from evreload._program.imports import Imports
notes, wrote = {}, []
imports = Imports()
"""
BEGIN = "imports.begin(notes.__setitem__, wrote.append)\n"
TAIL = """
so_far = dict(imports.so_far(7))
print(json.dumps([notes, so_far, wrote]))
"""


@pytest.fixture
def run(tmp_path):
    """Run code after a few imports; return what was noted, found at the end, and written."""
    directory = tmp_path.resolve()
    for name in ("early", "late", "other"):
        (directory / f"{name}.py").write_text("")

    def run(code, begin=BEGIN):
        program = directory / "program.py"
        program.write_text(HEAD + begin + textwrap.dedent(code) + TAIL)
        answer = subprocess.run(
            [sys.executable, program], cwd=directory, capture_output=True, text=True, check=True
        )
        assert answer.stderr == ""
        notes, so_far, wrote = json.loads(answer.stdout)
        here = str(directory) + os.sep
        return (
            {path.removeprefix(here): read for path, read in notes.items()},
            {path.removeprefix(here): read for path, read in so_far.items()},
            [path.removeprefix(here) for path in wrote],
        )

    run.directory = directory
    return run


# Imports, as they happen


def test_what_comes_from_bytecode_may_be_as_old_as_the_program(run):
    """Two saves of one size within a second: the second would be taken for what was read."""
    code = """
    import py_compile
    py_compile.compile("late.py")
    imports.began = 10**18
    import late
    import other
    """
    notes, _, _ = run(code)
    assert notes["late.py"] == 10**18 - 10_000_000
    assert notes["other.py"] > 10**18


def test_an_import_is_told_at_once_and_what_was_imported_before_at_the_end(run):
    before = time.time_ns()
    notes, so_far, _ = run("import late")
    assert before < notes["late.py"] < time.time_ns()
    assert so_far["early.py"] == so_far["program.py"] == 7
    assert "late.py" not in so_far
    assert json.__file__ in so_far


def test_what_is_imported_while_nobody_listens_is_told_with_its_time(run):
    before = time.time_ns()
    notes, so_far, _ = run("import late", begin="")
    assert notes == {}
    assert before < so_far["late.py"] < time.time_ns()


def test_a_file_that_was_read_is_judged_by_when_it_was_read(run):
    (run.directory / "late.py").write_text("import other")
    notes, _, _ = run("import late")
    assert notes["late.py"] < notes["other.py"] < time.time_ns()


def test_code_that_is_run_without_an_import_is_told(run):
    notes, _, _ = run(
        """
        import importlib.util, runpy
        spec = importlib.util.spec_from_file_location("odd", "late.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        exec(compile(open("other.py").read(), "other.py", "exec"))
        runpy.run_path("early.py")
        """
    )
    assert {"late.py", "other.py", "early.py"} <= set(notes)


def test_what_does_not_compile_is_told(run):
    """The program may catch that, and go on; nothing of the file ever runs."""
    (run.directory / "late.py").write_text("VALUE = (")
    notes, _, _ = run(
        """
        try:
            import late
        except SyntaxError:
            pass
        """
    )
    assert notes["late.py"]


@pytest.mark.parametrize(
    "code",
    [
        "import ast; ast.parse(open('late.py').read(), os.path.abspath('late.py'))",
        "import py_compile; py_compile.compile('late.py')",
        "compile(open('late.py').read(), 'late.py', 'exec')",
        "exec(compile('1', os.path.abspath('page.html'), 'exec'))",
    ],
)
def test_what_is_only_parsed_or_is_no_module_is_not_told(run, code):
    (run.directory / "page.html").write_text("{{ 1 }}")
    notes, _, _ = run(code)
    assert not {"late.py", "page.html"} & set(notes)


@pytest.mark.parametrize("begun", ["imports.has_started()", ""])
@pytest.mark.parametrize("made", ["open(here, 'w').close()", "os.replace('other.py', here)"])
def test_what_the_program_has_made_and_runs_is_known_by_its_content(run, begun, made):
    notes, _, _ = run(
        f"""
        {begun}
        def time_of(path):
            return os.path.exists(path) and os.stat(path).st_ctime_ns
        here = os.path.abspath("late.py")
        known = notes["known"] = []
        known.append(imports.author.has_made(here, time_of(here)))
        {made}
        known.append(imports.author.has_made(here, time_of(here)))
        import late
        known.append(imports.author.has_made(here, time_of(here)))
        os.utime(here)
        while not known.append(imports.author.has_made(here, time_of(here))) and known.pop():
            os.utime(here)  # by the coarse clock that was no later than the import
        with open(here, "w") as file:
            file.write("VALUE = 1")
        known.append(imports.author.has_made(here, time_of(here)))
        os.unlink(here)
        known.append(imports.author.has_made(here, time_of(here)))
        """
    )
    assert notes["known"] == [False, False, True, False, False]


@pytest.mark.parametrize("begun", ["imports.has_started()", ""])
def test_when_a_file_was_last_read_is_known(run, begun):
    for name in ("read", "unread", "written"):
        (run.directory / name).write_text("")
    notes, _, _ = run(
        f"""
        import time
        {begun}
        def read(name):
            open(name).close()
            return time.time_ns()
        read("read"), read("read")
        open("written").close()
        for number in range(2000):
            open("early.py").close()
        between = read("./read")
        open("written", "w").close()
        open("written").close()
        os.makedirs("directory")
        os.close(os.open("directory", os.O_RDONLY))
        notes["read"] = [
            imports.read_at(os.path.abspath(name)) < between
            for name in ("read", "unread", "written", "directory")
        ]
        """
    )
    assert notes["read"] == [True, False, False, False]


def test_of_what_is_read_only_the_latest_is_remembered(run):
    notes, _, _ = run(
        """
        for number in range(3000):
            try:
                open(str(number))
            except OSError:
                pass
        notes["opened"] = len(imports._opened)
        """
    )
    assert notes["opened"] == 1000


def test_a_way_up_from_behind_a_link_is_the_one_that_was_read(run):
    real = run.directory / "real"
    (real / "bin").mkdir(parents=True)
    (real / "lib-1").mkdir()
    (real / "lib-1" / "linked.py").write_text("")
    (real / "lib").symlink_to("lib-1")
    (run.directory / "link").symlink_to("real/bin")
    notes, so_far, wrote = run(
        """
        sys.path[:0] = ["link/..", "link/../lib", "real/../bare"]
        import linked
        try:
            import nowhere
        except ImportError:
            pass
        open("link/../lib/written.py", "w").close()
        assert imports.author.may_have_written(os.path.abspath("real/lib/written.py"))
        imports.end()
        """
    )
    # A link on the way down stays in the name: it may come to lead elsewhere.
    assert {"real/nowhere.py", "bare/nowhere.py", "real/lib/linked.py"} <= set(notes)
    assert "real/lib/linked.py" in so_far
    assert "real/lib/written.py" in wrote


def test_code_without_a_file_is_passed_over(run):
    notes, _, _ = run(
        """
        import collections
        collections.namedtuple("Point", "x y")
        exec("1"), eval("1"), exec(compile("1", "page.html", "exec"))
        """
    )
    assert not [path for path in notes if not path.endswith(".py")]


def test_an_extension_module_is_told(run):
    notes, _, _ = run(
        """
        import importlib.util
        for name in ("_bisect", "_csv", "_lsprof", "_queue", "_ssl"):  # some may be built in
            if importlib.util.find_spec(name).has_location:
                __import__(name)
        """
    )
    assert any(path.endswith(".so") for path in notes)


def test_bytecode_without_its_source_is_told(run):
    notes, so_far, _ = run(
        """
        import py_compile
        py_compile.compile("late.py", cfile="only.pyc")
        import only
        """
    )
    assert "only.pyc" in notes | so_far


def test_a_module_in_an_archive_is_told(run):
    with zipfile.ZipFile(run.directory / "lib.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "import zipped.inner")
        archive.writestr("zipped/inner.py", "")
    notes, _, _ = run("sys.path.append(os.path.abspath('lib.zip')); import zipped")
    told = [os.path.join(run.directory, path) for path in notes if "lib.zip" in path]
    assert {source(path) for path in told} == {str(run.directory / "lib.zip")}


def test_the_places_of_a_missing_module_are_told(run):
    notes, _, _ = run(
        """
        for name in ("nowhere", "early.nowhere", "nowhere"):
            try:
                __import__(name)
            except ImportError:
                pass
        (lambda: [sys.path.append(odd) for odd in (None, 3, "", "relative", b"x")])()
        try:
            import lost
        except ImportError:
            pass
        """
    )
    assert {"nowhere.py", "nowhere", "nowhere/__init__.py"} <= set(notes)
    assert {"lost.py", "relative/lost.py"} <= set(notes)


def test_after_the_end_all_is_told_again(run):
    _, so_far, _ = run("import late; imports.end(); notes.clear(); import other")
    assert {"early.py", "late.py", "other.py"} <= set(so_far)


def test_threads_that_import_meanwhile_do_no_harm(run):
    for number in range(200):
        (run.directory / f"m{number}.py").write_text("")
    notes, so_far, _ = run(
        """
        import threading
        def work(numbers):
            for number in numbers:
                __import__(f"m{number}")
        threads = [threading.Thread(target=work, args=(range(n, 200, 4),)) for n in range(4)]
        for thread in threads: thread.start()
        while any(thread.is_alive() for thread in threads):
            notes.update(imports.so_far(7))
        """
    )
    assert {f"m{number}.py" for number in range(200)} <= set(notes | so_far)


# What sys.modules may hold

HOSTILE = """
import pathlib

class Raising(types.ModuleType):
    def __getattribute__(self, name): raise SystemError(name)

class Property(types.ModuleType):
    __file__ = property(lambda self: 1 / 0)

class Liar:
    __class__ = property(lambda self: 1 / 0)
    __slots__ = ()

class Falsy(str):
    def __bool__(self): raise ValueError

def module(file):
    made = types.ModuleType("x")
    made.__file__ = file
    return made

hostile = [
    None, 0, "text", object(), Liar(), Raising("x"), Property("x"), type, len,
    module(None), module(3), module(""), module("a\\0b"), module([]), module(Falsy("x.py")),
    module(object()),
]
sys.modules.update({f"hostile{i}": thing for i, thing in enumerate(hostile)})
sys.modules.update(
    path=module(pathlib.Path("a_path.py")), bytes=module(b"some_bytes.py"), bad=module(b"\\xff.py")
)
sys.modules[3] = module("a_number.py")
instance = Liar.__mro__[1].__new__(type("Instance", (), {}))
instance.__dict__["__file__"] = "an_instance.py"
sys.modules["instance"] = instance
"""


def test_hostile_modules_are_passed_over_one_by_one(run):
    _, so_far, _ = run(HOSTILE)
    expected = {"a_path.py", "some_bytes.py", "\udcff.py", "a_number.py", "an_instance.py"}
    assert expected | {"early.py"} <= set(so_far)


def test_a_lazy_module_is_not_woken(run):
    (run.directory / "late.py").write_text("print('woken')")
    _, so_far, _ = run(
        """
        import importlib.util
        spec = importlib.util.find_spec("late")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        late = importlib.util.module_from_spec(spec)
        sys.modules["late"] = late
        spec.loader.exec_module(late)
        """
    )
    assert "late.py" in so_far


def test_the_program_never_fails_for_our_sake(run):
    notes, _, _ = run(
        """
        imports.begin(lambda *_: 1 / 0, lambda *_: 1 / 0)
        import late
        open("written", "w").close()
        os.rename("written", "renamed")
        home = os.getcwd()
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        try:
            open("x", "w")
        except FileNotFoundError:
            pass
        exec(compile("1", "relative.py", "exec"))
        os.chdir(home)
        """
    )
    assert notes == {}


# What it wrote itself


def test_what_the_program_writes_as_it_starts_is_known(run):
    _, _, wrote = run(
        """
        assert not imports.author.may_have_written(os.path.abspath("a"))
        for name, mode in (("a", "w"), ("b", "ab"), ("c", "x"), ("a", "r+")):
            open(name, mode).close()
        os.close(os.open("d", os.O_WRONLY | os.O_CREAT))
        os.rename("c", "e")
        os.replace("d", "f")
        open("early.py").close()
        for name in "abef":
            assert imports.author.may_have_written(os.path.abspath(name)), name
        assert not imports.author.may_have_written(os.path.abspath("early.py"))
        imports.has_started()
        open("g", "w").close()
        os.rename("g", "h")
        os.system(":")
        assert not imports.author.may_have_written(os.path.abspath("g"))
        assert not imports.author.may_have_written(os.path.abspath("h"))
        """
    )
    assert {"a", "b", "c", "d", "e", "f"} <= set(wrote)
    assert not {"early.py", "g", "h", ""} & set(wrote)


def test_cached_bytecode_is_not_written_by_the_program(run):
    _, _, wrote = run("import late, other")
    assert (run.directory / "__pycache__").is_dir()
    assert wrote == []


@pytest.mark.parametrize(
    "spawn",
    [
        "os.system(':')",
        "import subprocess; subprocess.run(['true'])",
        "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
        "os.waitpid(os.fork() or os._exit(0), 0)",
    ],
)
def test_who_runs_another_program_may_have_written_anything(run, spawn):
    _, _, wrote = run(f"{spawn}\nassert imports.author.may_have_written('/anything')")
    assert "" in wrote


# Files, from what goes by another name


def test_the_source_of_bytecode(tmp_path):
    code, alone = tmp_path / "x.pyc", tmp_path / "y.pyc"
    for path in (code, alone, tmp_path / "x.py"):
        path.touch()
    assert source(str(code)) == str(tmp_path / "x.py")
    assert source(str(alone)) == str(alone)


def test_the_source_of_what_is_inside_an_archive(tmp_path):
    archive = tmp_path / "lib.zip"
    archive.touch()
    assert source(f"{archive}/pkg/mod.py") == str(archive)
    assert source(str(archive)) == str(archive)


def test_the_source_of_what_is_missing_is_where_it_would_be(tmp_path):
    assert source(str(tmp_path / "no" / "such.py")) == str(tmp_path / "no" / "such.py")


def test_the_files_of_an_error_are_those_of_all_that_led_to_it(tmp_path):
    def fail(name, text="1 / 0"):
        path = str(tmp_path / name)
        try:
            exec(compile(text, path, "exec"))
        except Exception as error:
            return error

    cause, context, member = fail("cause.py"), fail("context.py"), fail("member.py")
    error = ExceptionGroup(
        "all", [member, fail("syntax.py", "exec(compile('(', '/x.py', 'exec'))")]
    )
    error.__cause__ = cause
    cause.__context__ = context
    context.__context__ = error  # around in a circle
    names = {"cause.py", "context.py", "member.py", "syntax.py"}
    assert set(traceback_files(error)) == {str(tmp_path / name) for name in names} | {
        "/x.py",
        __file__,
    }
