"""Which paths do not matter.

The owner's thread. Version control's folders, bytecode and the temporary files of editors
never do; what else is for the user to say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from fnmatch import translate

FOLDERS = frozenset({".git", ".hg", ".svn", ".bzr", "_darcs", "CVS", ".jj", "__pycache__"})

TEMPORARY = (
    "*~",  # emacs, gedit, nano, vim: the version before
    ".*.sw?",  # vim's swap files
    ".*.sw?x",
    "4913",  # vim tries with this whether it may write here
    ".#*",  # emacs' locks
    "#*#",  # emacs' autosaves
    "sed??????",  # sed -i
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

_temporary = re.compile("|".join(map(translate, TEMPORARY)))

Ignored = Callable[[str], "str | None"]


def by_default(path: str) -> str | None:
    """Return the rule by which *path* never matters, or None if it may."""
    for folder in FOLDERS.intersection(path.split(os.sep)):
        return folder + os.sep
    if _temporary.match(os.path.basename(path)):
        return "temporary files of editors"
    return None


def by_globs(globs: Iterable[str]) -> Ignored:
    """Return a function that tells by which of *globs* a path does not matter.

    A glob without a slash is held against each part of the path; one with a slash against the
    whole absolute path, or its end.
    """
    rules = [(glob, re.compile(translate(_spread(glob)))) for glob in globs]

    def ignored(path: str) -> str | None:
        for glob, rule in rules:
            subjects = [path] if os.sep in glob else path.split(os.sep)
            if any(rule.match(subject) for subject in subjects):
                return glob
        return None

    return ignored


def _spread(glob: str) -> str:
    glob = glob.rstrip(os.sep)
    if os.sep not in glob or os.path.isabs(glob):
        return glob
    return "*" + os.sep + glob.removeprefix(os.curdir + os.sep)
