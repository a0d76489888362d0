"""What callers send and are sent, as JSON Schema: the bodies that `openapi.py` speaks of."""

from typing import Any

from gateway.api.images import MOST_PIXELS
from gateway.api.uploads import IMAGE, IMAGE_URL, ON_UNKNOWN, UNKNOWN_WAYS
from gateway.config import Requests

Data = dict[str, Any]

_TEXT = {"type": "string"}
_TIME = {"type": "integer", "description": "Unix seconds"}
_ERROR_TYPES = [
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
]


def ref(schema: str) -> Data:
    """A reference to one of `answer_schemas`."""
    return {"$ref": f"#/components/schemas/{schema}"}


def answer_schemas(allowed: Requests, queued_word: str) -> Data:
    """The objects in answers, by name. `queued_word`: the upstream's own for a video that waits."""
    words = {"openai": ["queued"], "upstream": [queued_word]}
    waiting = words.get(allowed.vocabulary, ["queued", queued_word])
    error = _only(
        {
            "message": {**_TEXT, "description": "for people"},
            "type": {"enum": _ERROR_TYPES},
            "param": {**_or_null(_TEXT), "description": "the field or header that it is about"},
            "code": {**_TEXT, "description": "for programs"},
        }
    )
    video = {
        "id": {**_TEXT, "pattern": "^video_[0-9a-f]{32}$"},
        "object": {"const": "video"},
        "model": _TEXT,
        "status": {
            "enum": [*dict.fromkeys(waiting), "in_progress", "completed", "failed"],
            "description": "`queued` for OpenAI's SDKs; else the upstream's word, settable",
        },
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "created_at": _TIME,
        "completed_at": _or_null(_TIME),
        "expires_at": {**_or_null(_TIME), "description": "when its content may go, Unix seconds"},
        "prompt": {**_TEXT, "description": "empty once it is no longer kept"},
        "size": _TEXT,
        "seconds": {**_TEXT, "description": "its length, a number in a string"},
        "remixed_from_video_id": {"type": "null"},
        "error": {
            "oneOf": [_only({"code": _TEXT, "message": _TEXT}), {"type": "null"}],
            "description": "why it failed, in the upstream's own words where it gave them",
        },
        "queue_position": {
            **_or_null({"type": "integer", "minimum": 1}),
            "description": "its place in line, 1 for the next, among those that wait for the same "
            "accounts; null once it was sent",
        },
        "estimated_seconds": {
            **_or_null({"type": "integer", "minimum": 1}),
            "description": "until it is completed: as many take less as take more; null when it "
            "is over, and while nobody can tell, as when its account is paused or down",
        },
        "url": {
            **_or_null(_TEXT),
            "description": "its content, at the gateway; null until it is completed",
        },
        "replaces": {
            **_or_null(_TEXT),
            "description": "the failed video in whose place an operator made this one",
        },
        "replaced_by": {
            **_or_null(_TEXT),
            "description": "the video that an operator made in the place of this failed one",
        },
    }
    page = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": ref("Video")},
        "first_id": _or_null(_TEXT),
        "last_id": _or_null(_TEXT),
        "has_more": {"type": "boolean"},
    }
    account = {
        "name": _TEXT,
        "ok": {"type": "boolean"},
        "trouble": {**_or_null(_TEXT), "description": "what is wrong, in words"},
        "submits_wait_for": {**_or_null(_TEXT), "description": "why no video is sent upstream now"},
        "paused": {"type": "boolean", "description": "an operator holds submits back"},
        "videos_overdue": {"type": "integer", "minimum": 0},
        "videos_to_fetch_again": {
            "type": "integer",
            "minimum": 0,
            "description": "finished videos of which a download has failed",
        },
        "slots_of_unknown": {
            "type": "integer",
            "minimum": 0,
            "description": "slots kept for submits whose outcome nobody knows",
        },
        "opens_in_seconds": {
            "type": "number",
            "minimum": 0,
            "description": "until any call may be made again",
        },
        "submits_in_seconds": {
            "type": "number",
            "minimum": 0,
            "description": "until a video may be sent, as far as the clock goes",
        },
    }
    return {
        "Video": _only(video),
        "VideoPage": _only(page),
        "VideoDeleted": _only(
            {"id": _TEXT, "object": {"const": "video.deleted"}, "deleted": {"const": True}}
        ),
        "Error": _only({"error": error}),
        "Alive": _only({"status": {"const": "ok"}}),
        "Ready": _only(
            {"ready": {"const": True}, "accounts": {"type": "array", "items": _only(account)}}
        ),
        "NotReady": _only({"ready": {"const": False}, "why": _TEXT}),
        "Description": {"type": "object"},
    }


def request_bodies(allowed: Requests) -> Data:
    """The three forms of what a caller asks for."""
    prompt = {
        "type": "string",
        "maxLength": allowed.prompt_chars,
        "pattern": r"\S",
        "description": "No control characters, but for tabs and line breaks.",
    }
    lengths = [str(seconds) for seconds in allowed.seconds]
    url = {"type": "string", "pattern": "^data:[^,]*;base64,"}
    picture = (
        f"PNG or JPEG, told by its bytes; at most {allowed.image_bytes:,} bytes and "
        f"{MOST_PIXELS:,} pixels"
    )
    unknown: Data = {
        "default": UNKNOWN_WAYS[0],
        "description": "What to do when nobody can tell whether the upstream accepted the video: "
        "`fail`, or `resubmit` it once, though both may be billed.",
    }
    texts = {
        "prompt": prompt,
        "model": {"enum": allowed.models, "default": allowed.models[0]},
        "size": {"enum": allowed.sizes, "default": allowed.sizes[0]},
        "seconds": {"enum": lengths, "default": lengths[0]},
        ON_UNKNOWN: {"enum": UNKNOWN_WAYS, **unknown},
        IMAGE_URL: {**url, "description": f"{picture}, as a data: URL; no other URL is fetched."},
    }
    file = {"contentMediaType": "application/octet-stream", "description": f"{picture}."}
    nested = _only({"image_url": url, "file_id": {"type": "null"}}, ["image_url"])
    either: Data = {"oneOf": [url, nested, {"type": "null"}]}
    as_json = {
        "prompt": prompt,
        "model": {"enum": [*allowed.models, None], "default": allowed.models[0]},
        "size": {"enum": [*allowed.sizes, None], "default": allowed.sizes[0]},
        "seconds": {"enum": [*lengths, *allowed.seconds, None], "default": lengths[0]},
        ON_UNKNOWN: {"enum": [*UNKNOWN_WAYS, None], **unknown},
        IMAGE: {**either, "description": f"{picture}, as a data: URL; no other URL is fetched."},
    }
    return {
        "multipart/form-data": {"schema": _only({**texts, IMAGE: file}, ["prompt"])},
        "application/json": {"schema": _only(as_json, ["prompt"])},
        "application/x-www-form-urlencoded": {"schema": _only(texts, ["prompt"])},
    }


def _or_null(schema: Data) -> Data:
    return {**schema, "type": [schema["type"], "null"]}


def _only(properties: Data, required: list[str] | None = None) -> Data:
    """An object of these properties and no other; all are there unless `required` says which."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties] if required is None else required,
        "additionalProperties": False,
    }
