"""What the tests of the callers' HTTP share."""

from dataclasses import asdict
from typing import Any

import httpx
from sqlalchemy import Connection, insert
from stage import House, mp4

from gateway.content.videos import Stored
from gateway.job import Account, Job, State
from gateway.ledger.schema import accounts
from gateway.ledger.transitions import Change, move

KEYS = {
    "id",
    "object",
    "model",
    "status",
    "progress",
    "created_at",
    "completed_at",
    "expires_at",
    "prompt",
    "size",
    "seconds",
    "remixed_from_video_id",
    "error",
    "queue_position",
    "estimated_seconds",
    "replaces",
    "replaced_by",
    "url",
}
"""Of the video object: there in every state."""


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error that an answer tells, in OpenAI's envelope."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert set(answer.json()) == {"error"}
    error = dict(answer.json()["error"])
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["code"]
    assert error["type"] in {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "rate_limit_error",
        "server_error",
    }
    return error


async def bring(house: House, video: str, to: State, **changes: Any) -> Job:
    """Take a queued job on to a state, as the engine would."""
    way = [State.SUBMITTING, State.RUNNING, State.FETCHING, State.COMPLETED]
    states = way[: way.index(to) + 1] if to in way else [State.SUBMITTING, to]
    job = house.job(video)
    for state in states:
        first = {"account": "default"} if state is State.SUBMITTING else {}
        last = changes if state is to else {}
        (job,) = (await house.ledger.commit(move(job, state, first | last))).jobs
    return job


async def knows_an_account_that_left(house: House, name: str) -> None:
    """Start `house` anew on a ledger that knows an account more than its settings."""

    def add(conn: Connection) -> Change:
        conn.execute(insert(accounts).values(asdict(Account(name))))
        return Change()

    await house.ledger.commit(add)
    await house.stop()
    await house.start()
    house.gateway.stop_calls()


async def complete(house: House, video: str, content: bytes = mp4(), **changes: Any) -> Stored:
    """Let a queued job be completed with this content."""
    store = house.gateway._videos
    part = await store.begin(video)
    await part.restart(None)
    await part.write(content)
    stored = await store.keep(part, length_known=True)
    told: dict[str, Any] = {"content_sha256": stored.sha256, "content_bytes": stored.size}
    told |= {"completed_at": 1_750_000_000.5, "progress": 100, **changes}
    await bring(house, video, State.COMPLETED, **told)
    return stored
