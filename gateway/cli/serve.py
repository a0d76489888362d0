"""`video-gateway serve`: the gateway on a real port, until a signal ends it."""

import asyncio
import resource
import sys
from contextlib import suppress
from functools import partial
from socket import socket
from types import FrameType
from typing import Annotated

import structlog
import typer
import uvicorn
from starlette.types import ASGIApp

from gateway import log as logs
from gateway.api.connection import Connection
from gateway.app import Gateway
from gateway.cli.options import CONFIG, Config
from gateway.clock import read_boot
from gateway.config import Settings
from gateway.errors import ListenError
from gateway.load import load_settings, upstream_keys

log = structlog.get_logger()


def serve(
    config: Config = CONFIG,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Run the gateway."""
    settings = load_settings(config, host, port)
    keys = upstream_keys(settings)
    logs.configure(keys.values())
    raise_descriptors()
    server = build_server(settings, keys)
    server.run()
    sys.exit(server.exit_status)


def raise_descriptors() -> None:
    """Let this process open as many files and connections as the machine allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems name a hard limit that they don't grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def build_server(settings: Settings, keys: dict[str, str]) -> "Server":
    """A gateway and the server that runs it. Raises StartError."""
    server: Server | None = None

    def on_fatal(_error: BaseException) -> None:
        if server is not None:
            server.fail()

    gateway = Gateway(settings, keys, read_boot(), on_fatal)
    place, metrics = settings.server, None
    if place.metrics_port:
        metrics = _listener(gateway.metrics_app, place.metrics_host, place.metrics_port, settings)
    server = Server(_listener(gateway.app, place.host, place.port, settings), gateway, metrics)
    return server


def _listener(app: ASGIApp, host: str, port: int, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(Connection, settings.limits),  # type: ignore[arg-type]  # typed as a class
        ws="none",
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",  # the server leads the gateway's life itself
        proxy_headers=False,  # `api/proxies.py` reads them
        timeout_graceful_shutdown=int(settings.server.grace),
    )


class Server(uvicorn.Server):
    """uvicorn, with calls upstream ended at the signal and not only once the last stream is
    through.
    """

    def __init__(
        self, config: uvicorn.Config, gateway: Gateway, metrics: uvicorn.Config | None
    ) -> None:
        super().__init__(config)
        self.gateway = gateway
        self._metrics = uvicorn.Server(metrics) if metrics else None
        self._life = gateway.life()
        self._signalled = False
        self.exit_status = 0
        self._up = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await self._life.__aenter__()
        place = self.config
        try:
            await super().startup(sockets)
            if self._metrics is not None:
                place = self._metrics.config
                self._metrics.config.load()
                self._metrics.lifespan = self._metrics.config.lifespan_class(self._metrics.config)
                await self._metrics.startup()
        except BaseException as error:
            await self._life.__aexit__(None, None, None)
            if isinstance(error, SystemExit):  # how uvicorn ends where it can't listen
                raise ListenError(f"can't listen on {place.host}:{place.port}") from error
            raise
        self._up.set()
        host, port, *_ = self.servers[0].sockets[0].getsockname()
        log.info("ready", host=host, port=port)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self.gateway.stop_calls()
        ends = [super().shutdown(sockets)]
        if self._metrics is not None:
            ends.append(self._metrics.shutdown())
        await asyncio.gather(*ends)
        await self._life.__aexit__(None, None, None)

    async def wait_started(self, serving: "asyncio.Task[None]") -> bool:
        """Wait until requests are answered, or until `serving` has ended without."""
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait((up, serving), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        return self.started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._signalled:  # somebody is in a hurry: callers' connections and all calls are cut
            self.gateway.cut_calls()
            for server in (self, self._metrics):
                if server is not None:
                    server.force_exit = True
                    for connection in list(server.server_state.connections):
                        connection.transport.abort()
        self._signalled = True
        self.gateway.stop_calls()
        super().handle_exit(sig, frame)

    def fail(self) -> None:
        """End the process: it must be started again."""
        self.exit_status = 1
        self.should_exit = True
