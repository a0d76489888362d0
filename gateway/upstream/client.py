"""Calls to one account's upstream, each ending in an `Outcome`. The only room of the
server that knows httpx.

The key is attached in the transport, for one exact origin, so that nothing above can send it
anywhere else. Callers' headers never reach this module. A submit goes over a fresh connection: a
kept-alive one that dies is ambiguous for nothing.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import cache
from typing import BinaryIO, Protocol
from urllib.parse import quote

import httpx
import orjson

from gateway.config import AccountSettings, Timeouts
from gateway.errors import NotAVideo
from gateway.failpoint import reach
from gateway.job import Job
from gateway.outcome import Outcome, Verdict
from gateway.upstream.dialects import (
    DIALECTS,
    Answer,
    read_download_refusal,
    read_poll,
    read_probe,
    read_submit,
)

CONNECT_SECONDS = 10.0
"""A connection that is not up by then surely carried no request."""

LARGEST_ANSWER = 1024 * 1024
"""Bytes of JSON that are read; UPSTREAM's object has a few hundred."""

LEAST_BYTES = 64 * 1024
"""A download must bring so many bytes in each `stall` seconds, or it is cut off and resumed later.
"""

MOST_REDIRECTS = 3

_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class Sink(Protocol):
    """Where a download's bytes go. `offset` bytes are there already, of the content that
    `validator` names.
    """

    offset: int
    validator: str | None

    async def restart(self, validator: str | None) -> None:
        """Throw away what is there; what comes next is the content from its first byte."""

    def expect(self, size: int) -> None:
        """So many bytes are to come in all. Raises NotAVideo when that is too much."""

    async def write(self, data: bytes) -> None:
        """Append. Raises NotAVideo when this can't become one, OSError when the disk refuses."""


class Upstream:
    """One account's way to its provider. `key` goes into the transport and nowhere else."""

    def __init__(
        self,
        account: AccountSettings,
        key: str,
        timeouts: Timeouts,
        wall: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = account.base_url
        self._content_hosts = frozenset(account.content_hosts)
        self._dialect = DIALECTS[account.dialect]
        self._timeouts = timeouts
        self._wall = wall
        self._key = key
        header = f"{account.auth_scheme} {key}".strip()
        tls = _authorities(account.ca_file)
        proxy = httpx.Proxy(account.proxy) if account.proxy else None

        def client(seconds: float, keep: int) -> httpx.AsyncClient:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=keep)
            inner = transport or httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=proxy)
            return httpx.AsyncClient(
                transport=_KeyedTransport(inner, httpx.URL(self._base), header),
                timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
                headers={"accept-encoding": "identity", "user-agent": "video-gateway"},
                trust_env=False,
            )

        self._fresh = client(timeouts.submit, 0)
        self._kept = client(timeouts.poll, 10)

    async def close(self) -> None:
        await self._fresh.aclose()
        await self._kept.aclose()

    async def submit(self, job: Job, image: BinaryIO | None) -> Outcome:
        """POST the job. `image` is its input image, open for reading."""
        fields = {
            "prompt": job.prompt,
            "model": job.model,
            "size": job.size,
            "seconds": str(job.seconds),
        }
        parts: list[tuple[str, tuple[str | None, str | BinaryIO] | tuple[str, BinaryIO, str]]]
        parts = [(name, (None, value)) for name, value in fields.items()]
        if image is not None:
            kind = job.input_type or "application/octet-stream"
            parts.append(("input_reference", (f"input.{kind.rpartition('/')[2]}", image, kind)))
        request = self._fresh.build_request("POST", f"{self._base}/v1/videos", files=parts)
        body = _Upload(request.stream)  # type: ignore[arg-type]  # multipart streams are both kinds
        request.stream = body
        try:
            async with asyncio.timeout(self._timeouts.submit):
                return self._own(read_submit(await self._answer(self._fresh, request)))
        except _UNSENT as error:
            return Outcome(Verdict.UNSENT, _name(error))
        except (TimeoutError, httpx.HTTPError, httpx.StreamError, OSError) as error:
            verdict = Verdict.UNKNOWN if body.ended else Verdict.CUT_OFF
            return Outcome(verdict, _name(error))

    async def poll(self, upstream_id: str) -> Outcome:
        """GET the video object."""
        return await self._get(upstream_id, lambda answer: read_poll(answer, self._dialect))

    async def probe(self, upstream_id: str) -> Outcome:
        """GET a video object that can't exist, to see whether upstream answers sanely."""
        return await self._get(upstream_id, lambda answer: read_probe(answer, self._dialect))

    async def _get(self, upstream_id: str, read: Callable[[Answer], Outcome]) -> Outcome:
        request = self._kept.build_request("GET", self._url(upstream_id))
        try:
            async with asyncio.timeout(self._timeouts.poll):
                return self._own(read(await self._answer(self._kept, request)))
        except _UNSENT as error:
            return Outcome(Verdict.UNSENT, _name(error))
        except (TimeoutError, httpx.HTTPError, httpx.StreamError, OSError) as error:
            return Outcome(Verdict.UNAVAILABLE, _name(error))

    async def download(self, upstream_id: str, sink: Sink) -> Outcome:
        """GET the content into `sink`, from where it left off. There is no total deadline, only a
        least rate.
        """
        before = sink.offset
        try:
            outcome = await self._download(f"{self._url(upstream_id)}/content", sink)
        except _UNSENT as error:
            return Outcome(Verdict.UNSENT, _name(error))
        except NotAVideo as error:
            await sink.restart(None)
            return Outcome(Verdict.BROKEN, str(error))
        except (TimeoutError, httpx.HTTPError, httpx.StreamError, OSError) as error:
            outcome = Outcome(Verdict.BROKEN, _name(error))
        return replace(self._own(outcome), advanced=sink.offset > before)

    async def _download(self, url: str, sink: Sink) -> Outcome:
        headers = {}
        if sink.offset and sink.validator:
            headers = {"Range": f"bytes={sink.offset}-", "If-Range": sink.validator}
        async with self._get_content(url, headers) as response:
            if response.status_code not in (200, 206):
                if response.status_code == 416:
                    await sink.restart(None)
                if (target := response.next_request) is not None:
                    host = f"{target.url.scheme}://{target.url.host}"
                    why = f"a redirect to {host} is not followed (content_hosts)"
                    return Outcome(Verdict.BROKEN, why)
                if not str(response.request.url).startswith(f"{self._base}/"):
                    # What another host says of its link tells nothing of the key or the account.
                    refusal = f"the redirect led to {response.status_code}"
                    return Outcome(Verdict.BROKEN, refusal)
                answer = await _read_answer(response, self._wall(), self._key)
                return read_download_refusal(answer)
            if response.headers.get("content-encoding", "identity") != "identity":
                return Outcome(Verdict.BROKEN, "upstream compressed it, though asked not to")
            length = _content_length(response)
            if response.status_code == 206:
                total = _resumed_total(response, sink.offset)
                if total is None or _is_other(response, sink.validator):
                    await sink.restart(None)
                    return Outcome(Verdict.BROKEN, "upstream answered another range than asked for")
            else:
                await sink.restart(_validator(response))
                total = length
            if total is not None:
                sink.expect(total)
            await self._receive(response, sink)
            if total is not None and sink.offset != total:
                if sink.offset > total:
                    await sink.restart(None)
                return Outcome(Verdict.BROKEN, f"{sink.offset} bytes came of {total}")
            return Outcome(Verdict.FETCHED, size=total)

    async def _receive(self, response: httpx.Response, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        since, at_least = loop.time(), sink.offset + LEAST_BYTES
        async for chunk in response.aiter_raw():  # as it comes: gathering it would hide a trickle
            await sink.write(chunk)
            if sink.offset >= at_least:
                since, at_least = loop.time(), sink.offset + LEAST_BYTES
            elif loop.time() - since > self._timeouts.stall:
                raise TimeoutError("it came too slowly")

    @asynccontextmanager
    async def _get_content(
        self, url: str, headers: dict[str, str]
    ) -> AsyncIterator[httpx.Response]:
        timeout = httpx.Timeout(self._timeouts.stall, connect=CONNECT_SECONDS)
        for hop in range(MOST_REDIRECTS):
            request = self._kept.build_request("GET", url, headers=headers, timeout=timeout)
            try:
                response = await self._kept.send(request, stream=True)
            except _UNSENT as error:
                if hop:  # upstream itself was reached, and may have counted the call
                    raise httpx.NetworkError(str(error)) from error
                raise
            try:
                target = response.next_request.url if response.next_request else None
                if target is None or not self._may_follow(target):
                    yield response
                    return
            finally:
                await response.aclose()
            url = str(target)
        raise httpx.TooManyRedirects("too many redirects")

    def _may_follow(self, url: httpx.URL) -> bool:
        ours = str(url).startswith(f"{self._base}/")  # each call there must have its place
        return url.scheme == "https" and url.host in self._content_hosts and not ours

    async def _answer(self, client: httpx.AsyncClient, request: httpx.Request) -> Answer:
        response = await client.send(request, stream=True)
        try:
            return await _read_answer(response, self._wall(), self._key)
        finally:
            await response.aclose()

    def _own(self, outcome: Outcome) -> Outcome:
        """The outcome without the key, should upstream have repeated it in its message."""
        if self._key not in outcome.message and self._key not in outcome.code:
            return outcome
        hide = "[key]"
        return replace(
            outcome,
            message=outcome.message.replace(self._key, hide),
            code=outcome.code.replace(self._key, hide),
        )

    def _url(self, upstream_id: str) -> str:
        return f"{self._base}/v1/videos/{quote(upstream_id, safe='')}"


class _KeyedTransport(httpx.AsyncBaseTransport):
    """Attaches the key to requests for one origin, and to no other."""

    def __init__(self, inner: httpx.AsyncBaseTransport, origin: httpx.URL, header: str) -> None:
        self._inner = inner
        self._origin = (origin.scheme, origin.host, origin.port)
        self._header = header

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers.pop("authorization", None)
        if (request.url.scheme, request.url.host, request.url.port) == self._origin:
            request.headers["authorization"] = self._header
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@cache
def _authorities(ca_file: str) -> ssl.SSLContext:
    """Whom to trust: read once for all accounts, for a thousand times takes a minute."""
    return ssl.create_default_context(cafile=ca_file or None)


class _Upload(httpx.AsyncByteStream):
    """A body that knows whether its last byte was handed over: before that, no task can have been
    created.
    """

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held: bytes | None = None
        async for chunk in self._stream:
            if held is not None:
                yield held
            held = chunk
        self.ended = True
        if held is not None:
            yield held
        reach("submit.sent")


async def _read_answer(response: httpx.Response, wall: float, key: str) -> Answer:
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > LARGEST_ANSWER:
            return Answer(response.status_code, None)
    hidden = bytes(data).replace(key.encode(), b"[key]")  # before a message is cut short
    body = _read_json(hidden)
    retry_after = read_retry_after(response.headers.get("retry-after"), wall)
    return Answer(response.status_code, body if isinstance(body, dict) else None, retry_after)


def _read_json(data: bytes) -> object:
    """What JSON says; None: it is none. NaN is no JSON, but some servers write it: it reads as
    null.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return orjson.loads(orjson.dumps(json.loads(data)))
    except (ValueError, TypeError, RecursionError):
        return None


def read_retry_after(value: str | None, wall: float) -> float | None:
    """Seconds from either form of Retry-After. `wall`: Unix seconds now. None: absent or
    nonsense.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall)
    except (ValueError, TypeError, OverflowError):
        return None


def _content_length(response: httpx.Response) -> int | None:
    value = response.headers.get("content-length", "")
    return int(value) if value.isdecimal() else None


def _resumed_total(response: httpx.Response, offset: int) -> int | None:
    """The content's whole length, if this 206 begins at `offset` and says it; None: it can't be
    used.
    """
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    span, _, total = rest.partition("/")
    begin = span.partition("-")[0]
    if unit != "bytes" or begin != str(offset) or not total.isdecimal():
        return None
    return int(total)


def _is_other(response: httpx.Response, validator: str | None) -> bool:
    """Whether a 206 names another content than `validator`: a server may not know If-Range."""
    header = "etag" if (validator or "").startswith('"') else "last-modified"
    named: str | None = response.headers.get(header, validator)
    return named != validator


def _validator(response: httpx.Response) -> str | None:
    """What If-Range may be given: a strong ETag, else a date."""
    etag: str = response.headers.get("etag", "")
    if not etag.startswith('"'):
        etag = response.headers.get("last-modified", "")
    return etag if etag and etag.isascii() else None


def _name(error: BaseException) -> str:
    """What went wrong, by its kind: a driver's own text may hold an address."""
    return type(error).__name__
