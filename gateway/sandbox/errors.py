"""The one error shape: `{"error": {"message", "type", "param", "code"}}`.

Owns how a refusal looks on the wire. Never decides that something is refused.
"""

from collections.abc import Mapping

from starlette.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Refusal(Exception):
    """Raised wherever a call can't be granted; the app answers it as JSON."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = headers

    def answer(self) -> JSONResponse:
        """The HTTP answer that tells this refusal."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {
            "message": self.message,
            "type": _TYPES.get(self.status, kind),
            "param": self.param,
            "code": self.code,
        }
        return JSONResponse({"error": error}, self.status, headers=self.headers)
