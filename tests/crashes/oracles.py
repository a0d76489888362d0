"""What must be true after any number of crashes, by upstream's own record and the callers' notes.

Pure functions: each gives a line for every promise that was broken.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from .callers import UNKNOWN, Note

ALLOWED = frozenset({"completed", "deleted", "content_policy_violation", UNKNOWN})


def broken_promises(
    record: dict[str, Any], notes: Sequence[Note], caught: Collection[str], rows: Counter[str]
) -> Iterator[str]:
    """`caught`: ids of jobs whose POST was under way at a kill. `rows`: how many jobs the ledger
    has, by id.
    """
    yield from of_the_record(record)
    created = record["figures"]["submits_by_prompt"]
    theirs = {video["prompt"]: video["sha256"] for video in record["videos"].values()}
    for note in notes:
        if not rows[note.id]:
            yield f"{note}: accepted, and the ledger does not know it"
        if note.ended not in ALLOWED:
            yield f"{note}: ended in a way that nothing called for"
        if note.ended == UNKNOWN and note.id not in caught:
            yield f"{note}: unknown, though no POST of it was under way at a kill"
        if note.ended == "content_policy_violation" and "sandbox:policy" not in note.prompt:
            yield f"{note}: failed without a reason"
        if note.sha256 and note.sha256 != theirs.get(note.prompt):
            yield f"{note}: its bytes are not upstream's"
        if note.ended == "completed" and created.get(note.prompt) != 1:
            yield f"{note}: completed, and upstream made it {created.get(note.prompt)} times"
    if unknown := set(rows) - {note.id for note in notes}:
        yield f"the ledger has jobs that nobody asked for: {sorted(unknown)}"


def of_the_record(record: dict[str, Any]) -> Iterator[str]:
    """What upstream alone can tell: limits, and tasks created twice."""
    figures, settings = record["figures"], record["settings"]
    twice = {prompt: n for prompt, n in figures["submits_by_prompt"].items() if n > 1}
    if twice:
        yield f"paid for twice: {twice}"
    most = figures["most_calls_in_window_with_refused"]["arrival"]
    if most > settings["requests"]:
        yield f"{most} calls in one window"
    if figures["most_tasks_at_once"] > settings["concurrent"]:
        yield f"{figures['most_tasks_at_once']} tasks at once"
    if figures["refused"]:
        yield f"upstream refused {figures['refused']} calls"
