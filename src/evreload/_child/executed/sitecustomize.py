"""What Python imports first if the program has executed it: it goes on reporting to the supervisor.

`exec_interceptor` has put this directory into PYTHONPATH. Python imports the module `sitecustomize`
whenever it starts; there may be another one, which is imported next. Any version of Python may run
this, so the syntax is old. Nothing is printed if evreload cannot be imported.

Runs in: the program, under the supervisor, after it has executed Python; and other processes with
its environment, where it does nothing. On the main thread.
Owns: nothing. It removes itself from `sys.path` and from the environment.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ABOVE = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
VARIABLE = "EVRELOAD_EXECUTED"

passed = os.environ.pop(VARIABLE, "")
paths = [path for path in os.environ.pop("PYTHONPATH", HERE).split(os.pathsep) if path != HERE]
if paths:
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
sys.path[:] = [path for path in sys.path if path != HERE]

if sys.version_info >= (3, 11) and passed.partition(" ")[0] == str(os.getpid()):
    sys.path.insert(0, ABOVE)
    try:
        from evreload._child.exec_interceptor import go_on
    except Exception:
        pass  # the supervisor reports that it gets no messages
    else:
        go_on(passed)
    finally:
        sys.path.remove(ABOVE)

this = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
except ImportError as error:
    if this is not None:
        sys.modules["sitecustomize"] = this
    if getattr(error, "name", "sitecustomize") != "sitecustomize":
        raise
