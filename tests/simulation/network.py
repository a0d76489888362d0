"""The way from the gateway to the provider: httpx above, faults in between.

Raises what httpx raises for a real network, and keeps to the timeouts that a request carries.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from random import Random

import httpx

from .accounts import HOST, KEYS_BEGIN, OTHER_HOST, Account
from .callers import PICTURE, is_pictured
from .faults import ANSWERS, CONNECTING, OF_POLLS_ALONE
from .upstream import Answer, Visit, refusal, reply

_PROMPT = re.compile(rb'name="prompt"\r\n\r\n(.*?)\r\n', re.DOTALL)
_MODEL = re.compile(rb'name="model"\r\n\r\n(.*?)\r\n', re.DOTALL)
_HTML = b"<html><body>Bad gateway</body></html>"
_KINDS = {"refused": "connection refused", "dns": "name not known", "tls": "certificate is wrong"}


class Network(httpx.AsyncBaseTransport):
    """One gateway's connections over one account. `leaks` notes each place that saw a key and
    should not have.
    """

    def __init__(self, account: Account, chance: Random, leaks: list[str]) -> None:
        self._key = account.key
        self._provider = account.provider
        self._faults = account.faults
        self._chance = chance
        self._leaks = leaks
        self._latency = chance.choice(((0.01, 0.05), (0.3, 1.5)))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != HOST or request.url.scheme != "https":
            return await self._elsewhere(request)
        path = request.url.path.split("/")
        kind = "submit" if request.method == "POST" else "poll"
        kind = "download" if path[-1] == "content" else kind
        fault = self._faults.of(kind, self._provider.now())
        visit = self._provider.visit(kind, path[3] if len(path) > 3 else None, fault)
        if (task := self._provider.tasks.get(visit.task or "")) is not None:
            task.known = True
        if request.headers.get("authorization") != self._key:
            self._provider.broken.append(f"call {visit.number}: without the right key")
        await self._connect(request, visit)
        await self._send(request, visit)
        if fault == "lost_before":
            visit.ended = self._provider.now()
            raise httpx.ReadError("connection reset")
        try:
            response = await self._answer(request, visit)
        except BaseException:
            self._provider.end(visit, whole=False)
            raise
        response.request = request
        return response

    async def _connect(self, request: httpx.Request, visit: Visit) -> None:
        await self._pause()
        if visit.fault not in CONNECTING:
            return
        if visit.fault == "no_connection":
            await asyncio.sleep(request.extensions["timeout"]["connect"])
        visit.ended = self._provider.now()
        if visit.fault == "no_connection":
            raise httpx.ConnectTimeout("no connection")
        raise httpx.ConnectError(_KINDS[visit.fault or ""])

    async def _send(self, request: httpx.Request, visit: Visit) -> None:
        """Hand over the body; upstream sees the call arrive within moments."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b""
        async for chunk in request.stream:
            if visit.fault == "cut_upload" and body:
                self._provider.arrive(visit)
                self._provider.end(visit, whole=False)
                raise httpx.WriteError("broken pipe")
            body += chunk
        found = _PROMPT.search(body)
        visit.prompt = found[1].decode() if found else None
        if visit.prompt is not None and (PICTURE in body) != is_pictured(visit.prompt):
            self._provider.broken.append(f"{visit.prompt}: sent without its picture, or with one")
        model = _MODEL.search(body)
        if model is not None and model[1].decode() not in self._provider.models:
            self._provider.broken.append(f"{visit.prompt}: sent to one that has no {model[1]!r}")
        await self._pause()

    async def _answer(self, request: httpx.Request, visit: Visit) -> httpx.Response:
        provider, chance, fault = self._provider, self._chance, visit.fault
        provider.arrive(visit)
        ours = self._in_front(visit)
        if ours is None or (fault == "proxy" and chance.random() < 0.5):
            upstreams = self._of_upstream(request, visit)
            ours = ours or upstreams
        if fault is not None:
            provider.disown(visit)
        await self._pause()
        waits: float = request.extensions["timeout"]["read"]
        if fault == "never":
            await asyncio.sleep(waits + 1 if chance.random() < 0.5 else 4000)
            raise httpx.ReadTimeout("no answer")
        if fault == "lost_after":
            raise httpx.RemoteProtocolError("server disconnected")
        stream = _Stream(ours.body, self, visit)
        if fault == "truncated":
            stream = _Stream(ours.body[: len(ours.body) // 2], self, visit, then="reset")
        elif fault == "trickle":
            stream = _Stream(ours.body, self, visit, gap=waits / 2, size=3)
        elif fault in ("stall", "slow", "reset") and visit.kind == "download":
            gap = 4000.0 if fault == "stall" else waits / 3
            keep = len(ours.body) if fault == "slow" else chance.randint(0, len(ours.body))
            then = {"stall": "stall", "reset": "reset"}.get(fault, "")
            stream = _Stream(
                ours.body[:keep], self, visit, gap if fault == "slow" else 0.0, 500, then
            )
        visit.status = ours.status
        usual = fault in (None, "backwards", "unknown_word", "odd_progress", "not_yet_known")
        visit.sane = visit.kind == "poll" and usual and ours.status in (200, 404)
        clear = fault in (None, "own_500", "own_503", "limited", "denied", "quota")
        visit.proves_refusal = visit.kind == "submit" and clear and ours.status >= 400
        return httpx.Response(ours.status, headers=ours.headers, stream=stream)

    def _in_front(self, visit: Visit) -> Answer | None:
        """What the fault answers in upstream's place; None: upstream answers."""
        chance = self._chance
        match visit.fault:
            case "proxy":
                status = chance.choice((502, 504, 520, 524, 500, 503))
                return Answer(status, {"content-type": "text/html"}, _HTML)
            case "own_500":
                return refusal(500, "server error")
            case "own_503":
                return refusal(503, "try again later")
            case "denied":
                return refusal(chance.choice((401, 403)), "this key is not valid")
            case "quota":
                return refusal(chance.choice((403, 429)), "insufficient balance", "quota")
            case "limited":
                answer = refusal(429, "too many requests")
                wall = self._provider.now()  # upstream's clock is right; the gateway's may not be
                after = chance.choice((None, "7", "90", "0", "99999", "soon", _date(wall + 45)))
                if after is not None:
                    answer.headers["retry-after"] = after
                return answer
        return None

    def _of_upstream(self, request: httpx.Request, visit: Visit) -> Answer:
        fault, provider = visit.fault, self._provider
        if visit.kind == "submit":
            answer = provider.submit(visit, visit.prompt or "")
            if fault == "no_id":
                return reply({"status": "submitted"})
            before = next((task.id for task in provider.tasks.values() if task.known), None)
            visit.met = fault != "repeated_id" or before is not None
            if fault == "repeated_id" and before is not None:
                return reply(json.loads(answer.body) | {"id": before})
        elif visit.kind == "poll":
            answer = self._odd_poll(visit, provider.poll(visit.task or ""))
        else:
            answer = self._content(request, visit)
        if fault == "garbage":
            return Answer(200, {}, self._chance.randbytes(200))
        if fault == "huge":
            return Answer(200, {"content-type": "application/json"}, b'{"a":"' + b"x" * 2_000_000)
        return answer

    def _odd_poll(self, visit: Visit, answer: Answer) -> Answer:
        chance, body = self._chance, json.loads(answer.body)
        task = self._provider.tasks.get(visit.task or "")
        in_progress = body.get("status") == "in_progress"
        match visit.fault:
            case "backwards" if task is not None and task.seen_over:
                return reply(body | {"status": "in_progress", "progress": 3})
            case "backwards" if in_progress:
                return reply(body | {"status": "queued", "progress": 0})
            case "unknown_word" if in_progress:
                return reply(body | {"status": chance.choice(("dreaming", "", "preprocessing"))})
            case "odd_progress" if "progress" in body:
                odd = chance.choice((-5, 170, None, "70%", [], 10**30, 0.5, True))
                return reply(body | {"progress": odd})
            case "not_yet_known" if task is not None and task.hidden < 2:
                task.hidden += 1
                return refusal(404, "no such video")
        visit.met = visit.fault not in OF_POLLS_ALONE
        return answer

    def _content(self, request: httpx.Request, visit: Visit) -> Answer:
        content = self._provider.content(visit.task or "")
        task = self._provider.tasks.get(visit.task or "")
        if content is None or task is None:
            visit.met = visit.fault in ANSWERS
            return refusal(404, "no such content")
        if visit.fault == "not_yet_there" and self._provider.now() < task.ends + 600:
            return refusal(404, "no such content")
        etag = f'"{task.id}"'
        headers = {"content-type": "video/mp4", "content-length": str(len(content)), "etag": etag}
        match visit.fault:
            case "html":
                return Answer(200, {"content-type": "text/html"}, _HTML)
            case "too_short":
                return Answer(200, headers, content[:-7])
            case "too_long":
                return Answer(200, headers, content + b"1234567")
            case "wrong_length":
                return Answer(200, headers | {"content-length": str(len(content) + 5)}, content)
            case "no_length":
                short = content[: self._chance.choice((len(content), len(content) - 9))]
                return Answer(200, {"content-type": "video/mp4"}, short)
            case "compressed":
                return Answer(200, headers | {"content-encoding": "gzip"}, content)
            case "redirect":
                return Answer(302, {"location": f"https://{OTHER_HOST}/{task.id}"}, b"")
            case "redirect_elsewhere":
                where = self._chance.choice(("https://evil.test/", f"http://{OTHER_HOST}/"))
                return Answer(302, {"location": f"{where}{task.id}"}, b"")
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if visit.fault == "other_range":
            span = f"bytes 5-{len(content) - 1}/{len(content)}"
            return Answer(206, headers | {"content-range": span}, content[5:])
        if wanted is None or request.headers.get("if-range") != etag:
            return Answer(200, headers, content)
        begin = int(wanted[1])
        if begin >= len(content):
            return refusal(416, "no such range")
        span = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        length = str(len(content) - begin)
        return Answer(
            206, headers | {"content-range": span, "content-length": length}, content[begin:]
        )

    async def _elsewhere(self, request: httpx.Request) -> httpx.Response:
        """Another host than upstream's: the one that the settings allow, or any other."""
        seen = f"{request.url} {request.headers!r}"
        if KEYS_BEGIN in seen or "authorization" in request.headers:
            self._leaks.append(f"the key was sent to {request.url.host}")
        if request.url.host != OTHER_HOST or request.url.scheme != "https":
            self._leaks.append(f"a redirect to {request.url} was followed")
        await self._pause()
        task = self._provider.tasks[request.url.path.rpartition("/")[2]]
        if self._chance.random() < 0.3:
            return httpx.Response(403, request=request, content=b"the link has expired")
        return httpx.Response(200, request=request, content=task.content)

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.uniform(*self._latency))

    def end(self, visit: Visit, whole: bool) -> None:
        self._provider.end(visit, whole)
        task = self._provider.tasks.get(visit.task or "")
        if whole and visit.fault is None and task is not None:
            task.seen_over = task.seen_over or task.told >= 0


class _Stream(httpx.AsyncByteStream):
    """A body on its way: `gap` seconds between pieces of `size` bytes, and what comes `then`."""

    def __init__(
        self,
        body: bytes,
        network: Network,
        visit: Visit,
        gap: float = 0.0,
        size: int = 100_000,
        then: str = "",
    ) -> None:
        self._body = body
        self._network = network
        self._visit = visit
        self._gap = gap
        self._size = size
        self._then = then

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._body), self._size):
            await asyncio.sleep(self._gap)
            yield self._body[at : at + self._size]
        if self._then == "reset":
            raise httpx.ReadError("connection reset")
        if self._then == "stall":
            await asyncio.sleep(self._network_patience())
            raise httpx.ReadTimeout("nothing came")
        self._network.end(self._visit, whole=True)

    async def aclose(self) -> None:
        self._network.end(self._visit, whole=False)

    def _network_patience(self) -> float:
        return 30.0


def _date(at: float) -> str:
    from email.utils import formatdate

    return formatdate(at, usegmt=True)
