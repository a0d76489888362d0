"""The accounts of a seed: the settings of each, the provider and the faults behind it."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from gateway.config import AccountPolling, AccountSettings

from .faults import Faults, plan
from .upstream import Provider, Visit

HOST = "upstream.test"
OTHER_HOST = "cdn.test"
"""Where downloads may be redirected to, by the settings."""

KEYS_BEGIN = "sk-a-real-key-of-the-simulation"

MODELS = ("sora-2", "sora-2-pro")


@dataclass(frozen=True)
class Account:
    """One upstream key."""

    key: str
    settings: AccountSettings
    provider: Provider
    faults: Faults

    @property
    def name(self) -> str:
        return self.settings.name


def plan_accounts(
    seed: int,
    hours: float,
    now: Callable[[], float],
    visits: list[Visit],
    began: Callable[[str], None],
) -> list[Account]:
    """One account, or a few whose limits, models, polling and troubles are their own. `visits`: the
    record of all of them. The first one serves all models.
    """
    chance = Random(f"accounts {seed}")
    names = "abc"[: chance.choices((1, 2, 3), (5, 3, 2))[0]]
    same_ids = chance.random() < 0.5
    accounts = []
    for name in names:
        requests, concurrent = chance.choice((3, 4, 6, 10)), chance.randint(2, 5)
        models = list(MODELS) if name == "a" else chance.choice(([], MODELS[:1], MODELS[1:]))
        interval = chance.choice((30.0, 30.0, 45.0))
        settings = AccountSettings(
            name=name,
            base_url=f"https://{HOST}",
            requests=requests,
            concurrent=concurrent,
            content_hosts=[OTHER_HOST],
            models=list(models),
            polling=AccountPolling(interval=interval),
        )
        provider = Provider(
            name,
            Random(f"upstream {seed} {name}"),
            now,
            requests,
            settings.period,
            concurrent,
            chance.choice(("arrival", "end")),
            frozenset(models or MODELS),
            interval,
            visits,
            began,
            ids="task" if same_ids else f"task_{name}",
            fast=chance.random() < 0.3,
        )
        faults = plan(Random(f"faults {seed} {name}"), now(), hours)
        accounts.append(Account(f"{KEYS_BEGIN}-{name}", settings, provider, faults))
    return accounts
