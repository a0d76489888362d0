"""`/metrics` on a listener of its own: no caller finds it on theirs."""

from pathlib import Path

import httpx
import pytest
from crashes.processes import free_port

from .stack import Stack

pytestmark = pytest.mark.anyio


async def test_metrics_move_to_their_own_port(tmp_path: Path) -> None:
    stack, port = Stack(tmp_path), free_port()
    stack.write_config()
    text = stack.config.read_text()
    stack.config.write_text(text.replace("[server]", f"[server]\nmetrics_port = {port}"))
    try:
        await stack.start_gateway()
        moved = httpx.get(f"http://127.0.0.1:{port}/metrics")
        assert moved.is_success
        assert "video_gateway_queue_depth 0.0" in moved.text
        gone = httpx.get(f"{stack.url}/metrics")
        assert gone.status_code == 404
        assert gone.json()["error"]["code"] == "not_found"
        assert "/metrics" not in httpx.get(f"{stack.url}/openapi.json").json()["paths"]
        elsewhere = httpx.get(f"http://127.0.0.1:{port}/v1/videos/video_1")
        assert elsewhere.status_code == 404  # it serves nothing but figures
        stack.stop_gateway()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/metrics")
    finally:
        stack.stop()
