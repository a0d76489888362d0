"""The one table from errors to HTTP, in OpenAI's envelope: `{"error": {"message", "type", "param",
"code"}}`.

SDKs repeat a request on 408, 409, 429 and 5xx unless `x-should-retry: false` says not to.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.api.wire import json_response
from gateway.errors import (
    InputsFull,
    LedgerBroken,
    LedgerFull,
    RepeatConflict,
    RequestError,
    StoreUnreadable,
)

log = structlog.get_logger()

NO_RETRY = {"x-should-retry": "false"}

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def envelope(
    status: int,
    message: str,
    code: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error as callers' clients read it."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json_response({"error": error}, status, headers)


def no_such_video() -> RequestError:
    """The one answer to every id that is not the caller's, however odd."""
    message = "There is no such video among yours."
    return RequestError(404, message, code="video_not_found", param="id", headers=NO_RETRY)


async def _of_a_request(_request: Request, error: RequestError) -> Response:
    return envelope(error.status, error.message, error.code, error.param, error.headers)


async def _of_the_framework(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404 and request.scope["path"].startswith("/v1/videos/"):
        return await _of_a_request(request, no_such_video())  # an id with a path in it
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    if error.status_code == 413:  # Python 3.13 has another phrase for it than 3.11
        code = "body_too_large"
    messages = {
        404: "There is nothing on this path.",
        405: f"{request.method} is not allowed on this path.",
        413: "The request's body is larger than anything that is accepted here.",
    }
    message = messages.get(error.status_code, f"{error.detail or phrase}")
    return envelope(error.status_code, message, code, headers=error.headers)


async def _of_another_request(_request: Request, _error: Exception) -> Response:
    message = "This Idempotency-Key was used for another request. Use a new one for each video."
    code = "idempotency_key_reused"
    return envelope(409, message, code, "Idempotency-Key", NO_RETRY)


async def _of_a_full_disk(_request: Request, error: Exception) -> Response:
    message = "The gateway has no room to write now. Nothing was done; try again later."
    log.error("nothing could be written", why=str(error))
    return envelope(503, message, "gateway_full", headers={"retry-after": "30"})


async def _of_a_busy_disk(_request: Request, error: Exception) -> Response:
    message = "This video can't be read now. It is still here: try again later."
    log.error("a stored video could not be read", why=str(error))
    return envelope(503, message, "gateway_busy", headers={"retry-after": "10"})


async def _of_a_caller_gone(_request: Request, _error: Exception) -> Response:
    """It hung up in the middle of its upload: nothing was accepted, and nobody reads this."""
    return envelope(400, "The request's body ended too early.", "incomplete_body")


async def _unplanned(_request: Request, error: Exception) -> Response:
    """Starlette logs nothing itself: the traceback goes to the log, never to the caller."""
    log.error("unplanned error", error=type(error).__name__, exc_info=error)
    return envelope(500, "The gateway failed in a way that it was not built for.", "internal_error")


HANDLERS: dict[Any, Any] = {  # coroutines: Starlette hands a plain function to a thread
    RequestError: _of_a_request,
    HTTPException: _of_the_framework,
    ClientDisconnect: _of_a_caller_gone,
    RepeatConflict: _of_another_request,
    LedgerFull: _of_a_full_disk,
    InputsFull: _of_a_full_disk,
    StoreUnreadable: _of_a_busy_disk,
    LedgerBroken: _of_a_full_disk,
    OSError: _of_a_full_disk,
    Exception: _unplanned,
}
