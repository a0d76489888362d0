"""The submit form: each field, and the rule it must keep.

Owns what counts as a valid submit. Never creates anything; every refusal names the field.
"""

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from gateway.sandbox.errors import Refusal
from gateway.sandbox.tasks import Order

MODELS = ("sora-2",)
SIZES = ("1280x720", "720x1280")
SECONDS = ("10", "15")
PROMPT_CHARACTERS = 999
"""Most characters of a prompt: under 1,000."""
IMAGE_BYTES = 9_999_999
"""Most bytes of an input image: under 10 MB."""

_FIELDS = ("prompt", "model", "size", "seconds", "input_reference")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


async def read_order(request: Request) -> Order:
    """What a POST asks for; Refusal 415 if it is no multipart form, 400 if a rule is broken."""
    media_type, _, _ = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "multipart/form-data":
        raise Refusal(415, "unsupported_media_type", "Send a multipart/form-data form.")
    async with request.form() as form:
        for name, _ in form.multi_items():
            if name not in _FIELDS:
                raise _invalid(name, f"unknown field; the fields are {', '.join(_FIELDS)}")
            if len(form.getlist(name)) > 1:
                raise _invalid(name, "given more than once")
        prompt = _text(form, "prompt")
        if not prompt.strip():
            raise _invalid("prompt", "must not be empty")
        if len(prompt) > PROMPT_CHARACTERS:
            raise _invalid("prompt", f"must be under {PROMPT_CHARACTERS + 1} characters")
        return Order(
            prompt=prompt,
            model=_one_of(form, "model", MODELS),
            size=_one_of(form, "size", SIZES),
            seconds=_one_of(form, "seconds", SECONDS),
            image=await _image(form, "input_reference"),
        )


def _invalid(name: str, why: str) -> Refusal:
    return Refusal(400, "invalid_value", f"{name}: {why}", param=name)


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    if value is None:
        raise _invalid(name, "missing")
    if not isinstance(value, str):
        raise _invalid(name, "must be text, not a file")
    return value


def _one_of(form: FormData, name: str, allowed: tuple[str, ...]) -> str:
    value = _text(form, name)
    if value not in allowed:
        raise _invalid(name, f"must be {' or '.join(allowed)}")
    return value


async def _image(form: FormData, name: str) -> bytes | None:
    value = form.get(name)
    if value is None:
        return None
    if not isinstance(value, UploadFile):
        raise _invalid(name, "must be a file")
    image = await value.read(IMAGE_BYTES + 1)
    if len(image) > IMAGE_BYTES:
        raise _invalid(name, f"must be under {IMAGE_BYTES + 1} bytes")
    if not image.startswith(_MAGIC):
        raise _invalid(name, "must be a PNG or a JPEG")
    return image
