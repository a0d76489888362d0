"""How the gateway logs: one JSON object a line on standard error, with no secret in any.

No line is given a header, a path or a body; and should a key get into one all the same, it is taken
out here.
"""

import logging
import re
import sys
from collections.abc import Iterable, Mapping

import structlog
from structlog.typing import EventDict, WrappedLogger

from gateway.keys import PATTERN

HIDDEN = "[key]"

WARNING = logging.WARNING


def configure(secrets: Iterable[str], level: int = logging.INFO) -> None:
    """Set up structlog, and the standard library's loggers through it. `secrets` never appear."""
    hide = _Hide(secrets)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide,
    ]
    render = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("httpx", "httpcore"):  # they log whole addresses
        logging.getLogger(name).setLevel(logging.WARNING)


class _Hide:
    """A processor that takes known keys, and whatever looks like a caller's, out of every value."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one key may begin with another.
        known = sorted(filter(None, secrets), key=len, reverse=True)
        self._keys = re.compile("|".join([*map(re.escape, known), PATTERN.pattern]))

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {name: self._clean(value) for name, value in event.items()}

    def _clean(self, value: object) -> object:
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, Mapping):
            return {self._clean(str(name)): self._clean(each) for name, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(each) for each in value]
        if not isinstance(value, str):
            value = repr(value)
        return self._keys.sub(HIDDEN, value)
