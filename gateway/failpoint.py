"""Named points in a job's life at which a test ends the process, or makes the disk fail.

The variable VIDEO_GATEWAY_FAILPOINTS says where: `submit.answered=kill@3` kills the process with
SIGKILL when it reaches that point for the third time; several are parted by commas. It is read
once, when this module is imported; where it is not set, `reach` does nothing at all.
"""

import errno
import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

VARIABLE = "VIDEO_GATEWAY_FAILPOINTS"

POINTS = {
    "ledger.migrated": "a new ledger has its tables, in a transaction that is not committed",
    "accept.read": "a request has been read and checked; nothing of it is kept",
    "accept.spooled": "its input image is durable, its job is not committed",
    "accept.committed": "its job is committed, its caller has no answer",
    "commit.written": "a group of transitions is written and not committed",
    "commit.done": "it is committed; memory does not show it, and who waits does not know",
    "submit.reserved": "a POST has its place and its slot; nothing was sent",
    "submit.sent": "the last byte of its body is on its way",
    "submit.answered": "upstream has answered it; nothing of that is written",
    "submit.settled": "the answer is committed; its input image is still here",
    "input.freed": "an input image that nobody needs any more is deleted",
    "poll.reserved": "a poll has its place; nothing was sent",
    "poll.answered": "upstream has answered it; nothing of that is written",
    "poll.settled": "the answer is committed",
    "download.reserved": "a download has its place; nothing was sent",
    "download.chunk": "some bytes of a video are here",
    "download.flushed": "they are handed to the system, and not fsynced",
    "download.answered": "the last byte is here; nothing of that is written",
    "keep.synced": "the video is fsynced, under the name of a download",
    "keep.placed": "its name is durable; the index does not know it",
    "keep.indexed": "the index knows it; the note of the download is still here",
    "keep.noted": "the note is gone; the job is still fetching",
    "download.settled": "the job is completed",
    "content.lost": "a damaged video is removed; the ledger takes it for whole",
    "content.marked": "it is marked as lost, and will be fetched again",
    "delete.marked": "a job is deleted in the ledger; its content is still here",
    "delete.removed": "its content is removed; the ledger takes it for kept",
    "recover.settled": "a start has settled a call that nobody saw the end of",
    "recover.adopted": "a start has found a video that is in place; its job is still fetching",
    "recover.done": "a start has brought ledger and folder together; nothing is served yet",
    "janitor.marked": "housekeeping has written that content is gone; it is still here",
    "janitor.removed": "that content is removed",
    "shutdown.begun": "the signal to end has come",
    "shutdown.closing": "all calls have ended; the ledger is still open",
    "disk.write": "bytes of content are about to be written",
    "disk.sync": "content, or the names in a folder, are about to be fsynced",
    "disk.rename": "content is about to be renamed",
    "disk.renamed": "content has its own name, which is not durable",
}  # fmt: skip
"""Every point, in the order of a job's life, and how things stand there; those of the disk are of
many moments of it.
"""

_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_FAULT = re.compile(r"(?P<point>[a-z.]+)=(?P<action>kill|enospc|eio)@(?P<nth>[1-9][0-9]{0,8})")


@dataclass(slots=True)
class _Fault:
    """What happens at the `nth` time."""

    action: str
    nth: int
    times: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def reached(self) -> None:
        if next(self.times) != self.nth:
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(_ERRORS[self.action], os.strerror(_ERRORS[self.action]))


def problems(environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each fault that the variable asks for and that can't be."""
    for wanted in filter(None, environ.get(VARIABLE, "").split(",")):
        match = _FAULT.fullmatch(wanted)
        if match is None:
            yield f"{VARIABLE}: {wanted!r} is not POINT=kill@N, POINT=enospc@N or POINT=eio@N"
        elif match["point"] not in POINTS:
            yield f"{VARIABLE}: there is no point {match['point']!r}"
        elif match["action"] != "kill" and not match["point"].startswith("disk."):
            yield f"{VARIABLE}: {match['action']} is for the points of the disk"


def arm(environ: Mapping[str, str]) -> Callable[[str], None]:
    """What `reach` is, by the variable."""
    matches = (_FAULT.fullmatch(wanted) for wanted in environ.get(VARIABLE, "").split(","))
    faults = {m["point"]: _Fault(m["action"], int(m["nth"])) for m in matches if m}
    if not faults:
        return _nothing

    def reach(point: str) -> None:
        if point in faults:
            faults[point].reached()

    return reach


def _nothing(_point: str) -> None:
    pass


reach = arm(os.environ)
"""Told of each point as it is reached. Raises OSError where the disk is to fail."""
