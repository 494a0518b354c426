"""Which files the program is made of.

An audit hook cannot be removed, so each test runs its program in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

from evreload._common.source import source_file

HEAD = """
import json, os, sys, types
import early
from evreload._program.imports import Imports
noted, written = {}, []
imports = Imports()
"""
BEGIN = "imports.begin(noted.__setitem__, written.append)\n"
TAIL = """
unreported = dict(imports.unreported(7))
print(json.dumps([noted, unreported, written]))
"""


class Runner:
    """Runs code in *directory* after a few imports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("early", "late", "other"):
            (directory / f"{name}.py").write_text("")

    def __call__(
        self, code: str, begin: str = BEGIN
    ) -> tuple[dict[str, int], dict[str, int], list[str]]:
        """Return the files noted, unreported, and written.

        Those noted were reported at once. Each file that was read comes with the time of reading.
        """
        program = self.directory / "program.py"
        program.write_text(HEAD + begin + textwrap.dedent(code) + TAIL)
        answer = subprocess.run(
            [sys.executable, program],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stderr == ""
        noted, unreported, written = json.loads(answer.stdout)
        here = str(self.directory) + os.sep
        return (
            {path.removeprefix(here): read_ns for path, read_ns in noted.items()},
            {path.removeprefix(here): read_ns for path, read_ns in unreported.items()},
            [path.removeprefix(here) for path in written],
        )


@pytest.fixture
def run(tmp_path):
    return Runner(tmp_path.resolve())


# Imports, as they happen


def test_code_from_bytecode_may_be_as_old_as_the_program(run):
    """Of two saves of one size within a second, the second would be taken for the one read."""
    code = """
    imports.started_ns = 10**18
    import late
    import other
    """
    py_compile.compile(str(run.directory / "late.py"))
    noted, _, _ = run(code)
    assert noted["late.py"] == 10**18 - 10_000_000
    assert noted["other.py"] > 10**18


def test_an_import_is_noted_at_once_and_earlier_ones_on_request(run):
    before = time.time_ns()
    noted, unreported, _ = run("import late")
    assert before < noted["late.py"] < time.time_ns()
    assert unreported["early.py"] == unreported["program.py"] == 7
    assert "late.py" not in unreported
    assert json.__file__ in unreported


def test_earlier_imports_are_reported_however_many_follow(run):
    code = """
    for number in range(500):
        open(f"late{number}.py", "w").close()
        __import__(f"late{number}")
    """
    _, unreported, _ = run(code)
    assert unreported["early.py"] == 7


def test_an_import_before_the_begin_is_reported_with_its_time(run):
    before = time.time_ns()
    noted, unreported, _ = run("import late", begin="")
    assert noted == {}
    assert before < unreported["late.py"] < time.time_ns()


def test_a_file_is_noted_with_the_time_when_it_was_read(run):
    (run.directory / "late.py").write_text("import other")
    noted, _, _ = run("import late")
    assert noted["late.py"] < noted["other.py"] < time.time_ns()


def test_code_that_runs_without_an_import_is_noted(run):
    noted, _, _ = run(
        """
        import importlib.util, runpy
        spec = importlib.util.spec_from_file_location("odd", "late.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        exec(compile(open("other.py").read(), "other.py", "exec"))
        runpy.run_path("early.py")
        """
    )
    assert {"late.py", "other.py", "early.py"} <= set(noted)


def test_a_file_that_does_not_compile_is_noted(run):
    """The program may catch the error, and go on; no code of the file ever runs."""
    (run.directory / "late.py").write_text("VALUE = (")
    noted, _, _ = run(
        """
        try:
            import late
        except SyntaxError:
            pass
        """
    )
    assert noted["late.py"]


@pytest.mark.parametrize(
    "code",
    [
        "import ast; ast.parse(read('page'), os.path.abspath('page'))",
        "compile(read('page'), 'page', 'exec')",
        "exec(compile('1', os.path.abspath('page'), 'exec'))",
        "exec(read('page'))",
        "exec(open('page', 'rb').read())",
        "import runpy; runpy.run_path('page')",
        "SourceFileLoader('m', 'page').load_module()",
        "SourceFileLoader('m', 'page').get_code('m')",
        "import marshal; exec(marshal.loads(marshal.dumps(compile('1', 'page', 'exec'))))",
    ],
)
def test_a_file_of_any_name_is_noted_once_it_is_compiled_or_run(run, code):
    """Some programs compile a script when they start, and run the code much later."""
    (run.directory / "page").write_text("PAGE = 'page'")
    noted, _, _ = run(
        f"""
        import time, warnings
        from importlib.machinery import SourceFileLoader
        warnings.simplefilter("ignore")
        def read(name):
            with open(name) as file:
                return file.read()
        begun = time.time_ns()
        {code}
        noted["begun"], noted["ended"] = begun - 10_000_000, time.time_ns()
        """
    )
    assert noted["begun"] <= noted["page"] <= noted["ended"]


def test_a_file_counts_as_read_when_it_was_opened_not_when_it_was_compiled(run):
    (run.directory / "page").write_text("PAGE = 1")
    noted, _, _ = run(
        """
        import time
        text = open("page").read()
        opened = time.time_ns()
        while time.time_ns() < opened + 20_000_000:
            pass
        compile(text, "page", "exec")
        noted["in between"] = opened
        """
    )
    assert noted["page"] < noted["in between"]


LOADER = """
import importlib.abc, importlib.util, json
class Loader(importlib.abc.Loader):
    def __init__(self, path): self.path = path
    def exec_module(self, module):
        {body}
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "data":
            path = os.path.abspath("data.json")
            return importlib.util.{spec}
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize(
    "spec",
    [
        "spec_from_loader(name, Loader(path), origin=path)",
        "spec_from_file_location(name, path, loader=Loader(path))",
        "spec_from_loader(name, Loader(path))",
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        "exec(json.dumps(json.load(open(self.path))), module.__dict__)",
        "module.DATA = json.load(open(self.path))",
    ],
)
def test_the_file_that_a_module_of_another_loader_names_is_noted_at_once(run, spec, body):
    (run.directory / "data.json").write_text("[1, 2]")
    noted, _, _ = run(LOADER.format(body=body, spec=spec) + "import data")
    assert "data.json" in noted


def test_a_loader_that_runs_nothing_and_opens_nothing_is_noticed_with_the_next_import(run):
    (run.directory / "data.json").write_text("[1, 2]")
    spec = "spec_from_loader(name, Loader(path), origin=path)"
    noted, _, _ = run(LOADER.format(body="pass", spec=spec) + "import data, late")
    assert "data.json" in noted


def test_a_module_without_a_file_of_its_own_may_name_its_bytecode(run):
    (run.directory / "data.bin").write_text("")
    _, unreported, _ = run(
        "module = sys.modules['made'] = types.ModuleType('made'); module.__cached__ = 'data.bin'"
    )
    assert "data.bin" in unreported


def test_names_of_code_that_are_no_files_are_not_noted_nor_kept(run):
    noted, _, _ = run(
        """
        for number in range(3000):
            for name in (f"cell{number}", f"cell{number}.py", f"<cell {number}>"):
                exec(compile("1", name, "exec"))
        noted["kept"] = len(imports._no_files) + len(imports._known) + len(imports._opened) < 3000
        """
    )
    assert noted.pop("kept")
    assert not [name for name in noted if "cell" in name]


def test_bytecode_in_another_directory_is_neither_read_nor_written_by_the_program(run):
    noted, unreported, written = run(
        """
        sys.pycache_prefix = os.path.abspath("cache")
        import late
        del sys.modules["late"]
        import late
        """
    )
    assert list(run.directory.glob("cache/**/late*.pyc"))
    assert "late.py" in noted
    assert not [name for name in {*noted, *unreported, *written} if ".pyc" in name]


OTHER_LOADER = """
class Loader(SourceFileLoader):
    def source_to_code(self, data, path): return compile(data, path, 'exec')
load(Loader)
del sys.modules['late']
load(Loader)
"""


@pytest.mark.parametrize(
    ("code", "is_plain"),
    [
        ("import late", True),
        ("import py_compile; py_compile.compile('late.py'); import late", True),
        ("exec(compile(read('late.py'), 'late.py', 'exec'))", True),
        ("exec(compile(read('late.py') + '#', 'late.py', 'exec'))", False),
        ("SourceFileLoader.get_data = lambda self, path: read(path).encode(); import late", False),
        ("class Loader(SourceFileLoader): pass\nload(Loader)", True),
        (OTHER_LOADER, False),
    ],
)
def test_a_file_that_may_be_transformed_before_it_is_compiled_is_known(run, code, is_plain):
    setup = """
from importlib.machinery import SourceFileLoader
import importlib.util
def read(name):
    return open(name).read()
def load(kind):
    spec = importlib.util.spec_from_file_location("late", "late.py", loader=kind("late", "late.py"))
    sys.modules["late"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""
    noted, _, _ = run(
        f"{setup}\n{code}\nnoted['is'] = imports.is_plain(os.path.abspath('late.py'))"
    )
    assert noted["is"] == is_plain
    assert "late.py" in noted


def test_a_file_that_the_program_writes_and_compiles_again_is_recognised_again(run):
    noted, _, _ = run(
        """
        imports.ignore_data_writes()
        here = os.path.abspath("generated")
        known = noted["known"] = []
        for number in range(2):
            with open(here, "w") as file:
                file.write(f"VALUE = {number}")
            known.append(imports.own_writes.wrote_and_read(here, os.stat(here).st_ctime_ns))
            exec(compile(open(here).read(), here, "exec"))
            known.append(imports.own_writes.wrote_and_read(here, os.stat(here).st_ctime_ns))
        """
    )
    assert noted["known"] == [False, True, False, True]


@pytest.mark.parametrize("begun", ["imports.ignore_data_writes()", ""])
@pytest.mark.parametrize("made", ["open(here, 'w').close()", "os.replace('other.py', here)"])
def test_a_file_that_the_program_wrote_and_runs_is_recognised_by_its_content(run, begun, made):
    noted, _, _ = run(
        f"""
        {begun}
        here = os.path.abspath("late.py")
        def is_own():
            changed_ns = os.path.exists(here) and os.stat(here).st_ctime_ns
            return imports.own_writes.wrote_and_read(here, changed_ns)
        known = noted["known"] = []
        known.append(is_own())
        {made}
        known.append(is_own())
        import late
        known.append(is_own())
        os.utime(here)
        while is_own():
            os.utime(here)  # by the coarse clock, it was not touched later than it was imported
        known.append(is_own())
        with open(here, "w") as file:
            file.write("VALUE = 1")
        known.append(is_own())
        os.unlink(here)
        known.append(is_own())
        """
    )
    assert noted["known"] == [False, False, True, False, False, False]


@pytest.mark.parametrize("begun", ["imports.ignore_data_writes()", ""])
def test_the_time_of_the_last_reading_of_a_file_is_known(run, begun):
    for name in ("read", "unread", "written"):
        (run.directory / name).write_text("")
    noted, _, _ = run(
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
        noted["read"] = [
            imports.last_read_ns(os.path.abspath(name)) < between
            for name in ("read", "unread", "written", "directory")
        ]
        """
    )
    assert noted["read"] == [True, False, False, False]


def test_only_the_latest_files_that_were_opened_are_remembered(run):
    noted, _, _ = run(
        """
        for number in range(3000):
            try:
                open(str(number))
            except OSError:
                pass
        noted["opened"] = len(imports._opened)
        """
    )
    assert noted["opened"] == 1000


def test_a_way_up_leads_up_from_where_a_link_points_to(run):
    real = run.directory / "real"
    (real / "bin").mkdir(parents=True)
    (real / "lib-1").mkdir()
    (real / "lib-1" / "linked.py").write_text("")
    (real / "lib").symlink_to("lib-1")
    (run.directory / "link").symlink_to("real/bin")
    noted, unreported, written = run(
        """
        sys.path[:0] = ["link/..", "link/../lib", "real/../bare"]
        import linked
        try:
            import nowhere
        except ImportError:
            pass
        open("link/../lib/written.py", "w").close()
        assert imports.own_writes.may_have_written(os.path.abspath("real/lib/written.py"))
        imports.end()
        """
    )
    # A link on the way down stays in the name: it may point elsewhere later.
    assert {"real/nowhere.py", "bare/nowhere.py", "real/lib/linked.py"} <= set(noted)
    assert "real/lib/linked.py" in unreported
    assert "real/lib/written.py" in written


def test_code_without_a_file_is_not_noted(run):
    noted, _, _ = run(
        """
        import collections
        collections.namedtuple("Point", "x y")
        exec("1"), eval("1"), exec(compile("1", "page.html", "exec"))
        """
    )
    assert not [path for path in noted if not path.endswith(".py")]


def test_an_extension_module_is_noted(run):
    noted, _, _ = run(
        """
        import importlib.util
        for name in ("_bisect", "_csv", "_lsprof", "_queue", "_ssl"):  # some may be built in
            if importlib.util.find_spec(name).has_location:
                __import__(name)
        """
    )
    assert any(path.endswith(".so") for path in noted)


MAKE_EXTENSION = """\
import _queue, shutil
shutil.copy(_queue.__file__, ".")
sys.path.insert(0, os.getcwd())
del sys.modules["_queue"]
"""


@pytest.fixture
def run_extension(run):
    found = importlib.util.find_spec("_queue")
    if not (found and found.has_location):
        pytest.skip("the module is built in")
    return run


def test_an_extension_module_that_the_program_has_just_made_is_older_than_its_import(
    run_extension,
):
    code = (
        "import _queue; noted['changed'] = os.stat(os.path.basename(_queue.__file__)).st_ctime_ns"
    )
    noted, _, _ = run_extension(MAKE_EXTENSION + code)
    changed_ns = noted.pop("changed")
    assert [read for path, read in noted.items() if path.startswith("_queue")] == [changed_ns + 1]


def test_the_source_of_an_extension_module_that_pyximport_has_made_is_noted(run_extension):
    for name in ("_queue.pyx", "other.pyx"):
        (run_extension.directory / name).write_text("")
    code = """
sys.modules["pyximport"] = types.ModuleType("pyximport")
for name in ("_queue.pyx", "other.pyx"):
    open(os.path.abspath(name)).close()
import _queue
"""
    noted, _, _ = run_extension(MAKE_EXTENSION + code)
    assert "_queue.pyx" in noted
    assert "other.pyx" not in noted


def test_bytecode_without_its_source_is_noted(run):
    noted, unreported, _ = run(
        """
        import py_compile
        py_compile.compile("late.py", cfile="only.pyc")
        import only
        """
    )
    assert "only.pyc" in noted | unreported


def test_a_module_in_an_archive_is_noted(run):
    with zipfile.ZipFile(run.directory / "lib.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "import zipped.inner")
        archive.writestr("zipped/inner.py", "")
    noted, _, _ = run("sys.path.append(os.path.abspath('lib.zip')); import zipped")
    paths = [os.path.join(run.directory, path) for path in noted if "lib.zip" in path]
    assert {source_file(path) for path in paths} == {str(run.directory / "lib.zip")}


def test_the_places_where_a_missing_module_would_be_are_noted(run):
    noted, _, _ = run(
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
    assert {"nowhere.py", "nowhere", "nowhere/__init__.py"} <= set(noted)
    assert {"lost.py", "relative/lost.py"} <= set(noted)


def test_after_the_end_all_files_are_reported_again(run):
    code = "import late; exec(compile('1', 'page', 'exec')); imports.end(); import other"
    (run.directory / "page").write_text("1")
    _, unreported, _ = run(code)
    assert {"early.py", "late.py", "other.py", "page"} <= set(unreported)


def test_threads_may_import_meanwhile(run):
    for number in range(200):
        (run.directory / f"m{number}.py").write_text("")
    noted, unreported, _ = run(
        """
        import threading
        def work(numbers):
            for number in numbers:
                __import__(f"m{number}")
        threads = [threading.Thread(target=work, args=(range(n, 200, 4),)) for n in range(4)]
        for thread in threads: thread.start()
        while any(thread.is_alive() for thread in threads):
            noted.update(imports.unreported(7))
        """
    )
    assert {f"m{number}.py" for number in range(200)} <= set(noted | unreported)


# What `sys.modules` may hold

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


def test_a_hostile_module_does_not_hide_the_others(run):
    _, unreported, _ = run(HOSTILE)
    expected = {"a_path.py", "some_bytes.py", "\udcff.py", "a_number.py", "an_instance.py"}
    assert expected | {"early.py"} <= set(unreported)


def test_a_lazy_module_is_not_loaded(run):
    (run.directory / "late.py").write_text("print('loaded')")
    noted, unreported, _ = run(
        """
        import importlib.util
        spec = importlib.util.find_spec("late")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        late = importlib.util.module_from_spec(spec)
        sys.modules["late"] = late
        spec.loader.exec_module(late)
        """
    )
    assert "late.py" in {*noted, *unreported}


def test_an_error_of_a_listener_does_not_reach_the_program(run):
    noted, _, _ = run(
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
    assert noted == {}


# What the program itself writes


def test_files_that_the_program_writes_while_it_starts_are_noted(run):
    _, _, written = run(
        """
        assert not imports.own_writes.may_have_written(os.path.abspath("a"))
        for name, mode in (("a", "w"), ("b", "ab"), ("c", "x"), ("a", "r+")):
            open(name, mode).close()
        os.close(os.open("d", os.O_WRONLY | os.O_CREAT))
        os.rename("c", "e")
        os.replace("d", "f")
        open("early.py").close()
        for name in "abef":
            assert imports.own_writes.may_have_written(os.path.abspath(name)), name
        assert not imports.own_writes.may_have_written(os.path.abspath("early.py"))
        imports.ignore_data_writes()
        open("g", "w").close()
        os.rename("g", "h")
        os.system(":")
        assert not imports.own_writes.may_have_written(os.path.abspath("g"))
        assert not imports.own_writes.may_have_written(os.path.abspath("h"))
        """
    )
    assert {"a", "b", "c", "d", "e", "f"} <= set(written)
    assert not {"early.py", "g", "h", ""} & set(written)


def test_cached_bytecode_does_not_count_as_written_by_the_program(run):
    _, _, written = run("import late, other")
    assert (run.directory / "__pycache__").is_dir()
    assert written == []


@pytest.mark.parametrize(
    "spawn",
    [
        "os.system(':')",
        "import subprocess; subprocess.run(['true'])",
        "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
        "os.waitpid(os.fork() or os._exit(0), 0)",
    ],
)
def test_a_program_that_starts_a_process_may_have_written_any_file(run, spawn):
    _, _, written = run(f"{spawn}\nassert imports.own_writes.may_have_written('/anything')")
    assert "" in written
