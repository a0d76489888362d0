"""Each client in an environment of its own, made from a locked list of packages.

Owns the folder of environments (`.clients`, ignored by git). An environment is made anew when its
lock or this Python changes. Nothing here knows what a client does.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
LOCKS = HERE / "clients"
MADE = HERE / ".clients"

MAKE_SECONDS = 300.0
"""A package manager that has not ended by then won't."""


class CannotMake(Exception):
    """A client's environment can't be made here; the message tells why."""


def python_of(client: str) -> Path:
    """The interpreter of a Python client's environment, with exactly what its lock lists."""
    return _made(client, _make_python) / "bin" / "python"


def packages_of(client: str) -> Path:
    """The folder that holds a Node client's `node_modules`, exactly as its lock lists them."""
    return _made(client, _make_node)


def node() -> Path:
    """A Node 22, which the newest SDK wants: the binary that the npm package `node` would install.

    That package's own install script is not run: the package of this machine's kind is locked.
    """
    found = list(packages_of("node-runtime").glob("node_modules/node-linux-*/bin/node"))
    if not found:
        raise CannotMake("npm has no Node for this kind of machine")
    return found[0]


def make_all() -> None:
    """Make what is not there yet. What can't be made is told to whoever asks for it then."""
    for lock in sorted(each for each in LOCKS.iterdir() if each.is_dir()):
        with suppress(CannotMake):
            (packages_of if (lock / "package.json").exists() else python_of)(lock.name)


def _made(client: str, make: Callable[[Path, Path], None]) -> Path:
    """The folder of an environment, made if it is not there as its lock wants it."""
    folder = MADE / client
    wanted = _digest(client)
    MADE.mkdir(exist_ok=True)
    with (MADE / f"{client}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests may want it at once
        stamp = folder / "made-from"
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(LOCKS / client, folder)
            stamp.write_text(wanted)
    return folder


def _digest(client: str) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted((LOCKS / client).iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _make_python(lock: Path, folder: Path) -> None:
    venv.create(folder, with_pip=False, symlinks=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input"]
    pip += ["--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"]
    pip += ["--no-compile"]  # a client imports a small part of it, and that compiles itself
    _run([*pip, "-r", str(lock / "requirements.txt")], folder)


def _make_node(lock: Path, folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(lock / name, folder)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    _run(npm, folder)


def _run(command: list[str], folder: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        ended = subprocess.run(
            ["nice", *command],  # other tests run beside it
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=MAKE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotMake(f"{command[0]}: {error}") from error
    if ended.returncode:
        raise CannotMake(f"{command[0]}: {ended.stderr.strip()[-1500:]}")
