"""Let tox find the interpreters that pyenv has installed and that are not on PATH.

tox loads this file automatically. It adds the interpreters at the end of PATH, so that others on
PATH come first. Without pyenv, it changes nothing.
"""

import os
import re
from pathlib import Path

VERSIONS = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
RELEASES = [path for path in VERSIONS.glob("3.*") if re.fullmatch(r"3\.\d+\.\d+", path.name)]
RELEASES.sort(key=lambda path: [int(part) for part in path.name.split(".")], reverse=True)

os.environ["PATH"] = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), *(str(path / "bin") for path in RELEASES)]
)
