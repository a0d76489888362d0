"""Every error that this project raises, in one tree.

    GatewayError
    |-- SettingsError          the settings don't add up: refuse to start, say why in one line
    |-- StartError             the machine or the data folder can't be used: the same
    |   `-- ListenError        nor the address; it may be there, or free, in a while
    |-- LedgerError
    |   |-- LedgerFull         no room on the disk: nothing was committed, try again later
    |   |-- LedgerBroken       it can't be trusted any more: the process stops
    |   |-- StateConflict      the job is not in the state that the transition expects
    |   |-- Refused            what an operator asks for can't be done: one line says why
    |   |-- RepeatConflict     an Idempotency-Key came back with another request
    |   `-- QueueFull          its caller has as many videos waiting as it may
    |-- NotAVideo              the bytes that came are not a whole MP4
    |-- StoreUnreadable        a stored video can't be read now; it is not lost for that
    |-- InputsFull             no room for another waiting input image
    `-- RequestError           the caller's request can't be met: status, code, param, message

`api/errors.py` is the one table from these to HTTP.
"""

from collections.abc import Mapping


class GatewayError(Exception):
    """The root: whatever this project raises on purpose."""


class SettingsError(GatewayError):
    """The settings can't be used. `problems` holds one line each, none with a secret in it."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class StartError(GatewayError):
    """The machine or the data folder can't be used."""


class ListenError(StartError):
    """The address can't be listened on, now."""


class LedgerError(GatewayError):
    """The ledger could not do what it was asked to do."""


class LedgerFull(LedgerError):
    """No room to commit. Nothing was written; the same may succeed later."""


class LedgerBroken(LedgerError):
    """A write or fsync failed, or the file is damaged: the process must stop and be started
    again.
    """


class StateConflict(LedgerError):
    """The row was not in the state that the transition expects. Nothing was written."""


class Refused(LedgerError):
    """What an operator asks for can't be done. Nothing was written."""


class RepeatConflict(LedgerError):
    """An Idempotency-Key came back with another request. Nothing was written."""


class QueueFull(LedgerError):
    """Its caller has as many videos waiting as it may. Nothing was written."""


class NotAVideo(GatewayError):
    """The bytes that came are not a whole MP4."""


class StoreUnreadable(GatewayError):
    """A stored video can't be read now (no file descriptors left, say). It is not lost for that."""


class InputsFull(GatewayError):
    """The input images that wait take up all the room that the settings give them."""


class RequestError(GatewayError):
    """A caller's request that can't be met, in the words of OpenAI's error envelope."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


def bad_value(field: str, what: str) -> RequestError:
    """A field of a request that holds what it may not."""
    return RequestError(400, f"{field} {what}.", code="invalid_value", param=field)
