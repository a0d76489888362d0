"""Bounds on callers: requests a minute for each, videos waiting for each, wrong keys for each
address.

Inbound only: what goes upstream is bounded by `policy/window.py`. A leaky bucket is right here,
where a burst harms nobody.
"""

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from aiolimiter import AsyncLimiter

from gateway.config import Limits
from gateway.errors import RequestError

MINUTE = 60.0
MOST_BUCKETS = 10_000
"""Callers and addresses that are remembered at once: the one that came longest ago is forgotten."""

LONGEST_RETRY_AFTER = 60
"""Seconds: SDKs ignore a longer one, and Node's retries at once then."""


class Bounds:
    """Refuses what is too much, at once and with a Retry-After that holds."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._callers = _Buckets(limits.requests)
        self._addresses = _Buckets(limits.wrong_keys)

    async def count_request(self, caller: str) -> None:
        """Count a caller's request. Raises RequestError 429."""
        if not await self._callers.take(caller):
            message = f"You may send {self._limits.requests} requests a minute to this gateway."
            raise _too_many(message, "rate_limit_exceeded", self._callers.retry_after)

    async def count_wrong_key(self, address: str) -> None:
        """Count a wrong key. Raises RequestError 429 where an address keeps guessing."""
        if not await self._addresses.take(whose(address)):
            message = "Too many wrong keys came from your address."
            raise _too_many(message, "too_many_wrong_keys", self._addresses.retry_after)

    def is_full(self, waiting: int) -> bool:
        """Whether a caller with so many videos waiting may add none. A repeated one is not new."""
        return waiting >= self._limits.queued

    def queue_full(self, waiting: int) -> RequestError:
        """What such a caller is told."""
        message = f"You have {waiting} videos waiting, and may have {self._limits.queued}."
        return _too_many(message, "queue_full", LONGEST_RETRY_AFTER)


def whose(address: str) -> str:
    """What of an address is one person's: all of an IPv4 address, the first half of an IPv6 one,
    since whoever has one of these has the 2^64 beside it.
    """
    try:
        ip = ip_address(address)
    except ValueError:  # a socket without addresses
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(int(ip) >> 64 << 64)}/64"


class _Buckets:
    """A leaky bucket for each name."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, AsyncLimiter] = OrderedDict()
        self.retry_after = min(math.ceil(MINUTE / rate), LONGEST_RETRY_AFTER)
        """Seconds after which a full bucket takes one more."""

    async def take(self, name: str) -> bool:
        bucket = self._buckets.pop(name, None) or AsyncLimiter(self._rate, MINUTE)
        self._buckets[name] = bucket
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if not bucket.has_capacity():
            return False
        await bucket.acquire()  # there is room, so this does not wait
        return True


def _too_many(message: str, code: str, retry_after: int) -> RequestError:
    return RequestError(429, message, code=code, headers={"retry-after": str(retry_after)})
