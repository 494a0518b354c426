"""What counts as a change, end to end, by events and by polling."""

from __future__ import annotations

import contextlib
import os
import py_compile
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from evreload._common.run_info import MAX_TRIES
from support.files import await_tick, git, replace
from support.programs import MODES, assert_no_other_change, await_restart, runner
from support.waiting import until

OPTIONAL = """
try:
    import helper
except ImportError:
    helper = None
"""
PRINTING = """
import asyncio, logging, os, sys
logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stdout)
import evreload
import cookie

async def main():
    evreload.watch(".")
    evreload.start(poll={poll}, check_time=20)
    while True:
        print("tick", cookie.VALUE, flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""
# The action must not call `print`: it cannot be entered again while the program prints.
ON_SIGNAL = """
def on_signal(*_):
    {action}
signal.signal(signal.SIGUSR1, on_signal)
"""


@pytest.fixture(params=["events", "polling"])
def run(app, request):
    return runner(app, poll=request.param == "polling")


@pytest.fixture
def run_with_events(app):
    return runner(app, poll=False)


# Imported modules


@pytest.mark.parametrize("save", ["write", "write_in_place"])
def test_an_edit_of_an_imported_module_restarts(app, run, save):
    app.write("helper.py", "VALUE = 1")
    run()
    getattr(app, save)("helper.py", "VALUE = 2")
    assert await_restart(app, "helper.py") == "ready 2"
    assert_no_other_change(app)


def test_an_edit_of_a_module_imported_later_from_a_new_directory_restarts(app, run):
    app.write("far/away/late.py", "VALUE = 1")
    action = "sys.path.append('far/away'); import late; os.write(1, b'imported %d\\n' % late.VALUE)"
    run(ON_SIGNAL.format(action=action), "''")
    app.signal(signal.SIGUSR1)
    app.line("imported 1")
    app.write("far/away/late.py", "VALUE = 2")
    await_restart(app, "far/away/late.py")
    app.signal(signal.SIGUSR1)
    app.line("imported 2")


COMPILED = """
with open("page.cfg") as file:
    code = compile(file.read(), os.path.abspath("page.cfg"), "exec")
"""
IMPORTED = """
import importlib.abc, importlib.util, json
class Loader(importlib.abc.Loader):
    def exec_module(self, module): module.TEXT = open("page.cfg").read()
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "page":
            page = os.path.abspath("page.cfg")
            return importlib.util.spec_from_loader(name, Loader(), origin=page)
sys.meta_path.insert(0, Finder)
"""


@MODES
@pytest.mark.parametrize(
    ("body", "late"),
    [
        (COMPILED, "exec(code)"),
        ("", "exec(open('page.cfg').read())"),
        ("import runpy", "runpy.run_path('page.cfg')"),
        (IMPORTED, "import page; exec(page.TEXT)"),
    ],
    ids=["compiled early", "read late", "run late", "imported late"],
)
@pytest.mark.parametrize("has_run", [True, False])
def test_an_edit_of_a_file_of_code_with_another_suffix_restarts(app, mode, body, late, has_run):
    app.write("page.cfg", "import os; os.write(1, b'page 1\\n')")
    run = runner(app, mode=mode)
    run(body + ON_SIGNAL.format(action=late), "os.getpid()")
    if has_run:
        os.kill(int(app.await_lines("ready").split()[1]), signal.SIGUSR1)
        app.line("page 1")
    app.write("page.cfg", "import os; os.write(1, b'page 2\\n')")
    if has_run or body == COMPILED:
        await_restart(app, "page.cfg")
    assert_no_other_change(app)


# Modification times, and writes of the program


def test_touch_restarts(app, run):
    app.write("helper.py", "VALUE = 1")
    run()
    os.utime(app.path("helper.py"))
    await_restart(app, "helper.py")


@MODES
def test_a_write_of_the_program_from_c_before_watch_is_no_change(app, mode):
    body = """
    import asyncio, logging, sqlite3, sys, time
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    import evreload
    with sqlite3.connect("state") as database:
        database.execute("CREATE TABLE IF NOT EXISTS starts (at INT)")
        database.execute("INSERT INTO starts VALUES (?)", [time.time_ns()])
    async def main():
        evreload.watch("state")
        evreload.start()
        await asyncio.Event().wait()
    asyncio.run(main())
    """
    app.write("app.py", body)
    app.start(*mode, "app.py")
    app.await_watching()
    os.utime(app.path("state"))
    app.line("state modified; restarting server")
    assert app.count("restarting server") == 1


@MODES
def test_a_write_of_the_program_before_watch_is_no_change(app, mode):
    body = """
    import asyncio, logging, os, sys, time
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    import evreload
    async def main():
        evreload.start()
        print("up", flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        open("state").read()
        with open("state", "w") as file:
            print(time.time_ns(), file=file)
        evreload.watch("state")
        print("watched", flush=True)
        await asyncio.Event().wait()
    asyncio.run(main())
    """
    app.write("state")
    app.write("app.py", body)
    app.start(*mode, "app.py")
    app.await_watching()
    app.write("go")
    app.line("watched")
    await_tick()
    app.write("app.py", "print('ended', flush=True)")
    app.line("ended")
    assert app.count("restarting server") == 1, app.output


@MODES
def test_an_edit_between_reading_a_file_and_watch_restarts(app, mode):
    body = """
    import asyncio, os, time
    import evreload
    print("read", open("settings").read(), flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    async def main():
        evreload.watch("settings")
        evreload.start()
        await asyncio.Event().wait()
    asyncio.run(main())
    """
    app.write("settings", "1")
    app.write("app.py", body)
    app.start(*mode, "app.py")
    app.line("read 1")
    await_tick()
    app.write("settings", "2")
    app.write("go")
    app.line("read 2")


def test_chmod_reading_and_bytecode_are_no_changes(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run()
    helper.chmod(0o600)
    helper.chmod(0o755)
    helper.read_text()
    subprocess.run(["grep", "-r", "VALUE", app.directory], check=True, stdout=subprocess.DEVNULL)
    py_compile.compile(str(helper), doraise=True)
    subprocess.run([sys.executable, "-c", "import helper"], cwd=app.directory, check=True)
    assert_no_other_change(app)


def in_place(path, text, ns):
    """Write *text*, and set the time, as ``cp -p`` and ``rsync --inplace`` do."""
    with open(path, "r+") as file:
        file.write(text)
        file.flush()
        os.utime(path, ns=(ns, ns))


def removed_first(path, text, ns):
    """Do what ``tar x`` and ``git checkout`` do; the new file may get the inode of the old one."""
    path.unlink()
    path.write_text(text)
    os.utime(path, ns=(ns, ns))


@pytest.mark.parametrize("write", [in_place, removed_first])
def test_another_content_with_the_same_time_and_size_is_a_change(app, run, write):
    helper = app.write("helper.py", "VALUE = 1")
    ns = helper.stat().st_mtime_ns
    run()  # Python writes bytecode, which it would take for that of the new content, too
    await_tick()
    for value in (2, 3):
        write(helper, f"VALUE = {value}", ns)
        assert await_restart(app, "helper.py") == f"ready {value}"


def test_an_edit_of_another_hard_link_restarts(app, run):
    source = app.write("elsewhere/source.py", "VALUE = 1")
    os.link(source, app.path("helper.py"))
    run()
    source.write_text("VALUE = 22")
    assert await_restart(app, "helper.py") == "ready 22"
    source = app.write("elsewhere/new.py", "VALUE = 3")
    os.link(source, app.path("link"))
    os.replace(app.path("link"), app.path("helper.py"))
    assert await_restart(app, "helper.py") == "ready 3"
    source.write_text("VALUE = 44")
    assert await_restart(app, "helper.py") == "ready 44"


@MODES
@pytest.mark.parametrize("prefix", ["of Python", "of the program"])
def test_bytecode_in_another_directory_is_no_change_and_never_runs_for_a_later_save(
    app, mode, prefix
):
    run = runner(app, mode=mode)
    app.write("helper.py", "VALUE = 1")
    here = app.path("cache")
    if prefix == "of Python":
        app.environment["PYTHONPYCACHEPREFIX"] = here
    run(
        "import helper"
        if prefix == "of Python"
        else f"sys.pycache_prefix = {here!r}; import helper"
    )
    saved_ns = time.time_ns() // 10**9 * 10**9
    for number in range(2, 5):  # of one length, and within one second
        replace(app.path("helper.py"), f"VALUE = {number}", ns=saved_ns + number)
        assert await_restart(app, "helper.py") == f"ready {number}"
    assert list(Path(here).glob("**/helper.*.pyc"))
    assert_no_other_change(app)


def test_an_older_modification_time_is_a_change(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run()
    replace(helper, "VALUE = 2", ns=10**18)
    assert await_restart(app, "helper.py") == "ready 2"


def test_another_size_with_the_same_time_is_a_change(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    ns = helper.stat().st_mtime_ns
    run()
    with open(helper, "r+") as file:
        file.write("VALUE = 22")
        file.flush()
        os.utime(helper, ns=(ns, ns))
    assert await_restart(app, "helper.py") == "ready 22"


def test_another_inode_with_the_same_time_and_size_is_a_change(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    ns = helper.stat().st_mtime_ns
    run()
    replace(helper, "VALUE = 2", ns=ns)
    assert await_restart(app, "helper.py") == "ready 2"


# Links, and directories that are replaced (how editors save is in test_editors.py)


@pytest.fixture
def versions(app):
    app.write("v1/helper.py", "VALUE = 1")
    app.write("v2/helper.py", "VALUE = 2")
    (app.directory / "current").symlink_to("v1")
    return "sys.path.insert(0, os.path.abspath('current')); import helper"


def test_a_new_target_of_a_link_to_a_package_restarts(app, run, versions):
    run(versions)
    for version in (2, 1, 2):
        subprocess.run(["ln", "-sfn", f"v{version}", "current"], cwd=app.directory, check=True)
        assert await_restart(app, "current/helper.py") == f"ready {version}"
    assert_no_other_change(app)


def test_a_new_target_restarts_a_program_that_runs_other_programs_first(app, run, versions):
    """A file that changes at the start may be a write of the program, unless it is older."""
    run("import subprocess; subprocess.run(['true']);" + versions)
    for version in (2, 1, 2, 1, 2, 1, 2):
        subprocess.run(["ln", "-sfn", f"v{version}", "current"], cwd=app.directory, check=True)
        assert await_restart(app, "current/helper.py") == f"ready {version}"


def test_an_edit_at_the_target_of_a_link_restarts(app, run, versions):
    run(versions)
    app.write("v1/helper.py", "VALUE = 3")
    assert await_restart(app, "current/helper.py") == "ready 3"
    assert_no_other_change(app)


def test_an_update_of_a_kubernetes_volume_restarts(app, run):
    """Each file is a link into `..data`, a link that Kubernetes replaces atomically.

    See https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/util/atomic_writer.go
    """
    for version in (1, 2):
        app.write(f"volume/..{version}/settings.yaml", str(version))
    volume = app.directory / "volume"
    (volume / "..data").symlink_to("..1")
    (volume / "settings.yaml").symlink_to("..data/settings.yaml")
    run("evreload.watch('volume/settings.yaml')", "open('volume/settings.yaml').read()")
    (volume / "..data_tmp").symlink_to("..2")
    (volume / "..data_tmp").replace(volume / "..data")
    assert await_restart(app, "volume/settings.yaml") == "ready 2"
    assert_no_other_change(app)


def test_replacing_a_directory_above_a_module_restarts(app, run):
    app.write("far/away/helper.py", "VALUE = 1")
    app.write("near/away/helper.py", "VALUE = 2")
    run("sys.path.append('far/away'); import helper")
    (app.directory / "far").rename(app.directory / "old")
    (app.directory / "near").rename(app.directory / "far")
    assert await_restart(app, "far/away/helper.py") == "ready 2"
    app.write("far/away/helper.py", "VALUE = 3")
    assert await_restart(app, "far/away/helper.py") == "ready 3"


# Deletions


def test_deleting_a_module_is_no_change(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run(OPTIONAL, "bool(helper)")
    helper.unlink()
    assert_no_other_change(app)
    assert app.count("evreload: ") == 3, app.output  # watching, restarting, watching


def test_recreating_a_deleted_module_restarts(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run()
    helper.unlink()
    app.write("helper.py", "VALUE = 2")
    assert await_restart(app, "helper.py") == "ready 2"


@pytest.mark.parametrize("held_open", [False, True], ids=["", "held open"])
def test_recreating_a_removed_directory_restarts(app, run, held_open):
    """Another process may still have the old one open: a shell whose working directory it is."""
    helper = app.write("pkg/helper.py", "VALUE = 1")
    run("sys.path.append('pkg'); import helper")
    descriptor = os.open(helper.parent, os.O_RDONLY) if held_open else -1
    shutil.rmtree(helper.parent)
    app.write("pkg/helper.py", "VALUE = 2")
    assert await_restart(app, "pkg/helper.py") == "ready 2"
    app.write("pkg/helper.py", "VALUE = 3")
    assert await_restart(app, "pkg/helper.py") == "ready 3"
    if held_open:
        os.close(descriptor)


def test_a_checkout_without_a_package_and_back_restarts(app, run):
    app.write("README")
    git(app.directory, "init")
    git(app.directory, "add", "README")
    git(app.directory, "commit", "-m", "B")
    app.write("pkg/sub/helper.py", "VALUE = 1")
    git(app.directory, "add", "pkg")
    git(app.directory, "commit", "-m", "A")
    run("from pkg.sub import helper")
    git(app.directory, "checkout", "HEAD~1")
    assert not (app.directory / "pkg/sub/helper.py").exists()
    git(app.directory, "checkout", "-")
    await_restart(app, "pkg/sub/helper.py")
    app.write("pkg/sub/helper.py", "VALUE = 2")
    assert await_restart(app, "pkg/sub/helper.py") == "ready 2"


# Watched files and directories


@pytest.mark.parametrize("name", ["cfg.yaml", "etc/app/cfg.yaml"])
def test_creating_a_watched_file_restarts(app, run, name):
    run(f"evreload.watch({name!r})", "''")
    app.write(name, "1")
    await_restart(app, name)
    app.write(name, "2")
    await_restart(app, name)


def test_creating_a_watched_directory_restarts(app, run):
    run("evreload.watch('etc')", "''")
    (app.directory / "etc").mkdir()
    await_restart(app, "etc")
    app.write("etc/cfg.yaml")
    await_restart(app, "etc/cfg.yaml")


@pytest.fixture
def tree(app, run):
    app.write("tree/page.html", "1")
    app.write("tree/sub/page.html", "1")
    return run("evreload.watch('tree')", "''").directory / "tree"


def test_editing_a_file_in_a_watched_directory_restarts(app, tree):
    app.write("tree/sub/page.html", "2")
    await_restart(app, "tree/sub/page.html")
    app.write_in_place("tree/page.html", "2")
    await_restart(app, "tree/page.html")


def test_creating_a_file_in_a_watched_directory_restarts(app, tree):
    app.write("tree/sub/new.html", "1")
    await_restart(app, "tree/sub/new.html")


def test_deleting_a_file_in_a_watched_directory_restarts(app, tree):
    (tree / "sub/page.html").unlink()
    await_restart(app, "tree/sub/page.html")


def test_renaming_a_file_in_a_watched_directory_restarts(app, tree):
    (tree / "page.html").rename(tree / "sub/other.html")
    await_restart(app, "tree/page.html", "tree/sub/other.html")


def test_creating_a_file_deep_in_a_watched_directory_restarts(app, tree):
    app.write("tree/a/b/c.html")
    line = app.line("restarting server")
    assert app.path("tree/a") in line
    app.await_watching()
    app.write("tree/a/b/c.html", "2")
    app.line(app.path("tree/a/b/c.html"))


def test_temporary_and_internal_files_in_a_watched_directory_are_no_changes(app, tree):
    for name in (".git/HEAD", ".hg/store", "__pycache__/x.pyc", "sub/__pycache__/y.pyc"):
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    for name in ("page.html~", ".page.html.swp", "4913", ".#page.html", "#page.html#", "sedAb12cd"):
        (tree / name).write_text("")
        (tree / "sub" / name).write_text("")
    os.mkfifo(tree / "fifo")
    (tree / "page.html").chmod(0o600)
    assert_no_other_change(app)


def test_what_tools_write_in_a_watched_directory_is_no_change(app, run):
    tree = app.directory / "tree"
    tree.mkdir()
    with contextlib.closing(sqlite3.connect(tree / "pages.db")) as database:
        database.execute("PRAGMA journal_mode=WAL").close()
        database.execute("CREATE TABLE page (name)").close()
        run("evreload.watch('tree')", "''")
        database.execute("INSERT INTO page VALUES ('index')").close()
        database.commit()
        (tree / ".coverage.host.4242.XaBcDe").write_text("")
        (tree / ".coverage.host.4242.XaBcDe").replace(tree / ".coverage")
        (tree / "app.egg-info").mkdir()
        assert_no_other_change(app)


@pytest.mark.parametrize("options", ["", "--poll --check-time 20"], ids=["events", "polling"])
@MODES
def test_output_that_goes_to_a_file_in_a_watched_directory_is_no_change(app, mode, options):
    app.write("cookie.py", "VALUE = 1")
    app.write("app.py", PRINTING.format(poll=bool(options)))
    command = f"{sys.executable} -m evreload -v {options} -w ." if mode else sys.executable
    log = app.write("run.log")
    app.start_command(["sh", "-c", f"exec {command} app.py > run.log 2>&1"])

    def lines(containing):
        return [line for line in log.read_text().splitlines() if containing in line]

    until(lambda: lines("watching"), log.read_text)
    log = log.rename(app.directory / "old.log")  # as a rotation of logs does
    printed = len(lines("tick"))
    until(lambda: len(lines("tick")) > printed + 20, log.read_text)
    app.write("cookie.py", "VALUE = 22")
    until(lambda: lines("tick 22"), log.read_text)
    assert len(lines("restarting server")) == 1
    assert "cookie.py modified" in lines("restarting server")[0]
    assert len(lines(".log")) <= 2  # the debug messages about the renaming


def test_an_edit_in_a_directory_watched_through_a_link_restarts(app, run):
    page = app.write("real/page.html", "1")
    (app.directory / "link").symlink_to("real")
    run("evreload.watch('link')", "''")
    page.chmod(0o600)
    assert_no_other_change(app)
    app.write("link/page.html", "2")
    await_restart(app, "real/page.html")


def test_a_link_in_a_watched_directory_is_followed_only_if_watched_itself(app, run):
    """Other links in the directory are not followed: their targets may be anywhere."""
    for name in ("named", "met"):
        app.write(f"real/{name}/page.html", "1")
        (app.directory / "tree").mkdir(exist_ok=True)
        (app.directory / "tree" / name).symlink_to(f"../real/{name}")
    run("evreload.watch('tree'); evreload.watch('tree/named')", "''")
    app.write("real/met/page.html", "2")
    app.write("real/named/page.html", "2")
    await_restart(app, "real/named/page.html")


def test_watch_resolves_a_relative_path_when_it_is_called(app, run):
    app.write("cfg.yaml", "1")
    run("evreload.watch('cfg.yaml'); os.chdir('/')", "''")
    app.write("cfg.yaml", "2")
    await_restart(app, "cfg.yaml")


def test_watch_accepts_odd_paths(app, run):
    paths = ["", "/nowhere/at/all", "cookie.py/beneath/a/file", "nul\0", "x" * 5000, "loop", "/"]
    (app.directory / "loop").symlink_to("loop")
    app.write("helper.py", "VALUE = 1")
    run(f"import helper\nfor path in {paths[1:-1]!r}: evreload.watch(path)")
    app.write("helper.py", "VALUE = 2")
    assert await_restart(app, "helper.py") == "ready 2"


# Modules without a source file


@pytest.fixture
def extension(app):
    """Copy an extension module of the standard library to where the program imports it."""
    found = [path for place in sys.path for path in Path(place).glob("xxlimited.*.so")]
    if not found:
        pytest.skip("this Python has no extension module to copy")
    return Path(shutil.copy(found[0], app.directory))


def test_replacing_an_extension_module_restarts(app, run, extension):
    run("import xxlimited", "os.path.dirname(xxlimited.__file__)")
    shutil.copy(extension, f"{extension}.new")
    os.replace(f"{extension}.new", extension)
    await_restart(app, extension.name)
    assert_no_other_change(app)


def test_the_restart_waits_until_the_writer_closes_the_file(app, run_with_events, extension):
    """A linker unlinks the file, creates it, writes for a while, and closes it."""
    content = extension.read_bytes()
    app.write("helper.py", "VALUE = 1")
    run_with_events("import helper, xxlimited")
    extension.unlink()
    with open(extension, "wb") as file:
        file.write(content[:4096])
        file.flush()
        app.write("helper.py", "VALUE = 2")
        file.write(content[4096:])
    extension.chmod(0o755)
    assert await_restart(app, "helper.py", extension.name) == "ready 2"
    assert_no_other_change(app)


def test_replacing_a_module_without_source_restarts(app, run):
    for value in (1, 2):
        source = app.write("sourceless.src", f"VALUE = {value}")
        py_compile.compile(str(source), app.path(f"{value}.pyc"), doraise=True)
    os.replace(app.path("1.pyc"), app.path("sourceless.pyc"))
    run("import sourceless", "sourceless.VALUE")
    os.replace(app.path("2.pyc"), app.path("sourceless.pyc"))
    assert await_restart(app, "sourceless.pyc") == "ready 2"


def test_replacing_the_archive_of_a_module_restarts(app, run):
    def pack(value):
        with zipfile.ZipFile(app.path("new.zip"), "w") as archive:
            archive.writestr("packed.py", f"VALUE = {value}")
        os.replace(app.path("new.zip"), app.path("lib.zip"))

    pack(1)
    run("sys.path.append('lib.zip'); import packed", "packed.VALUE")
    pack(2)
    assert await_restart(app, "lib.zip") == "ready 2"


# Changes while the program starts


def test_an_edit_between_the_import_and_the_first_scan_restarts(app, run):
    """Each run waits at a FIFO after its import, and the test saves the file meanwhile."""
    os.mkfifo(app.path("gate"))
    app.write("helper.py", "VALUE = 1")
    run(
        "import helper; print('imported', helper.VALUE, flush=True); open('gate').read()",
        await_watching=False,
    )
    for value in (1, 2, 3):
        app.line(f"imported {value}")
        app.write("helper.py", f"VALUE = {value + 1}")
        app.write_in_place("gate", "")
        assert app.line("restarting server").endswith("helper.py modified; restarting server")
    app.line("imported 4")
    app.write_in_place("gate", "")
    app.await_watching()


def test_an_edit_back_and_forth_before_the_first_scan_restarts(app, run):
    """The file again has the content that triggered the run; the run has imported another."""
    wait = "print('waiting', flush=True); open('gate').read()"
    show = "import helper; print('imported', helper.VALUE, flush=True)"
    os.mkfifo(app.path("gate"))

    def go_on():
        app.line("waiting")
        app.write_in_place("gate", "")

    app.write("helper.py", "VALUE = 1")
    run(f"{wait}; {show}; {wait}", await_watching=False)
    go_on()
    go_on()
    app.await_watching()
    app.write("helper.py", "VALUE = 22")
    app.line("waiting")
    app.write("helper.py", "VALUE = 333")
    app.write_in_place("gate", "")
    app.line("imported 333")
    app.write("helper.py", "VALUE = 22")
    go_on()
    app.line("helper.py modified; restarting server")
    go_on()
    app.line("imported 22")
    go_on()
    app.await_watching()


def test_a_program_that_writes_the_same_source_at_each_start_restarts_once(app, run):
    app.write("generated.py", "VALUE = 22")
    run(
        "import generated; open('generated.py', 'w').write('VALUE = 1')",
        "generated.VALUE",
        await_watching=False,
    )
    await_restart(app, "generated.py")
    assert_no_other_change(app)
    os.utime(app.path("generated.py"))
    await_restart(app, "generated.py")


@MODES
def test_source_that_a_process_generates_at_each_start_causes_no_restart(app, mode):
    """A generator that is no Python makes no audit event; the program runs what it has written."""
    body = """
import subprocess
subprocess.run(["sh", "-c", "echo VALUE = 1 > generated.py"], check=True)
import generated
"""
    # Long enough for the program to get from the write to the import on a busy machine.
    run = runner(app, mode=(*mode, "--debounce", "500") if mode else mode)
    run(body, "generated.VALUE", arguments=", debounce=500")
    assert_no_other_change(app)
    assert_no_other_change(app)
    assert app.count("restarting server") == 2


@pytest.mark.parametrize("poll", [False, True])
@MODES
def test_a_database_that_a_program_changes_at_each_start_stops_restarts(app, mode, poll):
    body = """
import sqlite3, time
evreload.watch("state.db")
time.sleep(0.02)  # longer than a tick of the clock of file times
with sqlite3.connect("state.db") as database:
    database.execute("create table if not exists starts (at real)")
    database.execute("insert into starts values (julianday())")
database.close()
"""
    run = runner(app, mode=mode, poll=poll)
    run(body, "1", await_watching=False)
    app.line("state.db changes at each start")
    assert app.count("restarting server") == MAX_TRIES


@MODES
def test_no_edit_is_lost_however_many_come_as_the_program_starts(app, mode):
    body = """
import subprocess, time
subprocess.run(["true"], check=True)
import helper
print("imported", helper.VALUE, flush=True)
time.sleep(0.5)  # for the edit
"""
    app.write("helper.py", "VALUE = 0")
    runner(app, mode=mode)(body, "helper.VALUE", await_watching=False)
    for value in range(MAX_TRIES + 1):
        app.line(f"imported {value}")
        app.write("helper.py", f"VALUE = {value + 1}")
    app.line("changes at each start")
    app.line(f"ready {MAX_TRIES + 1}")


def test_a_program_that_writes_new_source_at_each_start_stops_restarting(app, run):
    app.write("generated.py", "VALUE = 0")
    body = "import generated; open('generated.py', 'w').write(f'VALUE = {generated.VALUE + 1}')"
    run(body, "generated.VALUE")
    app.line("generated.py changes at each start")
    restarts = app.count("restarting server")
    assert 1 <= restarts <= 5
    assert_no_other_change(app)
    os.utime(app.path("generated.py"))
    app.line(app.path("generated.py") + " modified")


@MODES
@pytest.mark.parametrize("poll", [False, True])
@pytest.mark.parametrize("late", [0.2, 2.5])
def test_a_module_that_the_serving_program_writes_and_imports_is_no_change(app, mode, poll, late):
    body = f"""
async def generate():
    await asyncio.sleep({late})
    with open("generated.py", "w") as file:
        file.write("VALUE = 1" + "#" * evreload.generation())  # or stale bytecode would run
    import generated
    print("generated", flush=True)

start = evreload.start
def start_and_generate(**arguments):
    start(**arguments)
    asyncio.get_running_loop().task = asyncio.create_task(generate())
evreload.start = start_and_generate
"""
    # Long enough for the program to get from the write to the import on a busy machine.
    run = runner(app, mode=(*mode, "--debounce", "500") if mode else mode, poll=poll)
    run(body, "1", arguments=", debounce=500")
    app.await_lines("generated")
    assert_no_other_change(app)
    app.await_lines("generated", times=2)
    assert_no_other_change(app)
    app.await_lines("generated", times=3)
    app.write("generated.py", "VALUE = 1")
    await_restart(app, "generated.py")


# Many events


def test_an_edit_restarts_after_the_event_queue_overflowed(app, run_with_events):
    app.write("helper.py", "VALUE = 1")
    others = [app.write(name) for name in ("a", "b")]
    run_with_events()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    app.signal(signal.SIGSTOP)
    for _ in range(limit):
        for path in others:  # alternately: the kernel merges equal events in a row
            os.utime(path)
    app.write("helper.py", "VALUE = 2")
    app.signal(signal.SIGCONT)
    app.line("overflow")
    assert await_restart(app, "helper.py") == "ready 2"


def processor_time(pid):
    """Return the processor time of *pid* in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_log_that_grows_beside_a_module_costs_little_processor_time(app, run_with_events):
    run_with_events("", "''")
    before = processor_time(app.pid)
    with open(app.path("app.log"), "ab", buffering=0) as log:
        log.writelines(b"." for _ in range(1_000_000))
    assert processor_time(app.pid) - before <= 0.05
    assert_no_other_change(app)


def test_a_database_written_beside_a_module_is_no_change(app, run):
    run("", "''")
    database = sqlite3.connect(app.path("app.sqlite"), isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE t (n)")
    for n in range(500):
        database.execute("INSERT INTO t VALUES (?)", [n])
    database.close()
    assert_no_other_change(app)


# Polling


@pytest.mark.parametrize("kind", ["nfs4", "9p", "vboxsf", "fuse.sshfs"])
def test_a_file_system_without_events_is_polled(app, run_with_events, kind):
    app.write("mounted/helper.py", "VALUE = 1")
    mount = f"1 1 0:1 / {app.path('mounted')} rw - {kind} server:/ rw"
    body = f"""
from evreload._watch.observers import mounts
mounts.read = lambda: mounts.Mounts({mount!r})
sys.path.append('mounted')
import helper
"""
    run_with_events(body, await_watching=False)
    assert f"{kind} delivers no file events" in app.line("polling")
    assert "(inotify; 1 of them polled)" in app.await_watching()
    app.write("mounted/helper.py", "VALUE = 2")
    assert await_restart(app, "mounted/helper.py") == "ready 2"


def test_the_poll_argument_turns_polling_on(app, run_with_events):
    app.write("helper.py", "VALUE = 1")
    run_with_events(arguments=", poll=True", await_watching=False)
    assert app.await_watching().endswith("(polling every 0.05 s)")
    app.write("helper.py", "VALUE = 2")
    assert await_restart(app, "helper.py") == "ready 2"


# Odd modules, and modules imported by threads

ODD = """
import importlib.util, pathlib, types
def odd(name, path):
    module = types.ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
for number, path in enumerate((pathlib.Path('/a'), b'/b', None, '/n\\0l', 3, '', object())):
    odd(f'odd{number}', path)
class Raises(types.ModuleType):
    @property
    def __file__(self):
        raise RuntimeError('woken')
    def __getattr__(self, name):
        raise RuntimeError('woken')
sys.modules['raises'] = Raises('raises')
sys.modules['none'] = None
sys.modules['number'] = 3
spec = importlib.util.find_spec('lazy')
spec.loader = importlib.util.LazyLoader(spec.loader)
lazy = sys.modules['lazy'] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lazy)
import helper
"""


def test_odd_modules_are_skipped_and_lazy_modules_are_not_executed(app, run):
    app.write("helper.py", "VALUE = 1")
    app.write("lazy.py", "print('executed', flush=True)")
    run(ODD)
    app.write("helper.py", "VALUE = 2")
    assert await_restart(app, "helper.py") == "ready 2"
    app.write("lazy.py", "print('executed again', flush=True)")
    await_restart(app, "lazy.py")
    assert app.count("executed") == app.count("woken") == app.count("Traceback") == 0


def test_modules_that_a_thread_imports_meanwhile_are_watched(app, run):
    for number in range(200):
        app.write(f"many/m{number}.py")
    body = """
import importlib, many.m0
def work():
    for number in range(200):
        importlib.import_module(f"many.m{number}")
    print("imported all", flush=True)
threading.Thread(target=work).start()
"""
    run(body, "''", await_watching=False)
    app.line("imported all")
    app.write("many/m199.py", "# changed")
    app.line(app.path("many/m199.py") + " modified")
    app.line("imported all")
    assert app.count("Traceback") == 0


# Missing modules


@pytest.mark.parametrize("name", ["helper.py", "helper/__init__.py"])
def test_creating_a_missing_module_restarts(app, run, name):
    run(OPTIONAL, "helper and helper.VALUE")
    app.write(name, "VALUE = 1")
    assert app.line("restarting server").startswith(f"evreload: {app.path('helper')}")
    assert app.line("ready") == "ready 1"


def test_creating_a_missing_submodule_restarts(app, run):
    app.write("pkg/__init__.py")
    run(OPTIONAL.replace("import", "from pkg import", 1), "helper and helper.VALUE")
    app.write("pkg/helper.py", "VALUE = 1")
    assert await_restart(app, "pkg/helper.py") == "ready 1"


# Ignored and installed modules


def test_ignored_modules_are_not_watched(app, run):
    for name in ("vendored/a.py", "made_gen.py"):
        app.write(name)
    run("import vendored.a, made_gen", "''", arguments=", ignore=['vendored', '*_gen.py']")
    app.write("vendored/a.py", "# changed")
    app.write("made_gen.py", "# changed")
    assert_no_other_change(app)


def test_installed_packages_are_watched(app, run):
    app.write("lib/site-packages/package/__init__.py", "VALUE = 1")
    run("sys.path.append('lib/site-packages'); import package", "package.VALUE")
    app.write("lib/site-packages/package/__init__.py", "VALUE = 2")
    assert await_restart(app, "lib/site-packages/package/__init__.py") == "ready 2"
