"""When to poll one running video.

Never twice within `interval`, once for all of its callers. The first look waits for half of what a
video usually takes: five videos polled from the start would use up a budget of ten a minute and
leave nothing to submit or download with. An overdue one (longer than `max_wait`) is polled half as
often, and still waited for: it is paid for.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PollingRule:
    """Seconds. `interval` is least between two polls of one video; `expected` is what a video
    usually takes.
    """

    interval: float
    expected: float
    max_wait: float
    task_life: float


def when_to_poll(submitted: float, polled: float | None, rule: PollingRule) -> float:
    """The moment of the next poll of a video submitted at `submitted` and last polled at
    `polled`.
    """
    if polled is None:
        return submitted + max(rule.interval, rule.expected / 2)
    overdue = polled - submitted > rule.max_wait
    return polled + rule.interval * (2 if overdue else 1)
