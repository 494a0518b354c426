"""Which modules may be preloaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--warm needs Linux")

THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
"""
CHECKED = """
import json, sys, sysconfig
from evreload._common.project_paths import ProjectPaths
from evreload._program.imports import Imports
from evreload._snapshot.preload_check import PreloadCheck

project, site, *names = sys.argv[1:]
sys.path += [project, site]
imports = Imports()
imports.begin(lambda path, read_ns: None)
paths = ProjectPaths([sysconfig.get_path("stdlib"), site], [project])
check = PreloadCheck(imports, paths, ["unwanted"])
for name in names:
    check.load(name)
left_out = dict(check.left_out)
loaded = [name for name in names if name in sys.modules]
check.end()
import unwanted
print(json.dumps([left_out, loaded]))
"""


def test_each_module_is_left_out_for_its_own_reason(tmp_path):
    """All in one process, which need not be fit to fork afterwards."""
    modules = {
        "starter": THREAD,
        "opener": "import socket\nlistener = socket.socket()",
        "piper": "import os\npipe = os.pipe()",
        "maker": f"import tempfile\nplace = tempfile.mkdtemp(dir='{tmp_path}')",
        "mover": "import os\nos.chdir('/')",
        "failing": "1 / 0",
        "leaver": "raise SystemExit(3)",
        "insider": "import project_module",
        "unwanted": "",
        "asker": "import unwanted.part",
        "friend": "import innocent, starter",
        "innocent": "import colorsys",
    }
    site, project = tmp_path / "site", tmp_path / "project"
    site.mkdir()
    project.mkdir()
    (project / "project_module.py").touch()
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CHECKED, project, site, *modules],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    left_out, loaded = json.loads(done.stdout)
    assert loaded == ["innocent"]
    reasons = {name: why.partition("/")[0].partition("pipe:")[0] for name, why in left_out.items()}
    assert reasons == {
        "starter": "it starts a thread",
        "opener": "it opens a socket",
        "piper": "it keeps open ",
        "maker": "it makes ",
        "mover": "it changes the working directory",
        "failing": "ZeroDivisionError: division by zero",
        "leaver": "SystemExit: 3",
        "insider": "it runs ",
        "asker": "it imports unwanted",
        "friend": "it imports starter",
    }
