"""Which file systems deliver no events.

A change made on another machine, or on the host of a virtual machine, never passes this kernel.
The types of the file systems are read from Linux's mountinfo; see proc_pid_mountinfo(5).

Runs in: the supervisor and the program; on the thread that starts the observers.
Owns: nothing.
"""

from __future__ import annotations

import re

from ..._common.unpatched import os, read_bytes

REMOTE = {
    "9p",  # WSL, Docker Desktop, gVisor
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "drvfs",
    "fakeowner",  # Docker Desktop on macOS, over virtiofs
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "prl_fs",  # Parallels
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
}
# These FUSE file systems deliver events: all changes of a local disk, or of the layers of a
# container, pass through them.
LOCAL_FUSE = {"fuseblk", "fuse.fuse-overlayfs"}
# They have no numbers of inodes on the disk; Linux makes them up each time it reads a file.
RENUMBERING = {"exfat", "msdos", "vfat"}
# Every container has these, each mounted by itself.
CONTAINER_FILES = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}


class Mounts:
    """The mount table at one moment."""

    def __init__(self, mountinfo: str) -> None:
        self._types = dict(map(_parse, filter(None, mountinfo.split("\n"))))

    def silent(self, directory: str) -> str | None:
        """Return the type of the file system of *directory* if it delivers no events."""
        kind = self._type(directory)
        is_silent = kind in REMOTE or (kind.startswith("fuse") and kind not in LOCAL_FUSE)
        return kind if is_silent else None

    def _type(self, path: str) -> str:
        """Return the type of the file system of *path*; empty if it is not known."""
        while path not in self._types:
            parent = os.path.dirname(path)
            if parent == path:
                return ""
            path = parent
        return self._types[path]

    def may_be_remote(self, path: str) -> bool:
        """Whether another machine's clock may stamp *path*; True if the mounts are not known."""
        return not self._types or self.silent(os.path.realpath(path)) is not None

    def may_renumber(self, path: str) -> bool:
        """Whether the inode of *path* may get another number, though it is the same file."""
        kind = self._type(os.path.realpath(path))
        return kind in REMOTE or kind in RENUMBERING or kind.startswith("fuse")

    def file_in(self, directory: str) -> str | None:
        """Return a file in *directory* that is itself a mount: *directory* gets no events of it."""
        for path in self._types.keys() - CONTAINER_FILES:
            if os.path.dirname(path) == directory and os.path.isfile(path):
                return path
        return None


def read() -> Mounts:
    """Read the mount table of this process; an empty one where there is none."""
    try:
        return Mounts(os.fsdecode(read_bytes("/proc/self/mountinfo")))
    except OSError:
        return Mounts("")


def _parse(line: str) -> tuple[str, str]:
    # Split at the space only: other characters that Python takes for white space are not escaped.
    before, _, after = line.partition(" - ")
    return _unescape(before.split(" ")[4]), after.split(" ")[0]


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
