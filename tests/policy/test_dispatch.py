"""What an account's loop does next, held against what the limits and the order promise."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Account, Kind
from gateway.policy.dispatch import (
    LOOK_FOR_ROOM,
    Fetching,
    Rules,
    Running,
    Send,
    View,
    Wait,
    next_call,
)
from gateway.policy.polling import PollingRule, when_to_poll
from gateway.policy.window import Place, WindowRule, opens_at

NOW = 10_000.0
RULES = Rules(WindowRule(10, 60.0, 1.0), PollingRule(30.0, 240.0, 600.0, 3600.0), concurrent=5)
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
FULL = tuple(Place(NOW - 10, NOW - 10 + number) for number in range(10))
"""Ten calls within the last seconds: the window opens at NOW + 51."""

near = st.one_of(st.just(NOW), st.floats(NOW - 1000.0, NOW + 1000.0))
names = st.uuids().map(str)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Anything that may stand in a ledger."""
    reserved = draw(st.lists(st.floats(NOW - 100, NOW), max_size=14))
    places = [Place(at, draw(st.one_of(st.none(), st.floats(at, NOW)))) for at in reserved]
    running = draw(
        st.lists(st.builds(Running, names, near, st.one_of(st.none(), near)), max_size=6)
    )
    fetching = draw(st.lists(st.builds(Fetching, names, near), max_size=6))
    return View(
        now=NOW,
        account=Account(
            "main",
            opens=draw(near),
            submits=draw(near),
            doubt=draw(st.sampled_from([None, None, "why"])),
            doubt_since=draw(near),
            paused=draw(st.sampled_from([False, False, True])),
        ),
        places=places,
        slots_taken=draw(st.integers(0, 7)),
        slot_returns=draw(st.one_of(st.just(math.inf), near)),
        running=running,
        fetching=fetching,
        to_fetch=len(fetching) + draw(st.integers(0, 5)),
        head=draw(st.sampled_from([None, "head"])),
        head_due=draw(st.one_of(st.just(math.inf), near)),
        probed=draw(st.one_of(st.just(-math.inf), near)),
        room=draw(st.booleans()),
        looking=draw(st.booleans()),
    )


rules = st.builds(
    Rules,
    st.builds(
        WindowRule,
        requests=st.integers(1, 12),
        period=st.sampled_from([1.0, 60.0]),
        guard=st.sampled_from([0.0, 1.0]),
        spacing=st.sampled_from([0.0, 2.0]),
    ),
    st.just(RULES.polling),
    concurrent=st.integers(1, 6),
)


def may_be_sent(send: Send, view: View, rules: Rules) -> bool:
    """Whether DESIGN.md lets this call go out now: its limits said one by one, without an order."""
    account = view.account
    if account.opens > view.now or opens_at(rules.window, view.places, view.now) > view.now:
        return False
    if send.kind is Kind.DOWNLOAD:
        return any(v.job_id == send.job_id and v.retry <= view.now for v in view.fetching)
    if send.kind is Kind.SUBMIT:
        return (
            send.job_id == view.head is not None
            and view.slots_taken < rules.concurrent
            and view.to_fetch <= rules.concurrent
            and view.room
            and account.doubt is None
            and not account.paused
            and account.submits <= view.now
        )
    if send.job_id is None:
        looked = all((task.polled or 0) > account.doubt_since for task in view.running)
        often = view.running and view.probed + rules.polling.interval > view.now
        wanted = account.doubt is not None and not account.paused and not view.looking
        return wanted and looked and not often and account.submits <= view.now
    return any(
        task.job_id == send.job_id
        and when_to_poll(task.submitted, task.polled, rules.polling) <= view.now
        for task in view.running
    )


def all_calls(view: View) -> list[Send]:
    """Every call that could be thought of."""
    return [
        *(Send(Kind.DOWNLOAD, video.job_id) for video in view.fetching),
        Send(Kind.SUBMIT, view.head),
        *(Send(Kind.POLL, task.job_id) for task in view.running),
        Send(Kind.POLL, None),
    ]


@given(view=views(), rules=rules)
def test_nothing_is_sent_that_a_limit_forbids(view: View, rules: Rules) -> None:
    decision = next_call(view, rules)
    if isinstance(decision, Send):
        assert may_be_sent(decision, view, rules)


@given(view=views(), rules=rules)
def test_whenever_a_call_may_be_sent_one_is(view: View, rules: Rules) -> None:
    allowed = [send for send in all_calls(view) if may_be_sent(send, view, rules)]
    assert isinstance(next_call(view, rules), Send) == bool(allowed)


@given(view=views(), rules=rules)
def test_downloads_go_before_submits_and_submits_before_polls(view: View, rules: Rules) -> None:
    allowed = [send.kind for send in all_calls(view) if may_be_sent(send, view, rules)]
    decision = next_call(view, rules)
    if isinstance(decision, Send):
        order = [Kind.DOWNLOAD, Kind.SUBMIT, Kind.POLL]
        assert decision.kind is min(allowed, key=order.index)


@given(view=views(), rules=rules)
def test_a_wait_always_ends_later_than_now(view: View, rules: Rules) -> None:
    """Or the loop would spin."""
    decision = next_call(view, rules)
    if isinstance(decision, Wait):
        assert decision.until > view.now


@given(view=views(), rules=rules, share=st.floats(0.0, 1.0, exclude_max=True))
def test_a_wait_never_oversleeps(view: View, rules: Rules, share: float) -> None:
    """As long as nothing changes, nothing could be sent before it ends."""
    decision = next_call(view, rules)
    if isinstance(decision, Wait):
        until = min(decision.until, view.now + 5000)
        between = replace(view, now=view.now + share * (until - view.now))
        assert between.now >= until or isinstance(next_call(between, rules), Wait)


@given(view=views(), rules=rules)
def test_a_wait_ends_in_a_call_or_in_a_slot_set_free(view: View, rules: Rules) -> None:
    """Or in a look at the disk, which may have room by then."""
    decision = next_call(view, rules)
    if isinstance(decision, Wait) and math.isfinite(decision.until):
        then = replace(view, now=decision.until)
        sent = (next_call(replace(then, room=room), rules) for room in {view.room, True})
        returns = decision.until in (view.slot_returns, view.head_due)
        assert returns or any(isinstance(each, Send) for each in sent)


def test_with_nothing_to_do_it_waits_for_a_change() -> None:
    assert next_call(IDLE, RULES) == Wait(math.inf)


def test_the_head_of_the_queue_is_submitted() -> None:
    assert next_call(replace(IDLE, head="a"), RULES) == Send(Kind.SUBMIT, "a")


def test_a_full_window_holds_every_kind_of_call() -> None:
    busy = replace(
        IDLE,
        places=FULL,
        head="a",
        running=[Running("b", NOW - 500, None)],
        fetching=[Fetching("c", 0.0)],
        to_fetch=1,
    )
    assert next_call(busy, RULES) == Wait(NOW - 10 + 61)
    assert isinstance(next_call(replace(busy, places=FULL[1:]), RULES), Send)


@pytest.mark.parametrize(
    "held",
    [
        {"slots_taken": 5},
        {"slots_taken": 6},
        {"slots_taken": 5, "room": False},
        {"account": Account("main", paused=True), "room": False},
        {"to_fetch": 6},
        {"account": Account("main", doubt="why"), "looking": True},
        {"account": Account("main", paused=True)},
        {"account": Account("main", paused=True, doubt="why")},
    ],
    ids=[
        "slots",
        "more than the slots",
        "slots and disk",
        "paused and disk",
        "too many to fetch",
        "doubt",
        "paused",
        "paused and doubt",
    ],
)
def test_no_submit(held: dict[str, object]) -> None:
    assert next_call(replace(IDLE, head="a", **held), RULES) == Wait(math.inf)


def test_submits_go_on_with_as_many_to_fetch_as_there_are_slots() -> None:
    assert next_call(replace(IDLE, head="a", to_fetch=5), RULES) == Send(Kind.SUBMIT, "a")


def test_a_submit_held_for_room_alone_looks_at_the_disk_again_soon() -> None:
    """Nobody tells when a disk has room again; where nothing waits for it nobody looks."""
    held = replace(IDLE, head="a", room=False)
    assert next_call(held, RULES) == Wait(NOW + LOOK_FOR_ROOM)
    assert LOOK_FOR_ROOM <= 60
    assert next_call(replace(held, head=None), RULES) == Wait(math.inf)
    closed = replace(held, account=Account("main", submits=NOW + 300))
    assert next_call(closed, RULES) == Wait(NOW + 300)
    running = [Running("b", NOW - 500, NOW - 10)]
    assert next_call(replace(held, running=running), RULES) == Wait(NOW + 20)


def test_it_wakes_when_a_slot_of_unknown_fate_returns() -> None:
    held = replace(IDLE, head="a", slots_taken=5, slot_returns=NOW + 77)
    assert next_call(held, RULES) == Wait(NOW + 77)


def test_the_account_opens_no_earlier_than_it_may() -> None:
    closed = replace(IDLE, head="a", account=Account("main", opens=NOW + 33))
    assert next_call(closed, RULES) == Wait(NOW + 33)


def test_submits_may_be_held_alone() -> None:
    held = replace(IDLE, head="a", account=Account("main", submits=NOW + 33))
    assert next_call(held, RULES) == Wait(NOW + 33)
    running = replace(held, running=[Running("b", NOW - 500, None)])
    assert next_call(running, RULES) == Send(Kind.POLL, "b")


def test_in_doubt_a_running_video_is_asked_about_and_nothing_else() -> None:
    doubt = replace(IDLE, head="a", account=Account("main", doubt="why", doubt_since=NOW - 5))
    running = replace(doubt, running=[Running("b", NOW - 500, NOW - 10)])
    assert next_call(running, RULES) == Wait(NOW + 20)


def test_a_running_video_that_can_clear_no_doubt_does_not_hold_submits_back_for_ever() -> None:
    """As a task of another key, which stays denied for ever."""
    doubt = replace(IDLE, head="a", account=Account("main", doubt="why", doubt_since=NOW - 100))
    looked, other = Running("b", NOW - 500, NOW - 10), Running("c", NOW - 500, NOW - 105)
    assert next_call(replace(doubt, running=[looked]), RULES) == Send(Kind.POLL, None)
    assert next_call(replace(doubt, running=[looked, other]), RULES) == Send(Kind.POLL, "c")
    probed = replace(doubt, running=[looked], probed=NOW - 15)
    assert next_call(probed, RULES) == Wait(NOW + 15)  # no more often than any other poll
    paused = replace(doubt, running=[looked], account=replace(doubt.account, paused=True))
    assert next_call(paused, RULES) == Wait(NOW + 20)  # the poll of "b"


def test_the_probe_and_the_running_videos_take_turns() -> None:
    """Each may be denied and close the account: none must be asked about alone for ever."""
    doubt = Account("main", doubt="why", doubt_since=NOW - 900)
    running = [Running("b", NOW - 800, NOW - 300)]
    view = replace(IDLE, head="a", account=doubt, running=running)
    assert next_call(replace(view, probed=NOW - 310), RULES) == Send(Kind.POLL, None)
    assert next_call(replace(view, probed=NOW - 290), RULES) == Send(Kind.POLL, "b")


def test_a_paused_account_polls_and_fetches_what_is_paid_for() -> None:
    paused = replace(IDLE, head="a", account=Account("main", paused=True))
    running = replace(paused, running=[Running("b", NOW - 500, None)])
    assert next_call(running, RULES) == Send(Kind.POLL, "b")
    fetching = replace(paused, fetching=[Fetching("c", 0.0)], to_fetch=1)
    assert next_call(fetching, RULES) == Send(Kind.DOWNLOAD, "c")


def test_it_wakes_when_a_job_that_came_back_is_due() -> None:
    assert next_call(replace(IDLE, head_due=NOW + 30), RULES) == Wait(NOW + 30)
    assert next_call(replace(IDLE, head_due=NOW - 30), RULES) == Wait(math.inf)  # no spinning


def test_in_doubt_with_nothing_running_any_id_is_asked_about() -> None:
    doubt = replace(IDLE, account=Account("main", doubt="why"))
    assert next_call(doubt, RULES) == Send(Kind.POLL, None)
    assert next_call(replace(doubt, looking=True), RULES) == Wait(math.inf)
    assert next_call(IDLE, RULES) == Wait(math.inf)  # and without doubt, none is


def test_whoever_has_waited_longest_goes_first_among_its_kind() -> None:
    videos = [Fetching("late", NOW - 1), Fetching("early", NOW - 5)]
    assert next_call(replace(IDLE, fetching=videos), RULES) == Send(Kind.DOWNLOAD, "early")
    tasks = [Running("late", NOW - 900, NOW - 61), Running("early", NOW - 900, NOW - 70)]
    assert next_call(replace(IDLE, running=tasks), RULES) == Send(Kind.POLL, "early")


def test_a_call_that_upstream_does_not_count_needs_no_place() -> None:
    full = replace(IDLE, places=FULL, fetching=[Fetching("done", NOW)], to_fetch=1)
    assert next_call(full, RULES) == Wait(NOW + 51)
    uncounted = replace(RULES, counts=frozenset({Kind.SUBMIT, Kind.POLL}))
    assert next_call(full, uncounted) == Send(Kind.DOWNLOAD, "done")
    closed = replace(full, account=Account("main", opens=NOW + 5))
    assert next_call(closed, uncounted) == Wait(NOW + 5)  # it still waits for its account


def test_one_submit_at_a_time() -> None:
    waiting = replace(IDLE, head="next")
    assert next_call(waiting, RULES) == Send(Kind.SUBMIT, "next")
    assert isinstance(next_call(replace(waiting, submitting=True), RULES), Wait)
