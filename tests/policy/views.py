"""An account with nothing to do, at the documented limits."""

import math
from dataclasses import replace

from gateway.job import Account
from gateway.policy.belief import SILENT, Habit, Noise
from gateway.policy.dispatch import Rules, View
from gateway.policy.polling import PollingRule
from gateway.policy.window import WindowRule

NOW = 10_000.0
RULES = Rules(WindowRule(10, 60.0, 1.0), PollingRule(30.0, 240.0, 600.0, 3600.0), concurrent=5)
HABIT = Habit(math.log(240.0), 0.15, Noise(0.0))
BLIND = replace(HABIT, noise=SILENT)
"""Of videos whose progress tells nothing."""

IDLE = View(
    now=NOW,
    account=Account("main"),
    places=(),
    slots_taken=0,
    slot_returns=math.inf,
    running=(),
    fetching=(),
    to_fetch=0,
    head=None,
    room=True,
    looking=False,
)
