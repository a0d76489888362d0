"""What an account's loop does next, held against what the limits and the order promise."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job import Account, Kind, Look
from gateway.policy.dispatch import (
    LOOK_FOR_ROOM,
    Fetching,
    Rules,
    Running,
    Send,
    View,
    Wait,
    next_call,
    worth,
)
from gateway.policy.polling import BLIND_PRICE, PRICE, may_poll, when_to_poll
from gateway.policy.window import Place, WindowRule, opens_at

from .videos import habits, looked
from .views import BLIND, HABIT, IDLE, NOW, RULES

FULL = tuple(Place(NOW - 10, NOW - 10 + number) for number in range(10))
"""Ten calls within the last seconds: the window opens at NOW + 51."""


def task(
    name: str, age: float, polled: float | None = None, told: int | None = None, **over: object
) -> Running:
    """A video `age` seconds old, polled `polled` seconds ago, when it was told so much."""
    looks = () if polled is None else (Look(age - polled, told),)
    at = None if polled is None else NOW - polled
    return replace(Running(name, NOW - age, at, looks, HABIT), **over)  # type: ignore[arg-type]


near = st.one_of(st.just(NOW), st.floats(NOW - 1000.0, NOW + 1000.0))
names = st.uuids().map(str)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Anything that may stand in a ledger."""
    reserved = draw(st.lists(st.floats(NOW - 100, NOW), max_size=14))
    places = [Place(at, draw(st.one_of(st.none(), st.floats(at, NOW)))) for at in reserved]
    tasks = st.builds(Running, names, near, st.one_of(st.none(), near), looked, habits)
    running = draw(st.lists(tasks, max_size=6))
    fetching = draw(st.lists(st.builds(Fetching, names, near, near, near), max_size=6))
    return View(
        now=NOW,
        account=Account(
            "main",
            opens=draw(near),
            submits=draw(near),
            doubt=draw(st.sampled_from([None, None, "why"])),
            doubt_since=draw(near),
            trouble=draw(st.sampled_from([None, None, "words"])),
            paused=draw(st.sampled_from([False, False, True])),
        ),
        places=places,
        slots_taken=draw(st.integers(0, 7)),
        slot_returns=draw(st.one_of(st.just(math.inf), near)),
        running=running,
        fetching=fetching,
        to_fetch=len(fetching) + draw(st.integers(0, 5)),
        head=draw(st.sampled_from([None, "head"])),
        probed=draw(st.one_of(st.just(-math.inf), near)),
        room=draw(st.booleans()),
        looking=draw(st.booleans()),
        submitting=draw(st.booleans()),
        polling=draw(st.lists(tasks, max_size=2)),
        latency=draw(st.sampled_from([0.0, 0.8, 5.0])),
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
    counts=st.sampled_from([frozenset(Kind), frozenset({Kind.SUBMIT, Kind.POLL})]),
)


def may_be_sent(send: Send, view: View, rules: Rules) -> bool:
    """Whether the limits let this call go out now: said one by one, without an order."""
    account = view.account
    window_opens = opens_at(rules.window, view.places, view.now)
    if account.opens > view.now or (send.kind in rules.counts and window_opens > view.now):
        return False
    if send.kind is Kind.DOWNLOAD:
        return any(v.job_id == send.job_id and v.retry <= view.now for v in view.fetching)
    if send.kind is Kind.SUBMIT:
        return (
            send.job_id == view.head is not None
            and not view.submitting
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
        task.job_id == send.job_id and may_poll(task, rules.polling) <= view.now
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
def test_a_slot_that_may_be_filled_is_filled_first(view: View, rules: Rules) -> None:
    """Unless a download is late, and it is its turn."""
    submit = Send(Kind.SUBMIT, view.head)
    late = any(
        video.is_late(view.now, rules) and video.retry <= view.now
        for video in view.fetching
        if not (video.has_failed and view.fetched_in_vain)
    )
    if may_be_sent(submit, view, rules) and not late:
        assert next_call(view, rules) == submit


@pytest.mark.parametrize(
    "video",
    [
        Fetching("a", NOW - 1, NOW - 5, NOW - 9),
        Fetching("a", 0.0, NOW - 120, NOW - 150),
        Fetching("a", 0.0, NOW - 1, NOW - 600),
    ],
    ids=["failed", "old", "unseen"],
)
def test_a_late_download_goes_before_a_submit(video: Fetching) -> None:
    fresh = Fetching("b", 0.0, NOW - 119, NOW - 599)
    view = replace(IDLE, head="head", fetching=[fresh, video], to_fetch=2)
    assert next_call(view, RULES) == Send(Kind.DOWNLOAD, "a")
    only = replace(view, fetching=[fresh], to_fetch=1)
    assert next_call(only, RULES) == Send(Kind.SUBMIT, "head")


@given(view=views(), rules=rules)
def test_after_one_that_failed_downloads_that_failed_leave_their_place_to_all_others(
    view: View, rules: Rules
) -> None:
    view = replace(view, fetched_in_vain=True)
    failed = [video for video in view.fetching if video.has_failed]
    others = [video for video in view.fetching if not video.has_failed]
    decision = next_call(replace(view, fetching=others), rules)
    if isinstance(decision, Send):
        assert next_call(view, rules) == decision
    elif any(may_be_sent(Send(Kind.DOWNLOAD, each.job_id), view, rules) for each in failed):
        decision = next_call(view, rules)
        assert isinstance(decision, Send)
        assert decision.kind is Kind.DOWNLOAD


@given(view=views(), rules=rules)
def test_a_download_goes_before_any_poll_once_it_is_late_or_was_held_for_a_period(
    view: View, rules: Rules
) -> None:
    allowed = [
        video
        for video in view.fetching
        if may_be_sent(Send(Kind.DOWNLOAD, video.job_id), view, rules)
        and not (video.has_failed and view.fetched_in_vain)
    ]
    decision = next_call(view, rules)
    waited = [
        video
        for video in allowed
        if video.is_late(view.now, rules) or video.finished + rules.window.period <= view.now
    ]
    if waited and not may_be_sent(Send(Kind.SUBMIT, view.head), view, rules):
        assert isinstance(decision, Send)
        assert decision.kind is Kind.DOWNLOAD
    if allowed and isinstance(decision, Wait):
        last = min(video.finished for video in allowed) + rules.window.period
        assert decision.until <= max(last, view.now)


@given(view=views(), rules=rules)
def test_in_doubt_or_trouble_whatever_may_be_sent_is_sent_and_in_turn(
    view: View, rules: Rules
) -> None:
    """While in doubt a video is asked about as soon as it may."""
    account = replace(view.account, doubt="why", trouble="words")
    view = replace(view, account=account, fetching=[])
    allowed = [each for each in all_calls(view) if may_be_sent(each, view, rules)]
    decision = next_call(view, rules)
    assert isinstance(decision, Send) == bool(allowed)
    due = [video for video in view.running if may_poll(video, rules.polling) <= view.now]
    if due and allowed:
        first = min(due, key=lambda video: may_poll(video, rules.polling))
        assert decision == Send(Kind.POLL, first.job_id)


@given(view=views(), rules=rules)
def test_a_poll_waits_no_longer_than_it_takes_to_pay(view: View, rules: Rules) -> None:
    """However crowded it is: what will surely be finished is polled, if it may be."""
    view = replace(view, fetching=[], head=None)
    decision = next_call(view, rules)
    done = [
        video
        for video in view.running
        if when_to_poll(video, rules.polling, view.latency) <= view.now
        and video.belief(view.latency).chance(view.now - video.submitted) > 0.6
        and may_be_sent(Send(Kind.POLL, video.job_id), view, rules)
    ]
    if done:
        assert isinstance(decision, Send)
        assert decision.kind is Kind.POLL


@given(view=views(), rules=rules)
def test_a_wait_always_ends_later_than_now(view: View, rules: Rules) -> None:
    """Or the loop would spin."""
    decision = next_call(view, rules)
    if isinstance(decision, Wait):
        assert decision.until > view.now


@given(view=views(), rules=rules)
def test_waits_end_in_a_call_or_in_a_slot_set_free(view: View, rules: Rules) -> None:
    """Or in a look at the disk, which may have room by then. One wait may follow another: a place
    that was kept may be needed still.
    """
    for _ in range(200):
        decision = next_call(view, rules)
        if isinstance(decision, Send) or decision.until == math.inf:
            break
        if decision.until == view.slot_returns:
            break
        view = replace(view, now=decision.until, room=True)
    else:
        raise AssertionError(view)
    if isinstance(decision, Wait) and decision.until == math.inf:
        assert not view.running or opens_at(rules.window, view.places, view.now) == math.inf
        assert not view.fetching or opens_at(rules.window, view.places, view.now) == math.inf


def test_with_nothing_to_do_it_waits_for_a_change() -> None:
    assert next_call(IDLE, RULES) == Wait(math.inf)


def test_the_head_of_the_queue_is_submitted() -> None:
    assert next_call(replace(IDLE, head="a"), RULES) == Send(Kind.SUBMIT, "a")


def test_a_full_window_holds_every_kind_of_call() -> None:
    busy = replace(
        IDLE,
        places=FULL,
        head="a",
        running=[task("b", 500)],
        fetching=[Fetching("c", 0.0, 0.0, 0.0)],
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
    video = task("b", 240, 10, 95)
    poll = when_to_poll(video, RULES.polling, 0.0)
    assert NOW < poll < NOW + LOOK_FOR_ROOM
    assert next_call(replace(held, running=[video]), RULES) == Wait(poll)


def test_it_wakes_when_a_slot_of_unknown_fate_returns() -> None:
    held = replace(IDLE, head="a", slots_taken=5, slot_returns=NOW + 77)
    assert next_call(held, RULES) == Wait(NOW + 77)


def test_the_account_opens_no_earlier_than_it_may() -> None:
    closed = replace(IDLE, head="a", account=Account("main", opens=NOW + 33))
    assert next_call(closed, RULES) == Wait(NOW + 33)


def test_submits_may_be_held_alone() -> None:
    held = replace(IDLE, head="a", account=Account("main", submits=NOW + 33))
    assert next_call(held, RULES) == Wait(NOW + 33)
    running = replace(held, running=[task("b", 500)])
    assert next_call(running, RULES) == Send(Kind.POLL, "b")


def test_in_doubt_a_running_video_is_asked_about_and_nothing_else() -> None:
    doubt = replace(IDLE, head="a", account=Account("main", doubt="why", doubt_since=NOW - 5))
    running = replace(doubt, running=[task("b", 500, 10)])
    assert next_call(running, RULES) == Wait(NOW + 20)


def test_a_running_video_that_can_clear_no_doubt_does_not_hold_submits_back_for_ever() -> None:
    """As a task of another key, which stays denied for ever."""
    doubt = replace(IDLE, head="a", account=Account("main", doubt="why", doubt_since=NOW - 100))
    looked, other = task("b", 500, 10), task("c", 500, 105)
    assert next_call(replace(doubt, running=[looked]), RULES) == Send(Kind.POLL, None)
    assert next_call(replace(doubt, running=[looked, other]), RULES) == Send(Kind.POLL, "c")
    probed = replace(doubt, running=[looked], probed=NOW - 15)
    assert next_call(probed, RULES) == Wait(NOW + 15)  # no more often than any other poll
    paused = replace(doubt, running=[looked], account=replace(doubt.account, paused=True))
    assert next_call(paused, RULES) == Wait(NOW + 20)  # the poll of "b"


def test_the_probe_and_the_running_videos_take_turns() -> None:
    """Each may be denied and close the account: none must be asked about alone for ever."""
    doubt = Account("main", doubt="why", doubt_since=NOW - 900)
    running = [task("b", 800, 300)]
    view = replace(IDLE, head="a", account=doubt, running=running)
    assert next_call(replace(view, probed=NOW - 310), RULES) == Send(Kind.POLL, None)
    assert next_call(replace(view, probed=NOW - 290), RULES) == Send(Kind.POLL, "b")


def test_a_paused_account_polls_and_fetches_what_is_paid_for() -> None:
    paused = replace(IDLE, head="a", account=Account("main", paused=True))
    running = replace(paused, running=[task("b", 500)])
    assert next_call(running, RULES) == Send(Kind.POLL, "b")
    fetching = replace(paused, fetching=[Fetching("c", 0.0, 0.0, 0.0)], to_fetch=1)
    assert next_call(fetching, RULES) == Send(Kind.DOWNLOAD, "c")


def test_in_doubt_with_nothing_running_any_id_is_asked_about() -> None:
    doubt = replace(IDLE, account=Account("main", doubt="why"))
    assert next_call(doubt, RULES) == Send(Kind.POLL, None)
    assert next_call(replace(doubt, looking=True), RULES) == Wait(math.inf)
    assert next_call(IDLE, RULES) == Wait(math.inf)  # and without doubt, none is


def test_downloads_go_in_the_order_in_which_they_may() -> None:
    videos = [
        Fetching("late", NOW - 1, NOW - 9, NOW - 9),
        Fetching("early", NOW - 5, NOW - 9, NOW - 9),
    ]
    assert next_call(replace(IDLE, fetching=videos), RULES) == Send(Kind.DOWNLOAD, "early")


def test_the_likeliest_to_be_finished_is_polled_first() -> None:
    tasks = [task("less", 250, 60, 76), task("more", 250, 90, 66)]
    assert next_call(replace(IDLE, running=tasks), RULES) == Send(Kind.POLL, "more")


@pytest.mark.parametrize("state", [{"trouble": "words"}, {"doubt": "why"}])
def test_in_trouble_polls_take_turns(state: dict[str, str]) -> None:
    """Each may close the account, and the likeliest would be asked about alone for ever."""
    tasks = [task("likely", 300, 61, 99), task("early", 300, 170, 43)]
    account = Account("main", **state)  # type: ignore[arg-type]
    view = replace(IDLE, running=tasks, account=account, probed=NOW)
    assert next_call(view, RULES) == Send(Kind.POLL, "early")
    assert next_call(replace(view, account=IDLE.account), RULES) == Send(Kind.POLL, "likely")


def test_in_trouble_submits_take_turns_with_polls() -> None:
    """What is refused again and again must not keep polls away: finished videos expire."""

    def decided(polled_ago: float, **state: float) -> Send | Wait:
        account = Account("main", trouble="words", **state)  # type: ignore[arg-type]
        tasks = [task("a", 300, polled_ago, 43)]
        view = replace(IDLE, running=tasks, slots_taken=1, head="next", account=account)
        return next_call(view, RULES)

    poll, submit = Send(Kind.POLL, "a"), Send(Kind.SUBMIT, "next")
    assert decided(90, opens=NOW - 1) == poll
    assert decided(5, opens=NOW - 1) == submit  # the poll has had its turn
    assert decided(35, submits=NOW - 50) == submit  # this one's turn came before that of the poll
    assert decided(90, submits=NOW - 50) == poll


def test_in_doubt_a_running_video_is_polled_as_soon_as_it_may() -> None:
    young = replace(IDLE, running=[task("a", 35, 30)])
    assert isinstance(next_call(young, RULES), Wait)
    doubt = replace(young, account=Account("main", doubt="why", doubt_since=NOW - 5))
    assert next_call(doubt, RULES) == Send(Kind.POLL, "a")


def places(taken: int, back: float = 40.0) -> tuple[Place, ...]:
    """So many taken places, which all return in `back` seconds."""
    ended = NOW + back - RULES.window.period - RULES.window.guard
    return tuple(Place(ended - 1, ended) for _ in range(taken))


ENDING = task("ending", 245, 80, 68)
"""About to be finished: 68 or 69 % at 165 s means 236 to 242 s of 245."""

SOON = replace(ENDING, submitted=NOW - 235, looks=(Look(155.0, 65),))
"""In 4 s it will be: 65 % at 155 s means 235 to 238 s of 235."""


def test_a_place_is_kept_for_a_video_about_to_be_finished() -> None:
    """And one for the submit into its slot; a second look at another's progress falls away."""
    looking = task("young", 208, 128, 33)
    view = replace(
        IDLE, running=[looking, SOON], head="next", slots_taken=5, places=places(8), latency=0.0
    )
    assert when_to_poll(looking, RULES.polling, 0.0) <= NOW
    decision = next_call(view, RULES)
    assert isinstance(decision, Wait)
    assert next_call(replace(view, places=places(7)), RULES) == Send(Kind.POLL, "young")
    assert next_call(replace(view, running=[looking]), RULES) == Send(Kind.POLL, "young")


def test_a_look_goes_when_it_is_worth_more_than_others_wait_for_it() -> None:
    """They wait for the place that it takes until the next one comes back."""
    view = replace(IDLE, running=[task("first", 150), SOON], head="next", slots_taken=5)
    for back in (6, 8, 10):
        assert next_call(replace(view, places=places(8, back)), RULES) == Send(Kind.POLL, "first")
    for back in (20, 30, 40):
        assert isinstance(next_call(replace(view, places=places(8, back)), RULES), Wait)
    uncounted = replace(RULES, counts=frozenset({Kind.SUBMIT, Kind.DOWNLOAD}))
    assert next_call(replace(view, places=places(9)), uncounted) == Send(Kind.POLL, "first")


def test_a_look_that_missed_its_moment_does_not_go_right_before_the_end() -> None:
    """16 % at 40 s means 235 to 250 s: a look at 219 s would find the end at 249 s at best."""
    late = task("late", 219, 179, 16, habit=replace(HABIT, spread=0.4))
    assert when_to_poll(late, RULES.polling, 0.0) < NOW - 10
    decision = next_call(replace(IDLE, running=[late]), RULES)
    assert isinstance(decision, Wait)
    assert NOW + 25 < decision.until < NOW + 35


def test_a_look_that_missed_its_moment_goes_at_once_while_there_are_places() -> None:
    """A price for what is scarce would put it off, by 42 s."""
    late = replace(IDLE, running=[task("a", 205, habit=BLIND)], latency=0.0)
    assert next_call(late, RULES) == Send(Kind.POLL, "a")


LOOKING = task("blind", 240, 31, habit=BLIND)
"""Two of five looks at it find it finished; in 26 s seven of ten will."""


def test_where_nothing_is_told_a_poll_waits_until_its_submit_can_follow_at_once() -> None:
    """What it would find could be refilled no earlier; the later it goes, the more it finds."""
    view = replace(IDLE, running=[LOOKING], head="next", slots_taken=5)
    for taken in (0, 8):
        assert next_call(replace(view, places=places(taken)), RULES) == Send(Kind.POLL, "blind")
    assert next_call(replace(view, places=places(9, 7)), RULES) == Wait(NOW + 7)
    first = task("first", 192, habit=BLIND)  # one in fifteen finds it finished
    early = replace(view, running=[first], places=places(9, 7))
    assert next_call(early, RULES) == Send(Kind.POLL, "first")
    slow = task("told", 244, 31, 73, habit=replace(HABIT, mean=math.log(60.0), spread=0.3))
    told = replace(view, running=[slow], places=places(9, 7))  # about as likely to be finished
    assert next_call(told, RULES) == Send(Kind.POLL, "told")
    for over in ({"head": None}, {"account": Account("main", submits=NOW + 300)}):
        alone = replace(view, places=places(9, 7), **over)  # type: ignore[arg-type]
        assert next_call(alone, RULES) == Send(Kind.POLL, "blind")


def test_it_leaves_places_to_submits_that_are_due_before_its_own() -> None:
    """Into a free slot, while another submit is under way; into that of a poll under way."""
    other = replace(LOOKING, job_id="other", submitted=NOW - 240)
    view = replace(IDLE, running=[LOOKING], head="next", slots_taken=5)
    for over in ({"slots_taken": 4, "submitting": True}, {"polling": [other]}):
        busy = replace(view, **over)  # type: ignore[arg-type]
        assert next_call(replace(busy, places=places(7)), RULES) == Send(Kind.POLL, "blind")
        assert next_call(replace(busy, places=places(8, 7)), RULES) == Wait(NOW + 7)


def test_a_poll_of_what_should_be_finished_takes_the_last_place() -> None:
    """Where the window binds, a place that stays free is lost. It wakes when that is so."""
    view = replace(IDLE, head="next", slots_taken=5, places=places(9, 55), latency=0.0)
    decision = next_call(replace(view, running=[LOOKING]), RULES)
    assert isinstance(decision, Wait)
    assert NOW + 25 < decision.until < NOW + 27
    then = replace(view, running=[LOOKING], now=decision.until)
    assert next_call(then, RULES) == Send(Kind.POLL, "blind")
    assert next_call(replace(view, running=[ENDING]), RULES) == Send(Kind.POLL, "ending")


def test_where_polls_need_no_place_one_is_kept_for_the_submit_all_the_same() -> None:
    uncounted = replace(RULES, counts=frozenset({Kind.SUBMIT, Kind.DOWNLOAD}))
    view = replace(IDLE, running=[LOOKING], head="next", slots_taken=5)
    assert next_call(replace(view, places=places(9)), uncounted) == Send(Kind.POLL, "blind")
    assert next_call(replace(view, places=places(10, 7)), uncounted) == Wait(NOW + 7)
    free = replace(RULES, counts=frozenset({Kind.POLL, Kind.DOWNLOAD}))
    assert next_call(replace(view, places=places(9)), free) == Send(Kind.POLL, "blind")


def test_a_download_leaves_a_place_to_the_submit_after_a_poll_that_is_told_nothing() -> None:
    fetching = [Fetching("done", NOW - 5, NOW - 5, NOW - 50)]
    soon = replace(LOOKING, submitted=NOW - 235, polled=NOW - 26)
    view = replace(IDLE, running=[soon], fetching=fetching, to_fetch=1, head="next", slots_taken=5)
    assert next_call(replace(view, places=places(7)), RULES) == Send(Kind.DOWNLOAD, "done")
    assert isinstance(next_call(replace(view, places=places(8)), RULES), Wait)


@pytest.mark.parametrize(
    "held",
    [
        {"to_fetch": 6},
        {"to_fetch": 1, "room": False},
        {"to_fetch": 1, "account": Account("main", submits=NOW + 300)},
    ],
    ids=["many to fetch", "no room", "submits denied"],
)
def test_no_place_is_kept_for_a_submit_that_may_not_go(held: dict[str, object]) -> None:
    """Or downloads would wait for submits, and submits for downloads."""
    fetching = [Fetching("done", NOW, NOW, NOW - 30)]
    view = replace(IDLE, head="next", fetching=fetching, places=places(9), **held)  # type: ignore[arg-type]
    assert next_call(view, RULES) == Send(Kind.DOWNLOAD, "done")


def test_a_download_leaves_its_place_to_calls_that_cannot_wait_for_a_period_at_most() -> None:
    fetching = [Fetching("done", NOW - 5, NOW - 5, NOW - 50)]
    view = replace(IDLE, running=[SOON], fetching=fetching, to_fetch=1, head="next", slots_taken=5)
    full = replace(view, places=places(8))
    assert isinstance(next_call(full, RULES), Wait)
    assert next_call(replace(view, places=places(7)), RULES) == Send(Kind.DOWNLOAD, "done")
    longer = replace(full, fetching=[Fetching("done", NOW - 60, NOW - 60, NOW - 90)])
    assert next_call(longer, RULES) == Send(Kind.DOWNLOAD, "done")
    failed = replace(full, fetching=[Fetching("done", NOW - 1, NOW - 5, NOW - 50)])
    assert next_call(failed, RULES) == Send(Kind.DOWNLOAD, "done")


def test_a_download_goes_while_others_wait_no_longer_than_a_place_is_worth() -> None:
    """1.6 s where the videos need half of the window, and 10.3 s where they need all of it."""
    fetching = [Fetching("done", NOW - 5, NOW - 5, NOW - 50)]
    view = replace(IDLE, running=[SOON], fetching=fetching, to_fetch=1, head="next")
    for slots, back, goes in ((5, 5, True), (5, 6, False), (10, 13, True), (10, 14, False)):
        rules = replace(RULES, concurrent=slots)
        decision = next_call(replace(view, slots_taken=slots, places=places(8, back)), rules)
        assert (decision == Send(Kind.DOWNLOAD, "done")) == goes


@pytest.mark.parametrize(
    ("video", "slots", "least"), [(task("a", 149), 20, 75), (task("a", 160, 140, 10), 8, 35)]
)
def test_a_look_comes_later_where_the_videos_need_all_of_the_window(
    video: Running, slots: int, least: float
) -> None:
    """One whose moment is now; and one that missed it."""
    view = replace(IDLE, running=[video], head="next", slots_taken=slots)
    assert next_call(view, RULES) == Send(Kind.POLL, "a")
    decision = next_call(view, replace(RULES, concurrent=slots))
    assert isinstance(decision, Wait)
    assert decision.until > NOW + least


def test_a_download_that_submits_wait_for_leaves_its_place_to_nobody() -> None:
    running = [replace(SOON, job_id=name) for name in "abc"]
    fetching = [Fetching("done", NOW - 5, NOW - 5, NOW - 50)]
    view = replace(
        IDLE, running=running, fetching=fetching, head="next", slots_taken=5, places=places(8)
    )
    assert isinstance(next_call(replace(view, to_fetch=5), RULES), Wait)
    assert next_call(replace(view, to_fetch=6), RULES) == Send(Kind.DOWNLOAD, "done")


def test_a_place_is_worth_more_the_fuller_the_videos_will_keep_the_window() -> None:
    def at(seconds: float, rules: Rules = RULES, **over: object) -> float:
        habit = replace(HABIT, mean=math.log(seconds))
        view = replace(IDLE, running=[task("a", 10, habit=habit)], head="next")
        return worth(replace(view, **over), rules)  # type: ignore[arg-type]

    assert at(240.0) == at(210.0) == PRICE
    assert PRICE < at(190.0) < at(150.0) < at(120.0) < at(70.0) < at(50.0) == at(5.0) < 1.1
    assert at(120.0, head=None) == PRICE  # one video alone
    assert at(120.0, running=(), polling=[task("a", 10, habit=HABIT)]) == PRICE
    assert at(5.0, running=()) == PRICE
    assert at(120.0, latency=5.0) > at(120.0)
    narrow = replace(RULES, window=replace(RULES.window, requests=5))
    assert at(240.0, narrow) == pytest.approx(at(120.0), abs=0.01)
    uncounted = replace(RULES, counts=frozenset({Kind.SUBMIT, Kind.DOWNLOAD}))
    assert at(120.0, uncounted) == PRICE
    some = replace(RULES, counts=frozenset({Kind.SUBMIT, Kind.POLL}))
    assert at(120.0, some) < at(120.0)
    blind = task("b", 10, habit=BLIND)
    assert at(240.0, running=[blind]) == BLIND_PRICE
    assert at(240.0, running=[task("a", 10), blind]) == PRICE


def test_a_window_full_of_calls_under_way_is_waited_for() -> None:
    """When it opens nobody knows."""
    open_calls = [Place(NOW - 1, None)] * 10
    view = replace(IDLE, places=open_calls, running=[task("a", 160), ENDING], slots_taken=5)
    assert next_call(view, RULES) == Wait(math.inf)


def test_more_calls_to_come_than_the_window_has_places() -> None:
    narrow = replace(RULES, window=WindowRule(1, 60.0, 0.0))
    running = [replace(ENDING, job_id=str(number), polled=NOW - 20) for number in range(3)]
    view = replace(IDLE, running=running, fetching=[Fetching("done", NOW, NOW, NOW)], to_fetch=1)
    assert next_call(view, narrow) == Wait(NOW + 10)
    assert next_call(replace(view, now=NOW + 60), narrow) == Send(Kind.DOWNLOAD, "done")


def test_a_call_that_upstream_does_not_count_needs_no_place() -> None:
    full = replace(IDLE, places=FULL, fetching=[Fetching("done", NOW, NOW, NOW)], to_fetch=1)
    assert next_call(full, RULES) == Wait(NOW + 51)
    uncounted = replace(RULES, counts=frozenset({Kind.SUBMIT, Kind.POLL}))
    assert next_call(full, uncounted) == Send(Kind.DOWNLOAD, "done")
    closed = replace(full, account=Account("main", opens=NOW + 5))
    assert next_call(closed, uncounted) == Wait(NOW + 5)  # it still waits for its account


def test_one_submit_at_a_time() -> None:
    waiting = replace(IDLE, head="next")
    assert next_call(waiting, RULES) == Send(Kind.SUBMIT, "next")
    assert isinstance(next_call(replace(waiting, submitting=True), RULES), Wait)
