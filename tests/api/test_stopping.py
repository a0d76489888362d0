"""The end of a server with a listener of its own for /metrics, and a reader that has stalled."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from crashes.processes import free_port
from stage import settings_for, until

from gateway.cli.serve import Server, build_server


async def start(folder: Path, grace: int) -> tuple[Server, "asyncio.Task[None]"]:
    told = {"port": 0, "metrics_port": free_port(), "grace": grace}
    server = build_server(
        settings_for("http://upstream.invalid", folder, server=told), {"default": "sandbox-key"}
    )
    task = asyncio.create_task(server.serve())
    assert await server.wait_started(task)
    return server, task


@pytest.fixture
async def line(anyio_backend: str) -> AsyncIterator[socket.socket]:
    """What can hold little that it has not read."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.setblocking(False)
        yield line


async def stall(server: Server, line: socket.socket) -> None:
    """Ask for /metrics without reading, until an answer has no room left."""
    assert server._metrics is not None
    state = server._metrics.server_state
    loop = asyncio.get_running_loop()
    await loop.sock_connect(line, ("127.0.0.1", server._metrics.config.port))
    await until(lambda: state.connections)
    (connection,) = state.connections
    while not connection.transport.get_write_buffer_size():
        answered = state.total_requests
        await loop.sock_sendall(line, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda answered=answered: state.total_requests > answered)


async def test_the_grace_is_for_both_listeners(tmp_path: Path, line: socket.socket) -> None:
    server, task = await start(tmp_path, 1)
    await stall(server, line)
    server.should_exit = True
    async with asyncio.timeout(20):
        await task


async def test_a_callers_port_closes_while_the_other_is_waited_for(
    tmp_path: Path, line: socket.socket
) -> None:
    server, task = await start(tmp_path, 600)
    await stall(server, line)
    server.should_exit = True
    await until(lambda: not any(each.is_serving() for each in server.servers))
    assert not task.done()
    line.close()
    await task


async def test_a_second_signal_cuts_off_both(tmp_path: Path, line: socket.socket) -> None:
    server, task = await start(tmp_path, 600)
    await stall(server, line)
    server.handle_exit(signal.SIGTERM, None)
    await until(lambda: server._metrics and not server._metrics.servers[0].is_serving())
    assert not task.done()
    server.handle_exit(signal.SIGTERM, None)
    server._captured_signals.clear()  # else they are sent again, to this very process
    async with asyncio.timeout(20):
        await task
