"""Which file systems deliver no events."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evreload._watch.observers import mounts
from support.processes import in_a_namespace

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="on Linux only")

# As recorded on several machines
TABLE = r"""
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw - proc proc rw
30 22 0:40 / /mnt/nfs rw,relatime shared:9 - nfs 10.0.0.1:/export rw,vers=3
31 22 0:41 / /mnt/nfs4 rw,relatime shared:10 - nfs4 10.0.0.1:/export rw,vers=4.2
32 22 0:42 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\;uid=1000
33 22 0:43 / /mnt/d rw,noatime - drvfs D: rw,uid=1000
34 22 0:44 / /vagrant rw,nodev,relatime shared:12 - vboxsf vagrant rw,iocharset=utf8
35 22 0:45 / /Users rw,relatime - virtiofs :/Users rw
36 22 0:46 / /home/me/far\040away rw,nosuid - fuse.sshfs me@host:/home/me rw,user_id=1000
37 22 0:47 / /mnt/smb rw,relatime - cifs //server/share rw
38 30 0:48 / /mnt/nfs/local rw,relatime - tmpfs tmpfs rw
39 22 0:49 / /hgfs rw,nosuid - fuse.vmhgfs-fuse vmhgfs-fuse rw
40 22 0:50 / /over rw,relatime master:1 propagate_from:2 - overlay overlay rw,lowerdir=/a
41 22 0:51 / /twice rw - nfs server:/ rw
42 41 259:1 /twice /twice rw - ext4 /dev/root rw
43 22 0:51 /private /artifact ro,relatime - fakeowner /run/host_mark/private rw,fakeowner
44 22 0:52 / /mnt/lima rw,relatime - virtiofs mount0 rw
45 22 8:17 / /media/usb rw,nosuid,nodev - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,blksize=4096
46 22 0:53 / /podman rw,nodev,noatime - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0
47 22 0:54 / /bound rw,nosuid,nodev,relatime - fuse /srv/source rw,user_id=0,default_permissions
48 22 0:55 / /gvisor rw - 9p none rw,trans=fd,rfdno=4,wfdno=4,aname=/,dfltuid=4294967294
49 22 253:3 / /cluster rw,relatime - gfs2 /dev/mapper/vg-lv rw
50 22 0:56 / /mnt/wsl/docker-desktop-bind-mounts rw,relatime - ext4 /dev/sdc rw
51 22 0:57 / /mac rw,relatime - fuse.grpcfuse grpcfuse rw,user_id=0,max_read=1048576
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/", None),
        ("/srv/app", None),
        ("/mnt/nfs", "nfs"),
        ("/mnt/nfs/deep/inside", "nfs"),
        ("/mnt/nfsx", None),
        ("/mnt/nfs/local/app", None),
        ("/mnt/nfs4/app", "nfs4"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/d", "drvfs"),
        ("/vagrant/app", "vboxsf"),
        ("/Users/me", "virtiofs"),
        ("/home/me/far away/app", "fuse.sshfs"),
        ("/home/me", None),
        ("/mnt/smb", "cifs"),
        ("/hgfs/app", "fuse.vmhgfs-fuse"),
        ("/over/app", None),
        ("/twice/app", None),  # what was mounted last is on top
        ("/artifact/src", "fakeowner"),
        ("/mnt/lima/src", "virtiofs"),
        ("/media/usb/src", None),  # a disk of this machine
        ("/podman/usr/lib", None),
        ("/bound", "fuse"),
        ("/gvisor/src", "9p"),
        ("/cluster/src", "gfs2"),
        ("/mnt/wsl/docker-desktop-bind-mounts/src", None),
        ("/mac/src", "fuse.grpcfuse"),
    ],
)
def test_file_systems_that_deliver_no_events(directory, kind):
    assert mounts.Mounts(TABLE).silent(directory) == kind


def test_files_that_are_mounted_by_themselves(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for directory in ("of itself", "plain"):
        (tmp_path / directory).mkdir()
    points = [str(file), str(tmp_path / "of itself").replace(" ", r"\040"), "/etc/hosts"]
    lines = [f"30 1 0:1 / {point} rw - ext4 /dev/vda rw" for point in points]
    table = mounts.Mounts("\n".join(lines))
    assert table.file_in(str(tmp_path)) == str(file)
    assert table.file_in(str(tmp_path / "of itself")) is None
    assert table.file_in(str(tmp_path.parent)) is None
    assert table.file_in("/etc") is None  # every container has that file


@on_linux
@pytest.mark.parametrize("odd", ["\r", "\x0b", "\x1c", "\x85", "\xa0", "\u2028"])
def test_a_mount_point_of_an_odd_name(tmp_path, odd):
    point = tmp_path / f"a{odd}b"
    point.mkdir()
    code = "import sys; from evreload._watch.observers import mounts\n"
    code += "print(mounts.read()._types[sys.argv[1]])"
    mount = 'mount -t tmpfs none "$1" && exec "$0" -c "$2" "$1"'
    command = [*in_a_namespace("-Urm"), "sh", "-c", mount, sys.executable, str(point), code]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout == "tmpfs\n"


@on_linux
def test_the_table_of_this_machine_can_be_read():
    assert mounts.read().silent("/proc") is None
    assert mounts.read()._types["/proc"] == "proc"


def test_there_may_be_no_table(monkeypatch):
    def missing(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    assert mounts.read().silent("/mnt/nfs") is None


# Mount tables with any names in them. The kernel escapes the characters that separate the fields,
# and the backslash; see proc_pid_mountinfo(5).

SEPARATORS = b" \t\n\\"
FIELDS = st.binary(max_size=12).map(lambda field: field.replace(b"\0", b""))
names = st.one_of(
    FIELDS,
    st.text("a0134 -\t\n\\#\r\x0b\x1c\x85\u2028", max_size=8).map(str.encode),
).map(lambda name: name.replace(b"/", b"") or b"-")
mount_points = st.lists(names, min_size=1, max_size=3).map(lambda steps: b"/" + b"/".join(steps))
types = st.sampled_from(["ext4", "nfs4", "fuse.sshfs", "fuseblk", "9p"])
optional_fields = st.lists(
    st.sampled_from([b"shared:1", b"master:2", b"propagate_from:3", b"unbindable"]), unique=True
)


def escape(field):
    return b"".join(b"\\%03o" % byte if byte in SEPARATORS else b"%c" % byte for byte in field)


@st.composite
def lines(draw, point, kind):
    root = escape(b"/" + draw(FIELDS))
    source = escape(draw(FIELDS)) or b"none"
    before = [b"30 1 0:1", root, escape(point), b"rw,relatime", *draw(optional_fields)]
    after = [kind.encode(), source, b"rw,uid=1000"]
    return b" ".join(before) + b" - " + b" ".join(after)


@st.composite
def tables(draw):
    """Return the types of mounted file systems by their mount points, and a table of them."""
    mounted = draw(st.dictionaries(mount_points, types, min_size=1, max_size=5))
    found = [draw(lines(point, kind)) for point, kind in mounted.items()]
    return mounted, b"".join(line + b"\n" for line in found)


@on_linux
@settings(deadline=None)
@given(table=tables())
def test_any_mount_point_is_read(table):
    mounted, content = table
    with mock.patch.object(mounts, "read_bytes", return_value=content):
        found = mounts.read()
    longer = "longer than any generated name"
    for point, kind in mounted.items():
        directory = os.fsdecode(point)
        expected = None if kind in ("ext4", "fuseblk") else kind
        assert found.silent(directory) == expected
        assert found.silent(os.path.join(directory, longer, "file")) == expected
    assert found.silent(f"/{longer}") is None


@pytest.mark.parametrize(
    ("path", "may"),
    [
        ("/srv/app/a.py", False),
        ("/mnt/nfs/a.py", True),
        ("/mnt/nfs/local/a.py", False),
        ("/podman/usr/lib/a.py", True),
        ("/media/usb/a.py", True),
        ("/over/a.py", False),
    ],
)
def test_file_systems_that_number_their_inodes_anew(path, may):
    assert mounts.Mounts(TABLE).may_renumber(path) is may


def test_an_unknown_file_system_numbers_no_inode_anew():
    assert not mounts.Mounts("").may_renumber("/srv/app/a.py")
