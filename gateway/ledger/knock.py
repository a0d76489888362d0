"""The door of a data folder: who has written beside the server knocks, and the server looks.

A knock is an empty datagram to a Unix socket in the folder. It says nothing, not even what to look
at: that stands in the outbox. Without it a server would have to look again and again, for SQLite
tells nobody that another process has written.
"""

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socket

import structlog

from gateway.ledger.database import FILE

log = structlog.get_logger()

NAME = "knock"
"""The socket in the data folder, as long as a server runs on it."""


class Door:
    """The server's side. `Door.open` makes one with a socket; at any other nobody can knock."""

    def __init__(self, folder: Path, listener: socket | None = None) -> None:
        self._folder = folder
        self._listener = listener

    @classmethod
    def open(cls, folder: Path) -> "Door":
        """To be called under the folder's lock, when the ledger is there. A socket that a crash
        left is taken away. Where none can be made the log says so, and nobody can knock.
        """
        try:
            return cls(folder, _listen(folder))
        except OSError as error:
            message = "commands can't knock here: what they change is seen within a minute"
            log.warning(message, data=str(folder), why=error.strerror or str(error))
            return cls(folder)

    async def knocked(self) -> None:
        """Wait until somebody knocks, or has since this was last called. Many at once are one."""
        loop = asyncio.get_running_loop()
        if self._listener is None:
            await loop.create_future()
            return
        await loop.sock_recv(self._listener, 1)
        with suppress(BlockingIOError):
            while True:
                self._listener.recv(1)

    def close(self) -> None:
        """Take the socket away. To be called under the folder's lock."""
        if self._listener is not None:
            self._listener.close()
            with suppress(OSError):  # the next server takes it away
                (self._folder / NAME).unlink()


def knock(folder: Path) -> None:
    """Tell the server on `folder`, if one runs, that the ledger was written to: call it after the
    commit. Waits for nobody, and can't fail: the server looks once a minute, too.
    """
    with suppress(OSError), socket(AF_UNIX, SOCK_DGRAM) as sender, _address(folder) as address:
        sender.setblocking(False)
        sender.sendto(b"", address)


def _listen(folder: Path) -> socket:
    (folder / NAME).unlink(missing_ok=True)
    listener = socket(AF_UNIX, SOCK_DGRAM)
    try:
        listener.setblocking(False)
        with _address(folder) as address:
            listener.bind(address)
        # Who may write the ledger may knock, and nobody else.
        (folder / NAME).chmod(stat.S_IMODE((folder / FILE).stat().st_mode) & 0o666)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's address while it is used. One holds 107 bytes at most, and folders may lie
    deeper: Linux has a short name for each that is open.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        short = Path(f"/proc/self/fd/{descriptor}")
        yield str((short if short.exists() else folder) / NAME)
    finally:
        os.close(descriptor)
