"""A warm process that starts gateways: it has imported what they import, and forks.

Nothing of the gateway itself is imported here: each child does that, and runs the command line as a
shell would. A start costs a quarter of a second instead of a whole one. Reads a JSON line for each
child, answers with its pid, and with its exit status once it has ended.
"""

import json
import os
import sys
from typing import Any

WARM = (
    "aiolimiter alembic.command anyio diskcache httptools httpx orjson PIL.Image prometheus_client "
    "pydantic_settings python_multipart sqlalchemy.dialects.sqlite starlette.applications "
    "structlog typer uvicorn.lifespan.off uvicorn.loops.uvloop uvloop "
    "uvicorn.protocols.http.httptools_impl"
)


def run(wanted: dict[str, Any]) -> int:
    """The command line in this process; its exit status."""
    with open(wanted["log"], "ab") as log, open(os.devnull) as nothing:
        for number, file in enumerate((nothing, log, log)):
            os.dup2(file.fileno(), number)
    os.environ.update(wanted["environ"])
    sys.argv = ["video-gateway", *wanted["arguments"]]
    try:
        from gateway.cli import main

        main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def serve() -> None:
    for name in WARM.split():
        __import__(name)
    for line in sys.stdin:
        if not (pid := os.fork()):
            status = 1
            try:
                status = run(json.loads(line))
            finally:
                os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are no top-level ones
    serve()
