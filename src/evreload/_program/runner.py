"""Runs a program as ``__main__``, as plain Python would, and stays when it fails.

The main thread. A restart executes this file by its path, which works whatever the program does
to `sys.path`, the environment or the working directory, and under every flag of Python.
"""

from __future__ import annotations

import builtins
import os
import sys
from types import ModuleType

TYPE_CHECKING = False  # `typing` costs 2 ms of a program's start
if TYPE_CHECKING:
    from importlib.abc import Loader
    from types import CodeType, TracebackType
    from typing import Any


def run(target: list[str]) -> None:
    """Run *target*, as given to Python: ``-m name …``, ``-c code …`` or ``path …``.

    Raises what the program raises, SystemExit above all.
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
    """Run *target*, now that `set_up` has been called."""
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
    """Return *path* as Python puts it into ``__file__``: not tidied up."""
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
    """Put a fresh ``__main__`` in place, with what Python puts into its own, and no more."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if "__annotations__" in globals():  # this varies with the version
        main.__dict__.update(__annotations__={})
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:  # multiprocessing was imported in advance
        sys.modules["__mp_main__"] = main
    return main


def _run_module(name: str, *, alter_argv: bool) -> None:
    import runpy

    _new_main()
    # What `python -m` itself calls: nothing else gives __main__ its own module, with its spec.
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _run_script(path: str) -> None:
    main = _new_main()
    main.__file__ = path
    if "__cached__" in globals():
        main.__dict__["__cached__"] = None
    main.__loader__, code = _load(path)
    exec(code, main.__dict__)


def _load(path: str) -> tuple[Loader, CodeType]:
    # Where importlib.machinery, which costs 1 ms, has them from.
    from _frozen_importlib_external import SourceFileLoader, SourcelessFileLoader

    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader("__main__", path)
        code = compiled.get_code("__main__")
        assert code is not None
        return compiled, code
    source = SourceFileLoader("__main__", path)
    # Not get_code: it would write bytecode, and Python writes none for scripts.
    return source, compile(source.get_data(path), path, "exec", dont_inherit=True)


def _main() -> None:
    """Run what the arguments say; `_process.command_line` makes them."""
    mode, *arguments = sys.argv[1:]
    sys.orig_argv[:] = arguments
    if not sys.flags.safe_path:
        del sys.path[0]  # this file's directory
    evreload = _import_ourselves()
    target = evreload._common.startup.TARGET
    if mode == evreload._common.process.ALONE:
        _run_alone(evreload, target)
    elif mode == evreload._common.process.PLAINLY:
        run(target)
    elif evreload._common.process.program_of(mode):
        evreload._become_child(mode).hear()
        run(target)
    else:
        _run_as_child(evreload, mode, target)


def run_and_wait(target: list[str], *, until_success: bool) -> None:
    """Run *target* in this process; unless it succeeded, and that is enough, wait for a change."""
    import evreload

    status: object = 0
    try:
        run(target)
    except SystemExit as error:
        status = error.code
    except Exception as error:
        _report(error)
        evreload._wait_after(error)
    if not (until_success and not status):
        evreload.wait()


def _run_alone(evreload: Any, target: list[str]) -> None:
    """Run *target* again, in the process that evreload.start() restarted."""
    evreload._imports()  # take note from the beginning
    try:
        run(target)
        return
    except KeyboardInterrupt:
        show = sys.excepthook
        sys.excepthook = lambda kind, error, trace: show(kind, *_from_the_program(error))
        raise  # Python shows it, and ends by the signal
    except (Exception, SystemExit) as error:
        started = "evreload._inprocess.reloader" in sys.modules and evreload._story().is_started
        if isinstance(error, SystemExit) and (not error.code or started):
            raise  # it ended because it wanted to
        _report(error)
        failure = error
    try:  # out here, or whatever ended the waiting would tell of the failure, too
        evreload._wait_after(failure)
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says it; quietly


def _run_as_child(evreload: Any, mode: str, target: list[str]) -> None:
    """Run *target* under the command, which watches for it."""
    here = _directory()
    if not sys.flags.safe_path and here and here not in sys.path:
        sys.path.append(here)  # as tornado.autoreload's wrapper, whose tests want it
    is_forked = mode.startswith(evreload._common.process.FORKS)
    if is_forked:
        set_up(target)
        mode = evreload._serve_forks(mode)  # returns in each program that it forks
    child = evreload._become_child(mode)
    child.wait_for_go()
    if target[0] not in ("-m", "-c"):
        child.note_script(_absolute(target[0]))
    try:
        (execute if is_forked else run)(target)
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says it; quietly
    except SystemExit as error:
        child.failed(error)
        raise
    except BaseException as error:
        child.failed(error)
        _report(error)
        sys.exit(1)
    finally:
        child.ended()


def _import_ourselves() -> ModuleType:
    """Import the package this file lies in, wherever that is."""
    above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.path.insert(0, above)
    try:
        import evreload._common.process
    finally:
        sys.path.remove(above)
    return evreload


def _report(error: BaseException) -> None:
    """Print *error* as Python would, without the frames that are ours."""
    if isinstance(error, SystemExit):
        if not isinstance(error.code, int):
            sys.stderr.write(f"{error.code}\n")
        return
    sys.excepthook(type(error), *_from_the_program(error))


def _from_the_program(error: BaseException) -> tuple[BaseException, TracebackType | None]:
    """Return *error*, and its traceback, without the frames that are ours."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return error.with_traceback(trace), trace


if __name__ == "__main__":
    _main()
