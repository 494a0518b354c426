"""Runs a program as ``__main__``, as plain Python would, and reports its failure.

Runs in: the program, in both modes; its workers; and the fork server; on the main thread.
Owns: `sys.argv`, `sys.path` and ``__main__``, until the program's first line.
"""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

from .. import _backend
from .._common import role as roles
from .._common import startup
from .._common.unpatched import os
from .quick_exit import QuickExit

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from importlib.abc import Loader
    from types import CodeType, TracebackType

# What Python has put into its own `__main__`; this depends on the version.
GIVEN = frozenset(sys.modules["__main__"].__dict__)


def run(target: list[str]) -> None:
    """Run *target*, as given to Python: ``-m name …``, ``-c code …`` or ``path …``.

    Raises what the program raises, such as SystemExit.
    """
    set_up(target)
    execute(target)


def set_up(target: list[str]) -> None:
    """Set `sys.argv` and `sys.path` as Python does for *target*."""
    if target[0] == "-m":
        sys.argv[:] = ["-m", *target[2:]]
        _put_first(_directory())
    elif target[0] == "-c":
        sys.argv[:] = ["-c", *target[2:]]
        _put_first("")
    elif _is_container(target[0]):
        sys.argv[:] = target
        sys.path.insert(0, _absolute(target[0]))
    else:
        sys.argv[:] = target
        _put_first(os.path.dirname(os.path.realpath(target[0])))


def execute(target: list[str]) -> None:
    """Run *target*, after `set_up`."""
    if target[0] == "-m":
        _run_module(target[1], alter_argv=True)
    elif target[0] == "-c":
        from importlib.machinery import BuiltinImporter

        main = _new_main()
        main.__loader__ = BuiltinImporter
        exec(compile(target[1], "<string>", "exec", dont_inherit=True), main.__dict__)
    elif _is_container(target[0]):
        _run_module("__main__", alter_argv=False)
    else:
        _run_script(_absolute(target[0]))


def _put_first(directory: str | None) -> None:
    if not sys.flags.safe_path and directory is not None:
        sys.path.insert(0, directory)


def _directory() -> str | None:
    """Return the working directory, unless it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _absolute(path: str) -> str:
    """Return *path* as Python puts it into ``__file__``: not normalised."""
    return os.path.join(_directory() or "", path)


def _is_container(path: str) -> bool:
    """Whether *path* is a directory or an archive with a program in it."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _new_main() -> ModuleType:
    """Make a new module ``__main__``, with the attributes that Python gives it, and no others."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if "__annotations__" in GIVEN:
        main.__dict__.update(__annotations__={})
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # the fork server has imported multiprocessing
        sys.modules["__mp_main__"] = main
    return main


def _run_module(name: str, *, alter_argv: bool) -> None:
    import runpy

    _new_main()
    # `python -m` itself calls this function. No public one gives __main__ the module's own spec:
    # https://github.com/python/cpython/blob/3.11/Lib/runpy.py
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _run_script(path: str) -> None:
    main = _new_main()
    main.__file__ = path
    if "__cached__" in GIVEN:
        main.__dict__["__cached__"] = None
    main.__loader__, code = _load(path)
    exec(code, main.__dict__)


def _load(path: str) -> tuple[Loader, CodeType]:
    # Not from importlib.machinery, which costs 1 ms to import.
    from _frozen_importlib_external import SourceFileLoader, SourcelessFileLoader

    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", path)
        code = compiled.get_code("__main__")
        assert code is not None
        return compiled, code
    source = SourceFileLoader("__main__", path)
    # Not get_code: it would write bytecode, and Python writes none for scripts.
    return source, compile(source.get_data(path), path, "exec", dont_inherit=True)


def main(argument: str) -> None:
    """Run the program in the role that *argument* is the text of."""
    role = roles.Role.parse(argument)
    if role.kind == roles.ALONE:
        _run_alone(startup.TARGET)
    elif role.kind == roles.PLAIN:
        run(startup.TARGET)
    elif role.kind == roles.WORKER:
        _run_worker(role, startup.TARGET)
    else:
        _run_supervised(role, startup.TARGET)


def run_and_wait(target: list[str], *, until_success: bool) -> None:
    """Run *target* in this process, then wait for a change, and restart.

    If *until_success*, return instead once it has succeeded.
    """
    import evreload

    status: object = 0
    try:
        run(target)
    except SystemExit as error:
        status = error.code
    except Exception as error:
        _print_error(error)
        _backend.wait_after(error)
    if until_success and not status:
        _backend.wait_for_rest()
    else:
        evreload.wait()


def _run_alone(target: list[str]) -> None:
    """Run *target* again, in the process that evreload.start() restarted."""
    _backend.imports()  # here, so that it notes all files
    _backend.adopt_children()
    failure: BaseException | None = None
    success: SystemExit | None = None
    try:
        run(target)
    except KeyboardInterrupt:
        show = sys.excepthook
        sys.excepthook = lambda kind, error, trace: show(kind, *_without_runner(error))
        raise  # Python prints it, and ends by the signal
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and (not error.code or _is_started()):
            success = error  # the program ended on purpose
        else:
            _print_error(error)
            failure = error
    try:  # not in the handler above: an error here would have the failure as its context
        if failure:
            _backend.wait_after(failure)
        elif not _is_started():
            _backend.wait_for_rest()
    except KeyboardInterrupt:
        sys.exit(130)  # quietly, with the status that a shell gives
    if success:
        raise success


def _is_started() -> bool:
    backend = _backend.existing()
    return backend is not None and backend.is_started


def _run_worker(role: roles.Role, target: list[str]) -> None:
    """Run *target*, the code of a worker that multiprocessing has started."""
    quick_exit = QuickExit()
    client = _backend.become_client(role)
    quick_exit.attach(client.is_stopped, role.pipes)
    client.begin()
    with quick_exit:
        run(target)


def _run_supervised(role: roles.Role, target: list[str]) -> None:
    """Run *target* under the supervisor, which watches its files."""
    quick_exit = QuickExit()  # before the fork server imports modules that add exit handlers
    here = _directory()
    if not sys.flags.safe_path and here and here not in sys.path:
        sys.path.append(here)  # as tornado.autoreload does, whose tests need it
    is_forked = role.kind == roles.FORK_SERVER
    if is_forked:
        set_up(target)
        role = _backend.serve_forks(role)  # returns in each program that it forks
    client = _backend.become_client(role)
    quick_exit.attach(client.is_stopped, role.pipes)
    client.wait_for_release()
    if target[0] not in ("-m", "-c"):
        client.report_script(_absolute(target[0]))
    with quick_exit:
        try:
            (execute if is_forked else run)(target)
        except KeyboardInterrupt:
            sys.exit(130)  # quietly, with the status that a shell gives
        except SystemExit as error:
            client.report_failure(error)
            raise
        except BaseException as error:
            client.report_failure(error)
            _print_error(error)
            sys.exit(1)
        finally:
            client.report_end()


def _print_error(error: BaseException) -> None:
    """Print *error* as Python would, without the frames of evreload."""
    if isinstance(error, SystemExit):
        if not isinstance(error.code, int):
            sys.stderr.write(f"{error.code}\n")
        return
    sys.excepthook(type(error), *_without_runner(error))


def _without_runner(error: BaseException) -> tuple[BaseException, TracebackType | None]:
    """Return *error*, and its traceback, without the frames of evreload that come first."""
    here = _without_runner.__code__.co_filename
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename in (startup.RUNNER, here):
        trace = trace.tb_next
    return error.with_traceback(trace), trace
