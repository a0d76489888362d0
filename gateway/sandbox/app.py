"""The three endpoints, wired together. Start reading here.

Owns the routes and what each answers. Never asks the time but through the state, and leaves what
concerns every call alike, the key and the window, to `gate`.
"""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from gateway.sandbox import content
from gateway.sandbox.clock import Clock, VirtualClock
from gateway.sandbox.content import CutShort
from gateway.sandbox.errors import Refusal
from gateway.sandbox.faults import Fault, ordered
from gateway.sandbox.form import read_order
from gateway.sandbox.gate import RECORD_PATH, Gate
from gateway.sandbox.settings import SandboxSettings
from gateway.sandbox.state import SandboxState
from gateway.sandbox.tasks import Task

_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(settings: SandboxSettings, clock: Clock | None = None) -> Starlette:
    """A sandbox as an ASGI app; what it knows is `app.state.sandbox`, a SandboxState."""
    state = SandboxState(settings, clock or VirtualClock(settings.speed))
    app = Starlette(
        routes=[
            Route("/v1/videos", submit, methods=["POST"]),
            Route("/v1/videos/{id}", poll, methods=["GET"]),
            Route("/v1/videos/{id}/content", download, methods=["GET"]),
            Route(RECORD_PATH, export, methods=["GET"]),
        ],
        middleware=[Middleware(Gate, state)],
        exception_handlers={Refusal: _failed, HTTPException: _failed, ClientDisconnect: _gone},
    )
    app.router.redirect_slashes = False
    app.state.sandbox = state
    return app


async def submit(request: Request) -> Response:
    """POST /v1/videos: the new task's video object."""
    state = _state(request)
    order = await read_order(request)
    faults = ordered(order.prompt)
    if Fault.REFUSE in faults:
        raise Refusal(400, "moderation_blocked", "prompt: refused by moderation", param="prompt")
    if Fault.SERVER_ERROR in faults and state.spoils(order.prompt):
        raise Refusal(500, "server_error", "The server had an error; retry later.")
    task = state.create(order, request.scope["sandbox.call"])
    if task is None:
        raise Refusal(
            429,
            "concurrency_limit_exceeded",
            f"More than {state.settings.concurrent} videos are being processed.",
        )
    answer = _video(request, task)
    return CutShort(answer, 0) if Fault.LOST in faults else answer


async def poll(request: Request) -> Response:
    """GET /v1/videos/{id}: the video object."""
    return _video(request, _task(request))


async def download(request: Request) -> Response:
    """GET /v1/videos/{id}/content: the MP4 of a completed task, until it expires."""
    state, task = _state(request), _task(request)
    if not state.has_content(task, state.clock.now()):
        raise Refusal(404, "content_not_found", "The video is not completed, or has expired.")
    way = state.next_delivery(task)
    if way == "missing":
        raise Refusal(404, "content_not_found", "The content is not there yet.")
    if way == "html":
        return HTMLResponse("<!doctype html><title>Sandbox</title><p>Please come back later.")
    whole = content.answer(await state.studio.movie(task), request.headers)
    return CutShort(whole, len(whole.body) // 2) if way == "cut" else whole


async def export(request: Request) -> Response:
    """GET /_sandbox/record: all that happened, for a test in another process."""
    return JSONResponse(_state(request).as_json())


def _state(request: Request) -> SandboxState:
    state: SandboxState = request.app.state.sandbox
    return state


def _task(request: Request) -> Task:
    task = _state(request).tasks.get(request.path_params["id"])
    if task is None:
        raise Refusal(404, "video_not_found", "There is no such video.")
    return task


def _video(request: Request, task: Task) -> Response:
    state = _state(request)
    url = f"{request.base_url}v1/videos/{task.id}/content"
    return JSONResponse(task.as_json(state.clock.now(), state.settings.vocabulary, url))


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, Refusal):
        return error.answer()
    if isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "invalid_request")
        return Refusal(error.status_code, code, error.detail, headers=error.headers).answer()
    raise error


async def _gone(_: Request, __: Exception) -> Response:
    """The caller hung up in the middle of its upload; nobody will read this."""
    return Response(status_code=400)
