"""What a start owes to the run before it: calls that nobody saw the end of, content adopted but not
recorded, leftovers.

A call that was under way counts as ended now. Whether a POST reached upstream then can't be told,
so its job ends with an unknown outcome (or waits again, where its caller asked for that); polls and
downloads are simply made again.
"""

from collections.abc import Mapping

import structlog

from gateway.clock import Clock
from gateway.content.inputs import InputStore
from gateway.content.videos import VideoStore
from gateway.engine.calls import Calls
from gateway.errors import NotAVideo
from gateway.failpoint import reach
from gateway.job import Kind
from gateway.ledger.ledger import Ledger
from gateway.ledger.transitions import move
from gateway.outcome import Outcome, Verdict
from gateway.policy.verdicts import completed

log = structlog.get_logger()


async def recover(
    ledger: Ledger,
    calls: Mapping[str, Calls],
    videos: VideoStore,
    inputs: InputStore,
    clock: Clock,
) -> None:
    """Bring the ledger and the folder to where the engine can go on. `calls`: by account.

    Raises LedgerFull where there is no room for that.
    """
    for name, account_calls in calls.items():
        for call in ledger.live.books[name].open_calls():
            job = ledger.live.find(call.job_id) if call.job_id else None
            lost = Verdict.UNKNOWN if call.kind is Kind.SUBMIT else Verdict.INTERRUPTED
            outcome = Outcome(lost, "the gateway was stopped")
            await account_calls.settle(call, job, outcome, clock.now())
            log.info("a call's end was not seen", account=name, kind=call.kind, job=call.job_id)
            reach("recover.settled")
    for job in list(ledger.live.fetching()):
        try:
            stored = await videos.recover(job.id)
        except NotAVideo:
            continue
        if stored is not None:
            reach("recover.adopted")
            outcome = Outcome(Verdict.FETCHED, sha256=stored.sha256, size=stored.size)
            done = completed(outcome, clock.wall())
            await ledger.commit(move(job, done.to, done.changes))
            log.info("content was here already", job=job.id)
    for key in await videos.sweep(ledger.wants_content):
        log.info("content belonged to no job", job=key)
    inputs.free_unneeded(ledger.needs_input)
    reach("recover.done")
