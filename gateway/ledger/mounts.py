"""Which file system a folder lies on: one that comes over a network can't hold a ledger.

Locks and fsyncs there may mean nothing, and SQLite's write-ahead log needs memory that its
processes share.
"""

import re
from pathlib import Path

from gateway.errors import StartError

NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|ncpfs|afs|ceph|glusterfs|lustre|gpfs|beegfs\w*|davfs|"
    r"fuse\.(sshfs|s3fs|rclone|gcsfuse|goofys|glusterfs\S*|ceph\S*|davfs\S*|juicefs|nfs\S*|smb\S*)"
)
"""Types of file systems that come over a network, as Linux names them."""

_MOUNTS = Path("/proc/self/mountinfo")


def refuse_network(folder: Path) -> None:
    """Raises StartError when `folder`, which is there, lies on a network file system."""
    try:
        mounts = _MOUNTS.read_text()
    except OSError:  # another system than Linux
        return
    kind = file_system(mounts, folder.resolve())
    if kind is not None and NETWORK.fullmatch(kind):
        raise StartError(f"the data folder {folder} lies on a network file system ({kind})")


def file_system(mounts: str, path: Path) -> str | None:
    """The type of the file system that the absolute `path` lies on; `mounts`: as in
    /proc/self/mountinfo (proc(5)). None: it can't be told.
    """
    longest, kind = -1, None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if len(fields := before.split(" ")) < 5 or not after:
            continue
        point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4]))
        # Of two on one point, the later one covers the earlier.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            longest, kind = len(point.parts), after.split(" ")[0]
    return kind


_OCTAL = re.compile(r"\\(\d{3})")
"""A space in a name is written \\040."""
