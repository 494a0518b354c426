"""What counts as a change, end to end, by events and by polling."""

from __future__ import annotations

import os
import py_compile
import shutil
import signal
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import WAYS, await_tick, git, nothing_else, replace, restarted, runner

OPTIONAL = """
try:
    import helper
except ImportError:
    helper = None
"""
# Not by `print`, which can't be entered again while the program prints.
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


# 1


@pytest.mark.parametrize("save", ["write", "write_in_place"])
def test_an_imported_module_is_edited(app, run, save):
    app.write("helper.py", "VALUE = 1")
    run()
    getattr(app, save)("helper.py", "VALUE = 2")
    assert restarted(app, "helper.py") == "ready 2"
    nothing_else(app)


# 2


def test_a_module_imported_later_from_a_directory_never_seen_before(app, run):
    app.write("far/away/late.py", "VALUE = 1")
    action = "sys.path.append('far/away'); import late; os.write(1, b'imported %d\\n' % late.VALUE)"
    run(ON_SIGNAL.format(action=action), "''")
    app.signal(signal.SIGUSR1)
    app.line("imported 1")
    app.write("far/away/late.py", "VALUE = 2")
    restarted(app, "far/away/late.py")
    app.signal(signal.SIGUSR1)
    app.line("imported 2")


# 3


def test_touch_reloads(app, run):
    app.write("helper.py", "VALUE = 1")
    run()
    os.utime(app.path("helper.py"))
    restarted(app, "helper.py")


@WAYS
def test_what_the_program_writes_by_c_and_then_watches(app, way):
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
    app.start(*way, "app.py")
    app.armed()
    os.utime(app.path("state"))
    app.line("state modified; restarting server")
    assert app.count("restarting server") == 1


@WAYS
def test_what_the_program_reads_and_writes_and_then_watches(app, way):
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
    app.start(*way, "app.py")
    app.armed()
    app.write("go")
    app.line("watched")
    await_tick()
    app.write("app.py", "print('ended', flush=True)")
    app.line("ended")
    assert app.count("restarting server") == 1, app.output


@WAYS
def test_what_is_saved_after_it_was_read_and_before_it_is_watched(app, way):
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
    app.start(*way, "app.py")
    app.line("read 1")
    await_tick()
    app.write("settings", "2")
    app.write("go")
    app.line("read 2")


def test_chmod_and_reading_and_bytecode_are_no_changes(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run()
    helper.chmod(0o600)
    helper.chmod(0o755)
    helper.read_text()
    subprocess.run(["grep", "-r", "VALUE", app.directory], check=True, stdout=subprocess.DEVNULL)
    py_compile.compile(str(helper), doraise=True)
    subprocess.run([sys.executable, "-c", "import helper"], cwd=app.directory, check=True)
    nothing_else(app)


# 4


def test_an_older_modification_time(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run()
    replace(helper, "VALUE = 2", ns=10**18)
    assert restarted(app, "helper.py") == "ready 2"


def test_the_same_time_and_another_size(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    ns = helper.stat().st_mtime_ns
    run()
    with open(helper, "r+") as file:
        file.write("VALUE = 22")
        file.flush()
        os.utime(helper, ns=(ns, ns))
    assert restarted(app, "helper.py") == "ready 22"


def test_the_same_time_and_size_and_another_inode(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    ns = helper.stat().st_mtime_ns
    run()
    replace(helper, "VALUE = 2", ns=ns)
    assert restarted(app, "helper.py") == "ready 2"


# 5: how editors save is in test_editors.py


# 6


@pytest.fixture
def versions(app):
    app.write("v1/helper.py", "VALUE = 1")
    app.write("v2/helper.py", "VALUE = 2")
    (app.directory / "current").symlink_to("v1")
    return "sys.path.insert(0, os.path.abspath('current')); import helper"


def test_a_symlinked_package_is_retargeted(app, run, versions):
    run(versions)
    for version in (2, 1, 2):
        subprocess.run(["ln", "-sfn", f"v{version}", "current"], cwd=app.directory, check=True)
        assert restarted(app, "current/helper.py") == f"ready {version}"
    nothing_else(app)


def test_a_program_that_runs_others_at_its_start_is_retargeted_many_times(app, run, versions):
    """Its own writing is suspected then, but a file older than the program is not its own."""
    run("import subprocess; subprocess.run(['true']);" + versions)
    for version in (2, 1, 2, 1, 2, 1, 2):
        subprocess.run(["ln", "-sfn", f"v{version}", "current"], cwd=app.directory, check=True)
        assert restarted(app, "current/helper.py") == f"ready {version}"


def test_an_edit_at_the_real_path_behind_a_link(app, run, versions):
    run(versions)
    app.write("v1/helper.py", "VALUE = 3")
    assert restarted(app, "current/helper.py") == "ready 3"
    nothing_else(app)


def test_the_volume_of_kubernetes_is_updated(app, run):
    """Each file is a link into `..data`, a link that is replaced at one stroke."""
    for version in (1, 2):
        app.write(f"volume/..{version}/settings.yaml", str(version))
    volume = app.directory / "volume"
    (volume / "..data").symlink_to("..1")
    (volume / "settings.yaml").symlink_to("..data/settings.yaml")
    run("evreload.watch('volume/settings.yaml')", "open('volume/settings.yaml').read()")
    (volume / "..data_tmp").symlink_to("..2")
    (volume / "..data_tmp").replace(volume / "..data")
    assert restarted(app, "volume/settings.yaml") == "ready 2"
    nothing_else(app)


def test_an_ancestor_is_replaced(app, run):
    app.write("far/away/helper.py", "VALUE = 1")
    app.write("near/away/helper.py", "VALUE = 2")
    run("sys.path.append('far/away'); import helper")
    (app.directory / "far").rename(app.directory / "old")
    (app.directory / "near").rename(app.directory / "far")
    assert restarted(app, "far/away/helper.py") == "ready 2"
    app.write("far/away/helper.py", "VALUE = 3")
    assert restarted(app, "far/away/helper.py") == "ready 3"


# 7


def test_a_deleted_module_is_no_change(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run(OPTIONAL, "bool(helper)")
    helper.unlink()
    nothing_else(app)
    assert app.count("evreload: ") == 3, app.output  # armed, restarting, armed: no noise


def test_a_deleted_module_is_created_anew(app, run):
    helper = app.write("helper.py", "VALUE = 1")
    run()
    helper.unlink()
    app.write("helper.py", "VALUE = 2")
    assert restarted(app, "helper.py") == "ready 2"


@pytest.mark.parametrize("held_open", [False, True], ids=["", "held open"])
def test_a_directory_is_removed_and_made_again(app, run, held_open):
    """Some process may still have the old one open: a shell whose working directory it is."""
    helper = app.write("pkg/helper.py", "VALUE = 1")
    run("sys.path.append('pkg'); import helper")
    descriptor = os.open(helper.parent, os.O_RDONLY) if held_open else -1
    shutil.rmtree(helper.parent)
    app.write("pkg/helper.py", "VALUE = 2")
    assert restarted(app, "pkg/helper.py") == "ready 2"
    app.write("pkg/helper.py", "VALUE = 3")
    assert restarted(app, "pkg/helper.py") == "ready 3"
    if held_open:
        os.close(descriptor)


def test_git_checks_out_a_commit_without_the_package_and_comes_back(app, run):
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
    restarted(app, "pkg/sub/helper.py")
    app.write("pkg/sub/helper.py", "VALUE = 2")
    assert restarted(app, "pkg/sub/helper.py") == "ready 2"


# 8


@pytest.mark.parametrize("name", ["cfg.yaml", "etc/app/cfg.yaml"])
def test_a_watched_file_comes_into_being(app, run, name):
    run(f"evreload.watch({name!r})", "''")
    app.write(name, "1")
    restarted(app, name)
    app.write(name, "2")
    restarted(app, name)


def test_a_watched_directory_comes_into_being(app, run):
    run("evreload.watch('etc')", "''")
    (app.directory / "etc").mkdir()
    restarted(app, "etc")
    app.write("etc/cfg.yaml")
    restarted(app, "etc/cfg.yaml")


# 9


@pytest.fixture
def tree(app, run):
    app.write("tree/page.html", "1")
    app.write("tree/sub/page.html", "1")
    return run("evreload.watch('tree')", "''").directory / "tree"


def test_a_file_in_a_watched_directory_is_edited(app, tree):
    app.write("tree/sub/page.html", "2")
    restarted(app, "tree/sub/page.html")
    app.write_in_place("tree/page.html", "2")
    restarted(app, "tree/page.html")


def test_a_file_in_a_watched_directory_is_created(app, tree):
    app.write("tree/sub/new.html", "1")
    restarted(app, "tree/sub/new.html")


def test_a_file_in_a_watched_directory_is_deleted(app, tree):
    (tree / "sub/page.html").unlink()
    restarted(app, "tree/sub/page.html")


def test_a_file_in_a_watched_directory_is_renamed(app, tree):
    (tree / "page.html").rename(tree / "sub/other.html")
    restarted(app, "tree/page.html", "tree/sub/other.html")


def test_a_file_is_created_deep_in_a_watched_directory(app, tree):
    app.write("tree/a/b/c.html")
    line = app.line("restarting server")
    assert app.path("tree/a") in line
    app.armed()
    app.write("tree/a/b/c.html", "2")
    app.line(app.path("tree/a/b/c.html"))


def test_what_never_matters_in_a_watched_directory(app, tree):
    for name in (".git/HEAD", ".hg/store", "__pycache__/x.pyc", "sub/__pycache__/y.pyc"):
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    for name in ("page.html~", ".page.html.swp", "4913", ".#page.html", "#page.html#", "sedAb12cd"):
        (tree / name).write_text("")
        (tree / "sub" / name).write_text("")
    os.mkfifo(tree / "fifo")
    (tree / "page.html").chmod(0o600)
    nothing_else(app)


def test_a_directory_watched_by_way_of_a_link(app, run):
    page = app.write("real/page.html", "1")
    (app.directory / "link").symlink_to("real")
    run("evreload.watch('link')", "''")
    page.chmod(0o600)
    nothing_else(app)
    app.write("link/page.html", "2")
    restarted(app, "real/page.html")


def test_a_link_in_a_watched_directory_is_named_itself(app, run):
    """What is only met there is not followed: it may lead anywhere."""
    for name in ("named", "met"):
        app.write(f"real/{name}/page.html", "1")
        (app.directory / "tree").mkdir(exist_ok=True)
        (app.directory / "tree" / name).symlink_to(f"../real/{name}")
    run("evreload.watch('tree'); evreload.watch('tree/named')", "''")
    app.write("real/met/page.html", "2")
    app.write("real/named/page.html", "2")
    restarted(app, "real/named/page.html")


# 10


def test_a_relative_path_is_watched_before_the_directory_is_left(app, run):
    app.write("cfg.yaml", "1")
    run("evreload.watch('cfg.yaml'); os.chdir('/')", "''")
    app.write("cfg.yaml", "2")
    restarted(app, "cfg.yaml")


def test_no_path_is_too_odd_to_be_watched(app, run):
    paths = ["", "/nowhere/at/all", "cookie.py/beneath/a/file", "nul\0", "x" * 5000, "loop", "/"]
    (app.directory / "loop").symlink_to("loop")
    app.write("helper.py", "VALUE = 1")
    run(f"import helper\nfor path in {paths[1:-1]!r}: evreload.watch(path)")
    app.write("helper.py", "VALUE = 2")
    assert restarted(app, "helper.py") == "ready 2"


# 11


@pytest.fixture
def extension(app):
    """Copy an extension module of the standard library: a program may be told to use ours."""
    found = [path for place in sys.path for path in Path(place).glob("xxlimited.*.so")]
    if not found:
        pytest.skip("this Python has no extension module to copy")
    return Path(shutil.copy(found[0], app.directory))


def test_an_extension_module_is_replaced(app, run, extension):
    run("import xxlimited", "os.path.dirname(xxlimited.__file__)")
    shutil.copy(extension, f"{extension}.new")
    os.replace(f"{extension}.new", extension)
    restarted(app, extension.name)
    nothing_else(app)


def test_a_writer_is_let_finish(app, run_with_events, extension):
    """As a linker does it: unlink, create, write for a while, close."""
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
    assert restarted(app, "helper.py", extension.name) == "ready 2"
    nothing_else(app)


def test_a_module_without_source_changes(app, run):
    for value in (1, 2):
        source = app.write("sourceless.src", f"VALUE = {value}")
        py_compile.compile(str(source), app.path(f"{value}.pyc"), doraise=True)
    os.replace(app.path("1.pyc"), app.path("sourceless.pyc"))
    run("import sourceless", "sourceless.VALUE")
    os.replace(app.path("2.pyc"), app.path("sourceless.pyc"))
    assert restarted(app, "sourceless.pyc") == "ready 2"


def test_a_module_in_an_archive_changes(app, run):
    def pack(value):
        with zipfile.ZipFile(app.path("new.zip"), "w") as archive:
            archive.writestr("packed.py", f"VALUE = {value}")
        os.replace(app.path("new.zip"), app.path("lib.zip"))

    pack(1)
    run("sys.path.append('lib.zip'); import packed", "packed.VALUE")
    pack(2)
    assert restarted(app, "lib.zip") == "ready 2"


# 12


def test_no_edit_is_lost_between_the_import_and_the_first_look(app, run):
    """Each run waits at a FIFO after its import, and the file is saved meanwhile."""
    os.mkfifo(app.path("gate"))
    app.write("helper.py", "VALUE = 1")
    run("import helper; print('imported', helper.VALUE, flush=True); open('gate').read()", armed=0)
    for value in (1, 2, 3):
        app.line(f"imported {value}")
        app.write("helper.py", f"VALUE = {value + 1}")
        app.write_in_place("gate", "")
        assert app.line("restarting server").endswith("helper.py modified; restarting server")
    app.line("imported 4")
    app.write_in_place("gate", "")
    app.armed()


def test_a_flip_before_the_first_look_is_not_lost(app, run):
    """The file holds what the run was started for, but the run has read something else."""
    wait = "print('waiting', flush=True); open('gate').read()"
    show = "import helper; print('imported', helper.VALUE, flush=True)"
    os.mkfifo(app.path("gate"))

    def go_on():
        app.line("waiting")
        app.write_in_place("gate", "")

    app.write("helper.py", "VALUE = 1")
    run(f"{wait}; {show}; {wait}", armed=False)
    go_on()
    go_on()
    app.armed()
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
    app.armed()


def test_a_program_that_writes_the_same_source_whenever_it_starts(app, run):
    app.write("generated.py", "VALUE = 22")
    run("import generated; open('generated.py', 'w').write('VALUE = 1')", "generated.VALUE")
    restarted(app, "generated.py")
    nothing_else(app)
    os.utime(app.path("generated.py"))
    restarted(app, "generated.py")


def test_a_program_that_writes_another_source_whenever_it_starts(app, run):
    app.write("generated.py", "VALUE = 0")
    body = "import generated; open('generated.py', 'w').write(f'VALUE = {generated.VALUE + 1}')"
    run(body, "generated.VALUE")
    app.line("generated.py is different after each start")
    tries = app.count("restarting server")
    assert 1 <= tries <= 5
    nothing_else(app)
    os.utime(app.path("generated.py"))
    app.line(app.path("generated.py") + " modified")


@WAYS
@pytest.mark.parametrize("poll", [False, True])
@pytest.mark.parametrize("late", [0.2, 2.5])
def test_a_program_that_writes_a_module_and_imports_it_while_it_serves(app, way, poll, late):
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
    # Long enough for the program to come from the one to the other, however busy the machine is.
    run = runner(app, way=(*way, "--debounce", "500") if way else way, poll=poll)
    run(body, "1", arguments=", debounce=500")
    app.said("generated")
    nothing_else(app)
    app.said("generated", times=2)
    nothing_else(app)
    app.said("generated", times=3)
    app.write("generated.py", "VALUE = 1")
    restarted(app, "generated.py")


# 13


def test_the_queue_of_the_kernel_overflows(app, run_with_events):
    app.write("helper.py", "VALUE = 1")
    others = [app.write(name) for name in ("a", "b")]
    run_with_events()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    app.signal(signal.SIGSTOP)
    for _ in range(limit):
        for path in others:  # in turns, or the kernel would merge them
            os.utime(path)
    app.write("helper.py", "VALUE = 2")
    app.signal(signal.SIGCONT)
    app.line("overflow")
    assert restarted(app, "helper.py") == "ready 2"


# 14


def processor_time(pid):
    """Return the seconds that the process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_log_grows_beside_a_watched_module(app, run_with_events):
    run_with_events("", "''")
    before = processor_time(app.pid)
    with open(app.path("app.log"), "ab", buffering=0) as log:
        log.writelines(b"." for _ in range(1_000_000))
    assert processor_time(app.pid) - before <= 0.05
    nothing_else(app)


def test_a_database_is_written_beside_a_watched_module(app, run):
    run("", "''")
    database = sqlite3.connect(app.path("app.sqlite"), isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE t (n)")
    for n in range(500):
        database.execute("INSERT INTO t VALUES (?)", [n])
    database.close()
    nothing_else(app)


# 15


@pytest.mark.parametrize("kind", ["nfs4", "9p", "vboxsf", "fuse.sshfs"])
def test_a_file_system_delivers_no_events(app, run_with_events, kind):
    app.write("mounted/helper.py", "VALUE = 1")
    mount = f"1 1 0:1 / {app.path('mounted')} rw - {kind} server:/ rw"
    pretend = f"""
from evreload._watch.observers import mounts
mounts.read = lambda: mounts.Mounts({mount!r})
sys.path.append('mounted')
import helper
"""
    run_with_events(pretend, armed=False)
    assert f"{kind} delivers no file events" in app.line("polling")
    assert "(inotify; 1 of them polled)" in app.armed()
    app.write("mounted/helper.py", "VALUE = 2")
    assert restarted(app, "mounted/helper.py") == "ready 2"


def test_polling_is_asked_for_by_an_argument(app, run_with_events):
    app.write("helper.py", "VALUE = 1")
    run_with_events(arguments=", poll=True", armed=False)
    assert app.armed().endswith("(polling every 0.05 s)")
    app.write("helper.py", "VALUE = 2")
    assert restarted(app, "helper.py") == "ready 2"


# 17

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


def test_odd_modules_are_passed_over_and_lazy_ones_are_left_asleep(app, run):
    app.write("helper.py", "VALUE = 1")
    app.write("lazy.py", "print('executed', flush=True)")
    run(ODD)
    app.write("helper.py", "VALUE = 2")
    assert restarted(app, "helper.py") == "ready 2"
    app.write("lazy.py", "print('executed again', flush=True)")
    restarted(app, "lazy.py")
    assert app.count("executed") == app.count("woken") == app.count("Traceback") == 0


def test_threads_import_meanwhile(app, run):
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
    run(body, "''", armed=False)
    app.line("imported all")
    app.write("many/m199.py", "# changed")
    app.line(app.path("many/m199.py") + " modified")
    app.line("imported all")
    assert app.count("Traceback") == 0


# 18


@pytest.mark.parametrize("name", ["helper.py", "helper/__init__.py"])
def test_a_missing_module_is_created(app, run, name):
    run(OPTIONAL, "helper and helper.VALUE")
    app.write(name, "VALUE = 1")
    assert app.line("restarting server").startswith(f"evreload: {app.path('helper')}")
    assert app.line("ready") == "ready 1"


def test_a_missing_submodule_is_created(app, run):
    app.write("pkg/__init__.py")
    run(OPTIONAL.replace("import", "from pkg import", 1), "helper and helper.VALUE")
    app.write("pkg/helper.py", "VALUE = 1")
    assert restarted(app, "pkg/helper.py") == "ready 1"


# 19


def test_ignored_modules_are_not_watched(app, run):
    for name in ("vendored/a.py", "made_gen.py"):
        app.write(name)
    run("import vendored.a, made_gen", "''", arguments=", ignore=['vendored', '*_gen.py']")
    app.write("vendored/a.py", "# changed")
    app.write("made_gen.py", "# changed")
    nothing_else(app)


def test_installed_packages_are_watched(app, run):
    app.write("lib/site-packages/package/__init__.py", "VALUE = 1")
    run("sys.path.append('lib/site-packages'); import package", "package.VALUE")
    app.write("lib/site-packages/package/__init__.py", "VALUE = 2")
    assert restarted(app, "lib/site-packages/package/__init__.py") == "ready 2"
