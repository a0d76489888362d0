"""How long `serve` takes to be ready, and what it holds when idle, beside a bare Starlette.

python -m bench.start [RUNS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

PORT = 18999

BARE = f"""
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
app = Starlette(routes=[Route("/readyz", lambda request: PlainTextResponse("ok"))])
uvicorn.run(app, port={PORT}, log_level="error")
"""


def measure(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds from the start of the process to its first answer, and MB held two seconds later."""
    environ = {**os.environ, "UPSTREAM_API_KEY": "sk-bench"}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=5).close()
                break
            except URLError:
                time.sleep(0.005)
        ready = time.perf_counter() - began
        time.sleep(2)
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return ready, pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    serve = [sys.executable, "-m", "gateway", "serve", "--port", str(PORT)]
    rows: dict[str, list[tuple[float, float]]] = {"gateway": [], "bare Starlette": []}
    print(f"medians of {runs} runs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.toml").write_text("")
        measure(serve, folder)  # the first start makes the ledger
        for _ in range(runs):
            rows["gateway"].append(measure(serve, folder))
            rows["bare Starlette"].append(measure([sys.executable, "-c", BARE], folder))
    medians = {}
    for what, figures in rows.items():
        medians[what] = [statistics.median(column) for column in zip(*figures, strict=True)]
        seconds, megabytes = medians[what]
        print(f"{what:15} ready in {seconds:5.2f} s   idles at {megabytes:6.1f} MB")
    ratios = [ours / bare for ours, bare in zip(*medians.values(), strict=True)]
    print(f"{'ratio':15} {ratios[0]:13.1f}     {ratios[1]:16.1f}")


if __name__ == "__main__":
    main()
