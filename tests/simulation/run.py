"""A seed in a process of its own: what one leaves behind, even a crash, can't touch the next."""

import multiprocessing
import os
import ssl
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from logging import CRITICAL
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog

from gateway.ledger.database import FILE, open_database

from .world import Verdict, run_seed


@dataclass
class Runner:
    """`folder` holds an empty ledger, migrated once for all. `hours`: of each seed."""

    folder: Path
    hours: float
    log: bool = False

    def __post_init__(self) -> None:
        open_database(self.folder).dispose()
        # No call here needs certificates, and they cost a lot.
        ssl.create_default_context = cache(ssl.create_default_context)

    def run(self, seeds: Iterable[int], workers: int) -> Iterator[Verdict]:
        """The verdict on each seed, as they come; `workers` at once."""
        waiting, running = deque(seeds), dict[Connection, tuple[int, BaseProcess]]()
        while waiting or running:
            while waiting and len(running) < workers:
                seed = waiting.popleft()
                connection, process = self._start(seed)
                running[connection] = (seed, process)
            for ours in wait(list(running)):
                assert isinstance(ours, Connection)
                seed, process = running.pop(ours)
                try:
                    yield ours.recv()
                except EOFError:
                    yield Verdict(seed, 0.0, broken=["its process ended without a word"])
                process.join()

    def _start(self, seed: int) -> tuple[Connection, BaseProcess]:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=self._run, args=(seed, theirs))
        process.start()
        theirs.close()
        return ours, process

    def _run(self, seed: int, connection: Connection) -> None:
        log = sys.stderr if self.log else Path(os.devnull).open("w")  # noqa: SIM115
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(0 if self.log else CRITICAL),
            logger_factory=structlog.WriteLoggerFactory(log),
        )
        try:
            verdict = run_seed(seed, self.hours, self.folder / FILE, partial(print, file=log))
        except BaseException:  # noqa: BLE001 - whatever it was, whoever asked must hear of it
            verdict = Verdict(seed, 0.0, broken=[traceback.format_exc()])
        connection.send(verdict)
        connection.close()
        os._exit(0)
