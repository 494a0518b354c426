"""Which paths do not matter: by default in a watched directory, and by the user's globs anywhere.

By default these are the directories of version control, bytecode, what tools write whenever they
run, the temporary files of editors, and the files that this process prints to.

Runs in: the supervisor and the program, on the thread that owns the watcher.
Owns: nothing.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable
from fnmatch import translate

from .._common.unpatched import os

DIRECTORIES = frozenset(
    {".git", ".hg", ".svn", ".bzr", "_darcs", "CVS", ".jj"}
    # A tool that runs again because of what it has written itself would never stop.
    | {"__pycache__", ".hypothesis", ".benchmarks", ".tox", ".nox", ".stestr", ".eggs", "htmlcov"}
    | {".pytype", ".pyre", ".ipynb_checkpoints"}
)

BY_TOOLS = (
    ".*_cache",  # directories of mypy, pytest, ruff and others
    "*.egg-info",
    ".dmypy.json",
    ".coverage",
    ".coverage.*",  # one of each process that coverage measures
    ".testmondata*",
    "*.*-journal",  # SQLite writes these beside a database, also when it only reads
    "*.*-wal",
    "*.*-shm",
)

TEMPORARY = (
    "*~",  # backups of emacs, gedit, nano, vim
    ".*.sw?",  # vim's swap files
    ".*.sw?x",
    "4913",  # vim creates it to find out whether it may write here
    ".#*",  # emacs' locks
    "#*#",  # emacs' autosaves
    "sed[!.][!.][!.][!.][!.][!.]",  # sed -i
    "*___jb_tmp___",  # PyCharm's safe write
    "*___jb_old___",
    ".goutputstream-*",  # GNOME
    "*.kate-swp",
    ".~lock.*#",  # LibreOffice
    ".nfs????????*",  # removed while open, on NFS
    ".fuse_hidden*",
    "*.pyc",
    "*.pyo",
    ".DS_Store",
)

_by_tools = re.compile("|".join(map(translate, BY_TOOLS)))
_temporary = re.compile("|".join(map(translate, TEMPORARY)))

OUTPUTS = (1, 2)  # the descriptors of standard output and standard error
OWN_OUTPUT = "the output of the program"

IgnoreRule = Callable[[str], "str | None"]


def by_default(path: str) -> str | None:
    """Return why *path*, in a watched directory, does not matter; None if it does."""
    name = os.path.basename(path)
    if name in DIRECTORIES:
        return name + os.sep
    if _by_tools.match(name):
        return "files that tools write whenever they run"
    if _temporary.match(name):
        return "temporary files of editors"
    return None


def by_output() -> IgnoreRule:
    """Return a function that returns why a path does not matter if this process prints to it.

    The shell has opened such a file, as for ``> server.log``, and every process that is started
    here inherits it. The function knows the file under any name.
    """
    files = [found for number in OUTPUTS if (found := _regular_file(number))]

    def printed_to(path: str) -> str | None:
        return OWN_OUTPUT if files and _regular_file(path) in files else None

    return printed_to


def _regular_file(path: str | int) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # closed, or missing; or a NUL in the path
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def by_globs(globs: Iterable[str]) -> IgnoreRule:
    """Return a function that returns the glob by which a path does not matter, or None.

    A glob without a slash is matched against each part of the path; one with a slash against the
    whole absolute path, or its end.
    """
    rules = [(glob, _to_whole_path(glob)) for glob in globs]
    parts = [(glob, _compiled(spread)) for glob, spread in rules if os.sep not in spread]
    wholes = [(glob, _compiled(spread)) for glob, spread in rules if os.sep in spread]

    def ignored(path: str) -> str | None:
        for glob, rule in wholes:
            if rule.match(path):
                return glob
        for glob, rule in parts:
            if any(map(rule.match, path.split(os.sep))):
                return glob
        return None

    return ignored


def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


def _to_whole_path(glob: str) -> str:
    glob = glob.rstrip(os.sep)
    if os.sep not in glob or os.path.isabs(glob):
        return glob
    return "*" + os.sep + glob.removeprefix(os.curdir + os.sep)
