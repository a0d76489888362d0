"""`GET` and `HEAD /v1/videos/{id}/content`: the MP4 from the gateway's own disk, whole or one range
of it.
"""

import asyncio
import os
import re
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.errors import NO_RETRY
from gateway.api.videos import Videos
from gateway.content.videos import VideoStore
from gateway.errors import RequestError
from gateway.job import Job, State

CHUNK = 256 * 1024
"""Bytes of a message: at 64 KiB a gigabyte costs 0.93 s of CPU, at 256 KiB 0.40."""

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class Files:
    """The endpoint of a video's content."""

    def __init__(self, videos: Videos, store: VideoStore) -> None:
        self._videos = videos
        self._store = store

    async def content(self, request: Request) -> Response:
        job = self._videos.own(request)
        if request.query_params.get("variant", "video") != "video":
            message = "variant must be video: the upstream offers no other."
            raise RequestError(400, message, code="invalid_value", param="variant")
        _check_state(job)
        file = await self._store.open(job.id)
        if file is None:
            message = "This video's content is no longer kept."
            raise RequestError(410, message, code="content_gone", headers=NO_RETRY)
        return ContentResponse(file, job, request)


def _check_state(job: Job) -> None:
    if job.state is State.COMPLETED:
        return
    if job.state is State.FAILED:
        message = f"This video failed: {job.error_message}"
        raise RequestError(404, message, code="content_not_available", headers=NO_RETRY)
    message = "This video is not finished yet. Poll it until its status is completed."
    raise RequestError(404, message, code="content_not_ready", headers=NO_RETRY)


class ContentResponse(Response):
    """An open file, streamed: what was opened is read to its end, whatever happens to its name."""

    def __init__(self, file: BinaryIO, job: Job, request: Request) -> None:
        self._file = file
        self._send_body = request.method != "HEAD"
        size = os.fstat(file.fileno()).st_size
        etag = f'"{job.content_sha256}"'
        headers = {
            "accept-ranges": "bytes",
            "content-disposition": f'inline; filename="{job.id}.mp4"',
            "content-type": "video/mp4",
            "etag": etag,
        }
        try:
            self._begin, self._end = 0, size
            wanted = request.headers.get("range")
            if wanted and request.headers.get("if-range", etag) == etag:
                self._begin, self._end = read_range(wanted, size)
                headers["content-range"] = f"bytes {self._begin}-{self._end - 1}/{size}"
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
        with self._file as file:
            await send({"type": "http.response.start", **start})
            file.seek(self._begin)
            left = self._end - self._begin if self._send_body else 0
            while left:
                chunk = await asyncio.to_thread(file.read, min(CHUNK, left))
                if not chunk:
                    raise OSError("the content is shorter than it was")
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
            if not self._send_body:
                await send({"type": "http.response.body", "body": b"", "more_body": False})


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
