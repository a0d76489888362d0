"""A stand-in for the upstream video API: three endpoints, its limits, its failures, real MP4s.

It owns a small ASGI application that follows the provider's API to the letter, so that the gateway
can be shown and tested without a key and without cost. It never imports anything of the gateway
outside this package: a fact misread once must not be able to hide on both sides.

The way through: `app` (routes) behind `gate` (key and window), over `state` (what the sandbox
knows). The prompt words that order a failure are listed in `faults`.
"""

from gateway.sandbox.app import create_app
from gateway.sandbox.server import Running, running, serve
from gateway.sandbox.settings import SandboxSettings

__all__ = ["Running", "SandboxSettings", "create_app", "running", "serve"]
