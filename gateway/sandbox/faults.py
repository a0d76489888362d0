"""Failures to order: words in a prompt that make the sandbox misbehave for that one task.

Owns the words and what each one asks for. Never carries it out; `tasks`, `app` and `content` do.

| word in the prompt   | what happens                                                              |
| -------------------- | ------------------------------------------------------------------------- |
| `sandbox:policy`     | the task fails half-way, code `content_policy_violation`                  |
| `sandbox:quota`      | the task fails half-way, code `insufficient_quota`                        |
| `sandbox:overload`   | the task fails half-way, code `overloaded`                                |
| `sandbox:busy`       | the first 2 tasks of this very prompt fail half-way, code `overloaded`    |
| `sandbox:broke`      | the first task of this very prompt does, code `insufficient_quota`        |
| `sandbox:parameters` | the task fails half-way, code `invalid_parameters`                        |
| `sandbox:hang`       | the task never finishes; its progress stops at 99                         |
| `sandbox:refuse`     | POST answers 400 `moderation_blocked`; no task                            |
| `sandbox:500`        | the first 2 POSTs of this very prompt answer a 500 JSON error; no task    |
| `sandbox:lost`       | POST creates the task, then the connection closes before the body arrives |
| `sandbox:late`       | the first 2 downloads after completion answer 404                         |
| `sandbox:html`       | the first download answers 200 with a page of text/html                   |
| `sandbox:cut`        | the first download breaks off half-way through its declared length        |

Several words may stand in one prompt. The download faults then follow each other in the order of
the table, so `sandbox:late sandbox:cut` is 404, 404, cut, whole. An unknown word does nothing.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Fault(StrEnum):
    """What a prompt can order; the value is the word after `sandbox:`."""

    POLICY = "policy"
    QUOTA = "quota"
    OVERLOAD = "overload"
    BUSY = "busy"
    BROKE = "broke"
    PARAMETERS = "parameters"
    HANG = "hang"
    REFUSE = "refuse"
    SERVER_ERROR = "500"
    LOST = "lost"
    LATE = "late"
    HTML = "html"
    CUT = "cut"


@dataclass(frozen=True)
class Failure:
    """Why a task failed, as its video object tells it."""

    code: str
    message: str


FAILURES = {
    Fault.POLICY: Failure(
        "content_policy_violation", "The prompt was rejected by the content policy."
    ),
    Fault.QUOTA: Failure("insufficient_quota", "The account's quota is used up."),
    Fault.OVERLOAD: Failure("overloaded", "The servers are overloaded; try again later."),
    Fault.PARAMETERS: Failure("invalid_parameters", "The parameters could not be processed."),
}

_FIRST_FAILURES = {Fault.BUSY: (2, Fault.OVERLOAD), Fault.BROKE: (1, Fault.QUOTA)}
"""How many tasks of one prompt fail first, and as what."""

SERVER_ERRORS = 2
"""How many POSTs of one prompt `sandbox:500` spoils."""

Delivery = Literal["whole", "missing", "html", "cut"]
"""How a download of finished content goes."""

_DELIVERIES: dict[Fault, tuple[Delivery, ...]] = {
    Fault.LATE: ("missing", "missing"),
    Fault.HTML: ("html",),
    Fault.CUT: ("cut",),
}

_WORD = re.compile(r"(?<!\w)sandbox:(\w+)")


def ordered(prompt: str) -> frozenset[Fault]:
    """The faults that a prompt asks for."""
    words = set(_WORD.findall(prompt))
    return frozenset(fault for fault in Fault if fault in words)


def failure(faults: frozenset[Fault], earlier: int = 0) -> Failure | None:
    """How a task with these faults fails that `earlier` tasks of the same prompt went before; None
    if it does not.
    """
    for fault, (first, kind) in _FIRST_FAILURES.items():
        if fault in faults and earlier < first:
            return FAILURES[kind]
    return next((words for fault, words in FAILURES.items() if fault in faults), None)


def delivery(faults: frozenset[Fault], earlier: int) -> Delivery:
    """How a download goes that `earlier` downloads of the same finished task went before."""
    script = [step for fault, steps in _DELIVERIES.items() if fault in faults for step in steps]
    return script[earlier] if earlier < len(script) else "whole"
