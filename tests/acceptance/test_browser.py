"""The video that a caller gets plays in a real browser, straight from the gateway's disk."""

import asyncio
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from .conftest import Launch
from .stack import until

pytestmark = pytest.mark.anyio

CHROMIUM = shutil.which("chromium")

PAGE = """<!doctype html><video id=v muted autoplay src="%s"></video><script>
const tell = what => fetch("/told?" + encodeURIComponent(what));
v.ontimeupdate = () => { if (v.currentTime > 0.3) tell(`${v.videoWidth}x${v.videoHeight}`) };
v.onerror = () => tell("error " + v.error.message);
</script>"""


@contextmanager
def page(video_url: str) -> Iterator[tuple[str, "queue.Queue[str]"]]:
    """A page that plays a video: its address, and what it tells."""
    told: queue.Queue[str] = queue.Queue()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/told":
                told.put(unquote(query))
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write((PAGE % video_url).encode() if path == "/" else b"")

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", told
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(not CHROMIUM and not os.environ.get("CI"), reason="no chromium here")
async def test_a_finished_video_plays_in_a_browser(launch: Launch, tmp_path: Path) -> None:
    assert CHROMIUM, "CI must have a browser: apt-get install chromium"
    stack = await launch(generation=20.0, mode="open")
    video = httpx.post(f"{stack.url}/v1/videos", json={"prompt": "It plays"}).json()
    url = f"{stack.url}/v1/videos/{video['id']}"
    done = await until(lambda: (v := httpx.get(url).json())["status"] == "completed" and v)
    with page(done["url"]) as (address, told):
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update"]
        command += ["--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", address]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert await asyncio.to_thread(told.get, timeout=60) == "1280x720"
        finally:
            browser.kill()
            browser.wait()
