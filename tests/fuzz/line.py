"""Exact bytes to a server, its answers, and what each of them must be like."""

import asyncio
import json
import ssl
from dataclasses import dataclass

PLANNED = {
    503: {"gateway_full", "gateway_busy", "too_many_connections"},
}
"""Statuses from 500 up that are planned: no room, a busy disk, too many callers."""

CODES = {400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 414, 415, 416, 429, 431}

LONGEST = 20.0
"""Seconds within which a connection is answered or closed: several times its deadlines."""


@dataclass(frozen=True)
class Answer:
    """One answer. `complaint`: what is wrong with it, or nothing."""

    status: int
    body: bytes
    complaint: str = ""

    @property
    def code(self) -> str:
        """An error's code."""
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""


async def exchange(port: int, request: bytes) -> list[Answer]:
    """Send a connection's bytes; its answers, until it is quiet or closed. Raises TimeoutError."""
    async with asyncio.timeout(LONGEST):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sending = asyncio.create_task(_send(writer, request))
        answers = []
        try:
            while (answer := await _answer(reader, request)) is not None:
                answers.append(answer)
                if answer.complaint or not _goes_on(request):
                    break
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()
        return answers


def _goes_on(request: bytes) -> bool:
    """Whether more than one answer may come on this connection."""
    return request.count(b" HTTP/1.1\r\n") > 1


async def _send(writer: asyncio.StreamWriter, request: bytes) -> None:
    try:
        writer.write(request)
        await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass  # it was refused before its end


async def _answer(reader: asyncio.StreamReader, request: bytes) -> Answer | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(b":") for x in lines)
        }
        status = int(first.split(b" ")[1])
        if status == 100:
            return await _answer(reader, request)
        bare = request.startswith(b"HEAD ") or status == 304
        length = 0 if bare else int(headers[b"content-length"])
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Answer(status, body, "" if bare else _complaint(status, headers, body))


def _complaint(status: int, headers: dict[bytes, bytes], body: bytes) -> str:
    if status < 400:
        return "" if status in (200, 206) else f"an unknown status {status}"
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"{status} without an envelope: {body[:200]!r}"
    if set(error) != {"message", "type", "param", "code"} or not error["message"]:
        return f"an odd envelope: {error}"
    if headers[b"content-type"] != b"application/json":
        return "an envelope that says it is something else"
    if status not in CODES and error["code"] not in PLANNED.get(status, ()):
        return f"an unplanned {status}: {error}"
    return ""
