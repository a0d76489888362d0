"""`GET` and `HEAD /v1/videos/{id}/content`: the MP4 from the gateway's own disk, or one range of
it.

The ETag is the content's SHA-256, so that whatever a caller holds can be told from what is here.
"""

import asyncio
import os
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from typing import BinaryIO

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.errors import NO_RETRY, no_such_video
from gateway.api.videos import Videos
from gateway.clock import Clock
from gateway.content.videos import VideoStore
from gateway.errors import LedgerFull, RequestError, StateConflict, bad_value
from gateway.failpoint import reach
from gateway.job import Job, State
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import note

log = structlog.get_logger()

CHUNK = 256 * 1024
"""Bytes of a message: at 64 KiB a gigabyte costs 0.93 s of CPU, at 256 KiB 0.40."""

MOST_HALF_FETCHED = 10_000
"""Videos of which it is remembered how much has gone out: the one asked for longest ago goes."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class Files:
    """The endpoint of a video's content. `ttl`: seconds that upstream keeps a finished video;
    `served`: the accounts that something can be fetched over.
    """

    def __init__(
        self,
        videos: Videos,
        store: VideoStore,
        ledger: Ledger,
        clock: Clock,
        ttl: float,
        served: Collection[str],
    ) -> None:
        self._videos = videos
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._ttl = ttl
        self._served = served
        self._sent: OrderedDict[str, int] = OrderedDict()
        """Of videos that were fetched in part: how many bytes, from the first one on."""

    async def content(self, request: Request) -> Response:
        job = await self._videos.own(request)
        if request.query_params.get("variant", "video") != "video":
            raise bad_value("variant", "must be video: the upstream offers no other")
        _check_state(job)
        etag = f'"{job.content_sha256}"'
        if not _matches(request.headers.get("if-match", "*"), etag):
            message = "This video's content is not the one that If-Match names."
            raise RequestError(412, message, code="precondition_failed", param="If-Match")
        if _matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers={"etag": etag})
        file = await self._store.open(job.id, job.content_sha256)
        if file is None:
            raise await self._lose(job)
        return ContentResponse(
            file, job.id, etag, request, lambda begin, end: self._note_sent(job, begin, end)
        )

    async def _lose(self, job: Job) -> RequestError:
        """The bytes don't hold any more. They are fetched again while upstream has them."""
        now = self._ledger.job(job.id)
        if now is None or not now.is_seen:
            return no_such_video()
        if now.content_gone or now.content_lost or now.content_sha256 != job.content_sha256:
            return _gone() if now.content_gone else _being_fetched()  # seen to meanwhile
        log.error("stored content no longer holds", job=job.id)
        await self._store.remove(job.id)
        reach("content.lost")
        job = now
        is_kept = self._clock.now() - (job.finished or 0.0) < self._ttl
        may_come_back = is_kept and job.account in self._served
        lost = {"content_lost": may_come_back, "content_gone": not may_come_back}
        await self._ledger.commit(note(job, lost | {"misses": 0, "retry": 0.0}))
        reach("content.marked")
        return _being_fetched() if may_come_back else _gone()

    async def _note_sent(self, job: Job, begin: int, end: int) -> None:
        """These bytes have gone out. Once all have, each answer going on from those before it, its
        caller has all of it: from now on it may go when room is needed. Who read only its end, as
        players do to find the index, has not.
        """
        if job.fetched_at is not None:
            return
        sent = self._sent.pop(job.id, 0)
        if begin <= sent:
            sent = max(sent, end)
        if sent != job.content_bytes:
            self._sent[job.id] = sent
            if len(self._sent) > MOST_HALF_FETCHED:
                self._sent.popitem(last=False)
        else:
            try:
                await self._ledger.commit(note(job, {"fetched_at": self._clock.wall()}))
            except (StateConflict, LedgerFull) as error:
                log.warning(
                    "that a video was fetched could not be noted", job=job.id, why=str(error)
                )


def _check_state(job: Job) -> None:
    if job.state is State.FAILED:
        message = f"This video failed: {job.error_message}"
        raise RequestError(404, message, code="content_not_available", headers=NO_RETRY)
    if job.state is not State.COMPLETED:
        message = "This video is not finished yet. Poll it until its status is completed."
        raise RequestError(404, message, code="content_not_ready", headers=NO_RETRY)
    if job.content_gone:
        raise _gone()
    if job.content_lost:
        raise _being_fetched()


def _gone() -> RequestError:
    message = "This video's content is no longer kept."
    return RequestError(410, message, code="content_gone", headers=NO_RETRY)


def _being_fetched() -> RequestError:
    message = "This video's content was damaged here and is being fetched again."
    return RequestError(404, message, code="content_not_ready", headers=NO_RETRY)


def _matches(header: str, etag: str) -> bool:
    """Whether an If-Match or If-None-Match names this content."""
    names = [name.strip().removeprefix("W/") for name in header.split(",")]
    return "*" in names or etag in names


class ContentResponse(Response):
    """An open file, streamed: what was opened is read to its end, whatever happens to its name.

    `sent` is called at its end, with the first byte that was sent and the one after the last.
    """

    def __init__(
        self,
        file: BinaryIO,
        key: str,
        etag: str,
        request: Request,
        sent: Callable[[int, int], Awaitable[None]],
    ) -> None:
        self._file = file
        self._request = request
        self._sent = sent
        self._send_body = request.method != "HEAD"
        self._size = os.fstat(file.fileno()).st_size
        headers = {
            "accept-ranges": "bytes",
            "content-disposition": f'inline; filename="{key}.mp4"',
            "content-type": "video/mp4",
            "etag": etag,
        }
        try:
            self._begin, self._end = 0, self._size
            wanted = request.headers.get("range")
            if wanted and request.headers.get("if-range", etag) == etag:
                self._begin, self._end = read_range(wanted, self._size)
                headers["content-range"] = f"bytes {self._begin}-{self._end - 1}/{self._size}"
            headers["content-length"] = str(self._end - self._begin)
        except RequestError:
            file.close()
            raise
        self.status_code = 206 if "content-range" in headers else 200
        self.background = None
        self.body = b""
        self.raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        sent = self._begin
        with self._file as file:
            await send({"type": "http.response.start", **start})
            file.seek(self._begin)
            left = self._end - self._begin if self._send_body else 0
            last = b""
            while left:
                if await self._request.is_disconnected():
                    break
                chunk = await asyncio.to_thread(file.read, min(CHUNK, left))
                if not chunk:
                    raise OSError("the content is shorter than it was")
                left -= len(chunk)
                if not left:
                    chunk, last = chunk[:-1], chunk[-1:]
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # Waits until that has gone out: no second chunk is held for a slow reader, and
                # one that was cut off in the last has not fetched it.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                sent += len(chunk)
            if not (self._send_body and await self._request.is_disconnected()):
                # Whoever has the last byte has a whole answer: what it does next ends no download.
                await send({"type": "http.response.body", "body": last, "more_body": False})
                sent += len(last)
        await self._sent(self._begin, sent)


def read_range(value: str, size: int) -> tuple[int, int]:
    """First byte and the one after the last, of one range. Raises RequestError 416 for anything
    else.
    """
    match = _RANGE.fullmatch(value.strip())
    if match and any(match.groups()):
        first, last = match.groups()
        begin = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if begin < end:
            return begin, end
    headers = {"content-range": f"bytes */{size}"}
    message = f"Range must be one range within the {size} bytes of this video."
    raise RequestError(416, message, code="invalid_range", param="range", headers=headers)
