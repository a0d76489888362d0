"""A job as callers see it: the video object, in the words of whoever asks."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.job import Job, State

SDK_HEADER = "x-stainless-lang"
"""Requests of an OpenAI SDK carry it; its poll stops at a word that is not OpenAI's."""

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


POLL_AFTER_MS = 5000
"""What OpenAI's SDKs are told to wait between two polls; they read it once, at the first."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How jobs are written. `queued_word`: the upstream's own word for a job that waits.

    `position`: a queued job's place in line, 1 for the next; `estimate`: the seconds until a job is
    completed, None where nobody can tell. `public_url`: how callers reach the gateway, without a
    slash at its end; empty: as their requests say.
    """

    position: Callable[[Job], int]
    estimate: Callable[[Job], int | None]
    queued_word: str
    vocabulary: str
    public_url: str
    keep_seconds: float

    def video(self, job: Job, request: Request) -> dict[str, Any]:
        """The video object, every key present. Times are Unix seconds."""
        done = job.state is State.COMPLETED
        completed_at = int(job.completed_at) if job.completed_at is not None else None
        error = None
        if job.state is State.FAILED:
            error = {"code": job.error_code, "message": job.error_message}
        return {
            "id": job.id,
            "object": "video",
            "model": job.model,
            "status": self._status(job, request),
            "progress": 100 if done else min(job.progress, 99),
            "created_at": int(job.created_at),
            "completed_at": completed_at,
            "expires_at": int(completed_at + self.keep_seconds) if completed_at else None,
            "prompt": job.prompt,
            "size": job.size,
            "seconds": str(job.seconds),
            "remixed_from_video_id": None,
            "error": error,
            "queue_position": self.position(job) if job.state is State.QUEUED else None,
            "estimated_seconds": self.estimate(job),
            "replaces": job.replaces,
            "replaced_by": job.replaced_by,
            "url": f"{self.base(request)}/v1/videos/{job.id}/content" if done else None,
        }

    def headers(self, video: Mapping[str, Any]) -> dict[str, str]:
        """What clients read beside this object."""
        headers = {"openai-poll-after-ms": str(POLL_AFTER_MS)}
        if (position := video["queue_position"]) is not None:
            headers["x-queue-position"] = str(position)
        if (estimate := video["estimated_seconds"]) is not None:
            headers["x-estimated-seconds"] = str(estimate)
        return headers

    def base(self, request: Request) -> str:
        """How this caller reaches the gateway, as `public_url` is written."""
        if self.public_url:
            return self.public_url
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            name, port = request.scope.get("server") or ("localhost", None)
            host = f"{name}:{port}" if port else name
        return f"{request.scope['scheme']}://{host}"  # request.url can't read every odd Host

    def _status(self, job: Job, request: Request) -> str:
        match job.state:
            case State.COMPLETED | State.FAILED:
                return job.state.value
            case State.FETCHING:
                return "in_progress"
            case State.RUNNING if job.in_progress:
                return "in_progress"
        ours = self.vocabulary == "openai" or (
            self.vocabulary == "auto" and SDK_HEADER in request.headers
        )
        return "queued" if ours else self.queued_word
