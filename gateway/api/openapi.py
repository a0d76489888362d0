"""Callers' HTTP in the words of OpenAPI 3.1: data, made once from the settings.

Owns what is promised to programs that read descriptions. Never reads a request.
`tests/api/test_openapi.py` holds it against the routes and the real answers, and the reference page
`docs/reference/http.md` is made from it.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from gateway.api.guard import MOST_HEADER_BYTES, MOST_HEADERS, MOST_URL
from gateway.api.schemas import Data, answer_schemas, ref, request_bodies
from gateway.api.videos import MOST_IN_A_PAGE, PAGE
from gateway.api.wire import POLL_AFTER_MS, SDK_HEADER
from gateway.config import Settings


class Problem(NamedTuple):
    """What an error's `code` tells, its status, and the headers that come with it."""

    status: int
    meaning: str
    headers: tuple[str, ...] = ()


_FINAL = ("x-should-retry",)
_LATER = ("retry-after",)

PROBLEMS: Mapping[str, Problem] = {
    "invalid_value": Problem(400, "`param` names the field or header; the message, what it may be"),
    "invalid_json": Problem(400, "the body is not a JSON object"),
    "invalid_form": Problem(400, "the body is not a form that can be read"),
    "incomplete_body": Problem(400, "the body ended before its end"),
    "invalid_headers": Problem(400, "a header twice that must be one"),
    "invalid_http": Problem(
        400,
        "not a request in HTTP/1.1, or one with both Content-Length and Transfer-Encoding; the "
        "connection is closed",
    ),
    "invalid_api_key": Problem(401, "no key, an unknown one, or one that was revoked"),
    "open_mode_is_local": Problem(403, "without keys, the gateway serves its own machine alone"),
    "video_not_found": Problem(404, "no such video among the caller's", _FINAL),
    "content_not_ready": Problem(404, "not completed yet, or being fetched again", _FINAL),
    "content_not_available": Problem(404, "the video failed", _FINAL),
    "not_offered": Problem(404, "the upstream does not offer this", _FINAL),
    "body_too_slow": Problem(408, "the body came too slowly; nothing was accepted"),
    "idempotency_key_reused": Problem(409, "the key was used for another request", _FINAL),
    "content_gone": Problem(410, "the content is no longer kept; the object is", _FINAL),
    "precondition_failed": Problem(412, "the content is not the one that If-Match names"),
    "image_too_large": Problem(413, "the input image has too many bytes"),
    "body_too_large": Problem(413, "the body has more bytes than any that could be accepted"),
    "url_too_long": Problem(414, f"over {MOST_URL} bytes of path and query"),
    "unsupported_media_type": Problem(415, "the body is neither a form nor JSON"),
    "invalid_range": Problem(416, "not one range within the content", ("content-range",)),
    "rate_limit_exceeded": Problem(429, "too many requests of this caller in a minute", _LATER),
    "too_many_wrong_keys": Problem(429, "too many wrong keys from this address", _LATER),
    "queue_full": Problem(429, "too many videos of this caller wait", _LATER),
    "headers_too_large": Problem(
        431, f"over {MOST_HEADERS} headers or {MOST_HEADER_BYTES} bytes of them"
    ),
    "internal_error": Problem(500, "a fault of the gateway; its log has the rest"),
    "gateway_busy": Problem(503, "the content can't be read from the disk now", _LATER),
    "gateway_full": Problem(503, "nothing could be committed; nothing was accepted", _LATER),
    "too_many_connections": Problem(503, "all callers' connections together", _LATER),
}

_EVERYBODY = ("invalid_headers", "invalid_http", "body_too_large", "url_too_long",
              "headers_too_large", "internal_error", "too_many_connections")  # fmt: skip
_CALLER = ("invalid_api_key", "open_mode_is_local", "rate_limit_exceeded", "too_many_wrong_keys")
_UPLOAD = ("invalid_value", "invalid_json", "invalid_form", "incomplete_body",
           "body_too_slow", "image_too_large", "unsupported_media_type")  # fmt: skip

_HEADERS = {
    "x-request-id": ("string", "The request's id: the caller's own x-request-id, or a new one."),
    "openai-poll-after-ms": ("integer", f"Milliseconds until the next poll: {POLL_AFTER_MS}."),
    "x-queue-position": ("integer", "A queued video's place in line, 1 for the next."),
    "x-estimated-seconds": ("integer", "Seconds until it is completed, the median."),
    "retry-after": ("integer", "Seconds after which the same request may succeed; 60 at most."),
    "x-should-retry": ("string", "`false`: the same request can't succeed, SDKs don't repeat it."),
    "etag": ("string", "The SHA-256 of the content, in quotes."),
    "accept-ranges": ("string", "`bytes`: one range of the content may be asked for."),
    "content-range": ("string", "The range that is sent, and the size of all."),
    "content-length": ("integer", "Bytes of this answer."),
    "content-disposition": ("string", "A file name for whoever saves it."),
}
_OBJECT_HEADERS = ("openai-poll-after-ms", "x-queue-position", "x-estimated-seconds")
_CONTENT_HEADERS = ("etag", "accept-ranges", "content-length", "content-disposition")

_ABOUT = """
OpenAI's `/v1/videos`, answered from the gateway's own queue and disk.

An error is always `{"error": {"message", "type", "param", "code"}}`; its `code` is one of those
told with the status. A path that is not here answers 404 `not_found`, another method on one that
is 405 `method_not_allowed`. Every answer carries `x-request-id`, but for those to what is no HTTP.
""".strip()


def describe(settings: Settings, queued_word: str) -> Data:
    """The whole document. `queued_word`: the upstream's own word for a video that waits."""
    security: list[Data] = [{"bearer": []}, {"bare": []}]
    if settings.auth.mode == "open":
        security.append({})
    paths = _paths(settings)
    for operations in paths.values():
        if "get" in operations:
            operations["head"] = _head(operations["get"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "video-gateway",
            "version": version("video-gateway"),
            "description": _ABOUT,
        },
        "servers": [{"url": settings.server.public_url or "/"}],
        "security": security,
        "paths": paths,
        "components": {
            "schemas": answer_schemas(settings.requests, queued_word),
            "headers": {
                name: {"description": text, "schema": {"type": kind}}
                for name, (kind, text) in _HEADERS.items()
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "bare": {"type": "apiKey", "in": "header", "name": "Authorization"},
            },
        },
    }


def _paths(settings: Settings) -> Data:
    allowed = settings.requests
    video = _json("Video", "The video object.", _OBJECT_HEADERS)
    paths = {
        "/v1/videos": {
            "post": _operation(
                "Ask for a video. Answered once the job is durable.",
                {200: video},
                (*_UPLOAD, *_CALLER, "video_not_found", "idempotency_key_reused", "queue_full",
                 "gateway_full"),
                [_IDEMPOTENCY_KEY, _RETRY_COUNT, _LANGUAGE],
                body=request_bodies(allowed),
            ),
            "get": _operation(
                "The caller's videos, a page at a time.",
                {200: _json("VideoPage", "A page; the next one is asked for by `after=last_id`.")},
                ("invalid_value", *_CALLER),
                [*_PAGING, _LANGUAGE],
            ),
        },
        "/v1/videos/{id}": {
            "get": _operation(
                "How a video stands. Costs upstream nothing, however often it is asked.",
                {200: video},
                (*_CALLER, "video_not_found"),
                [_ID, _LANGUAGE],
            ),
            "delete": _operation(
                "Delete a video: one that waits is never sent; one under way is paid for all the "
                "same.",
                {200: _json("VideoDeleted", "It is gone.")},
                (*_CALLER, "video_not_found", "gateway_full"),
                [_ID],
            ),
        },
        "/v1/videos/{id}/content": {
            "get": _operation(
                "The MP4, from the gateway's own disk, or one range of it.",
                {
                    200: _mp4("The whole content.", _CONTENT_HEADERS),
                    206: _mp4("The range.", (*_CONTENT_HEADERS, "content-range")),
                    304: _answer("The caller has it: If-None-Match names it.", ("etag",)),
                },
                ("invalid_value", *_CALLER, "video_not_found", "content_not_ready",
                 "content_not_available", "content_gone", "precondition_failed", "invalid_range",
                 "gateway_busy", "gateway_full"),
                [_ID, *_CONTENT_PARAMETERS],
            )
        },
        "/v1/videos/{id}/remix": {"post": _not_offered(_ID)},
        "/v1/videos/characters": {"get": _not_offered(), "post": _not_offered()},
        "/v1/videos/characters/{id}": {"get": _not_offered(_ID)},
        "/v1/videos/edits": {"post": _not_offered()},
        "/v1/videos/extensions": {"post": _not_offered()},
        "/openapi.json": _watched("This description.", {200: _json("Description", "OpenAPI 3.1.")}),
        "/healthz": _watched("Whether the process lives.", {200: _json("Alive", "It does.")}),
        "/readyz": _watched(
            "Whether a job can be accepted and committed. Trouble of an account is told with 200: "
            "stored videos are served on.",
            {200: _json("Ready", "It can."), 503: _json("NotReady", "It can't.")},
        ),
        "/metrics": _watched(
            "Figures for Prometheus.",
            {200: _answer("Its text format.", (), "text/plain", {"type": "string"})},
        ),
    }  # fmt: skip
    if settings.server.metrics_port:
        del paths["/metrics"]
    return paths


def _operation(
    summary: str,
    answers: Mapping[int, Data],
    problems: Iterable[str],
    parameters: list[Data] | None = None,
    *,
    tag: str = "videos",
    body: Data | None = None,
) -> Data:
    """One method of one path. `problems`: the codes of its errors."""
    responses = {str(status): answer for status, answer in answers.items()}
    codes = (*problems, *_EVERYBODY)
    for status in sorted({PROBLEMS[code].status for code in codes}):
        told = [code for code in codes if PROBLEMS[code].status == status]
        responses.setdefault(str(status), _error(told))
    operation: Data = {"tags": [tag], "summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    if tag != "videos":  # only these want a key
        operation["security"] = []
    return operation


def _not_offered(*parameters: Data) -> Data:
    return _operation(
        "Not offered by the upstream.", {}, ("not_offered",), [*parameters], tag="not offered"
    )


def _watched(summary: str, answers: Mapping[int, Data]) -> Data:
    """A path for machines that watch this one; it wants no key."""
    return {"get": _operation(summary, answers, (), tag="for machines")}


def _head(operation: Data) -> Data:
    """HEAD is GET without a body."""
    answers = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in operation["responses"].items()
    }
    return {**operation, "summary": "As GET, without the body.", "responses": answers}


def _answer(
    text: str, headers: Iterable[str], media_type: str = "", schema: Data | None = None
) -> Data:
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *headers)}
    answer: Data = {"description": text, "headers": named}
    return {**answer, "content": {media_type: {"schema": schema}}} if media_type else answer


def _json(schema: str, text: str, headers: Iterable[str] = ()) -> Data:
    return _answer(text, headers, "application/json", ref(schema))


def _mp4(text: str, headers: Iterable[str]) -> Data:
    return _answer(text, headers, "video/mp4", {})


def _error(codes: list[str]) -> Data:
    text = "; ".join(f"`{code}`: {PROBLEMS[code].meaning}" for code in codes)
    headers = sorted({header for code in codes for header in PROBLEMS[code].headers})
    of_these: Data = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    schema = {"allOf": [ref("Error"), of_these]}
    return _answer(f"{text}.", headers, "application/json", schema)


def _parameter(name: str, place: str, text: str, **schema: Any) -> Data:
    told = {"name": name, "in": place, "description": text, "schema": schema}
    return {**told, "required": True} if place == "path" else told


_ID = _parameter("id", "path", "The video's id.", type="string")
_LANGUAGE = _parameter(
    SDK_HEADER, "header", "OpenAI's SDKs send it, and read OpenAI's words for a status.",
    type="string",
)  # fmt: skip
_IDEMPOTENCY_KEY = _parameter(
    "Idempotency-Key", "header", "The same key and request within a day: the same video.",
    type="string", pattern=r"^[\x21-\x7e]{1,255}$",
)  # fmt: skip
_RETRY_COUNT = _parameter(
    "x-stainless-retry-count", "header",
    "OpenAI's SDKs send it with a repeated request: the same video, within 10 minutes.",
    type="integer", minimum=0,
)  # fmt: skip
_PAGING = [
    _parameter("after", "query", "The id after which the page begins.", type="string"),
    _parameter("limit", "query", "Videos in the page.",
               type="integer", minimum=0, maximum=MOST_IN_A_PAGE, default=PAGE),
    _parameter("order", "query", "By age; `desc`: the newest first.",
               enum=["asc", "desc"], default="desc"),
]  # fmt: skip
_CONTENT_PARAMETERS = [
    _parameter("variant", "query", "What to send.", enum=["video"], default="video"),
    _parameter("Range", "header", "One range, of bytes.", type="string"),
    _parameter("If-Range", "header", "The range counts for this ETag; else all is sent.",
               type="string"),
    _parameter("If-Match", "header", "ETags; another content answers 412.", type="string"),
    _parameter("If-None-Match", "header", "ETags; the same content answers 304.", type="string"),
]  # fmt: skip
