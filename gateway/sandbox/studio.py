"""Where movies are made when somebody asks for them, and kept for a while.

Owns the cache of movies and the input images waiting to be drawn. One movie is made at a time, in
a worker thread, so that the event loop and the other processors stay free. Never decides whether a
task may be downloaded.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from gateway.sandbox import movie
from gateway.sandbox.tasks import Task

_KEPT = 64
"""Movies kept; 0.1 to 1 MB each; an older one is made again when asked for."""


@dataclass(frozen=True)
class Movie:
    """The content of a finished task."""

    content: bytes
    sha256: str
    """Of the content, in hexadecimal."""


class Studio:
    """Makes each task's movie when it is first asked for."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._movies: OrderedDict[str, Movie] = OrderedDict()
        self._digests: dict[str, str] = {}
        self._images: dict[str, bytes] = {}
        self._pictures: dict[str, bytes | None] = {}
        self._busy = anyio.Lock()

    def hold(self, task: Task, image: bytes) -> None:
        """Keep an input image until its movie is made; then a small copy takes its place."""
        self._images[task.id] = image

    def drop(self, task: Task) -> None:
        """Forget the image and the movie of a task whose content nobody can have any more."""
        for kept in (self._images, self._pictures, self._movies):
            kept.pop(task.id, None)

    def sha256(self, task: Task) -> str | None:
        """Digest of the task's content; None as long as nobody has asked for that."""
        return self._digests.get(task.id)

    async def movie(self, task: Task) -> Movie:
        """The task's movie; the same bytes every time."""
        async with self._busy:
            if task.id not in self._movies:
                self._movies[task.id] = await self._make(task)
                if len(self._movies) > _KEPT:
                    self._movies.popitem(last=False)
            self._movies.move_to_end(task.id)
            return self._movies[task.id]

    async def _make(self, task: Task) -> Movie:
        if task.id in self._images:
            shrink = partial(movie.shrink, self._images[task.id], task.dimensions)
            self._pictures[task.id] = await anyio.to_thread.run_sync(shrink)
            del self._images[task.id]
        content = await anyio.to_thread.run_sync(
            partial(
                movie.make,
                task.prompt,
                task.dimensions,
                int(task.seconds),
                self._fps,
                self._pictures.get(task.id),
            )
        )
        self._digests[task.id] = hashlib.sha256(content).hexdigest()
        return Movie(content, self._digests[task.id])
