"""A provider's answers and what they prove, as tables."""

import math
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outcome import Outcome, Verdict
from gateway.upstream.dialects import (
    DIALECTS,
    LONGEST_ID,
    LONGEST_MESSAGE,
    Answer,
    Dialect,
    read_download_refusal,
    read_error,
    read_poll,
    read_probe,
    read_progress,
    read_submit,
)

APIYI = DIALECTS["apiyi"]
READERS = (read_submit, partial(read_poll, dialect=APIYI), read_download_refusal)


def error(message: str = "it went wrong", code: str | None = "a_code") -> dict[str, Any]:
    return {"error": {"message": message, "type": "a_type", "param": None, "code": code}}


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text("aé\0\ud800", max_size=8)
json_values = plain | st.lists(plain, max_size=2)
names = st.sampled_from(["id", "status", "progress", "error", "message", "code", "type"])
bodies = st.none() | st.dictionaries(
    names, json_values | st.dictionaries(names, json_values), max_size=5
)


class TestSubmit:
    @pytest.mark.parametrize("status", [200, 201, 202])
    def test_an_id_is_an_acceptance(self, status: int) -> None:
        answer = Answer(status, {"id": "video_abc123def456", "status": "submitted", "progress": 0})
        assert read_submit(answer) == Outcome(
            Verdict.ACCEPTED, upstream_id="video_abc123def456", in_progress=False, progress=0
        )

    @pytest.mark.parametrize(
        ("status", "begun"),
        [("submitted", False), ("queued", False), ("in_progress", True), ("dreaming", True)],
    )
    def test_it_says_whether_upstream_has_begun(self, status: str, begun: bool) -> None:
        assert read_submit(Answer(200, {"id": "v", "status": status})).in_progress is begun

    @pytest.mark.parametrize(
        "upstream_id",
        [None, "", 7, 0, True, 1.5, ["video_1"], {"id": "video_1"}, "v" * (LONGEST_ID + 1)],
    )
    def test_a_2xx_without_a_usable_id_is_unknown(self, upstream_id: object) -> None:
        outcome = read_submit(Answer(200, {"id": upstream_id, "status": "submitted"}))
        assert outcome.verdict is Verdict.UNKNOWN
        assert outcome.upstream_id is None

    @pytest.mark.parametrize("body", [None, {}, {"status": "submitted"}, error()])
    def test_a_2xx_without_an_id_is_unknown(self, body: dict[str, Any] | None) -> None:
        assert read_submit(Answer(200, body)).verdict is Verdict.UNKNOWN

    def test_the_longest_id_is_taken(self) -> None:
        assert read_submit(Answer(200, {"id": "v" * LONGEST_ID})).verdict is Verdict.ACCEPTED

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [
            (204, Verdict.UNKNOWN),
            (301, Verdict.UNKNOWN),
            (302, Verdict.UNKNOWN),
            (307, Verdict.UNKNOWN),
            (400, Verdict.REJECTED),
            (401, Verdict.DENIED),
            (402, Verdict.DENIED),
            (403, Verdict.DENIED),
            (404, Verdict.DENIED),
            (405, Verdict.DENIED),
            (408, Verdict.UNKNOWN),
            (409, Verdict.REJECTED),
            (413, Verdict.REJECTED),
            (415, Verdict.REJECTED),
            (422, Verdict.REJECTED),
            (429, Verdict.RATE_LIMITED),
            (499, Verdict.UNKNOWN),
            (500, Verdict.UNAVAILABLE),
            (501, Verdict.UNKNOWN),
            (502, Verdict.UNKNOWN),
            (503, Verdict.UNAVAILABLE),
            (504, Verdict.UNKNOWN),
            (520, Verdict.UNKNOWN),
            (522, Verdict.UNKNOWN),
            (524, Verdict.UNKNOWN),
            (529, Verdict.UNKNOWN),
        ],
    )
    def test_every_refusal_with_the_providers_error(self, status: int, verdict: Verdict) -> None:
        assert read_submit(Answer(status, error())).verdict is verdict

    @pytest.mark.parametrize(
        ("status", "verdict"),
        [
            (400, Verdict.REJECTED),
            (401, Verdict.DENIED),
            (403, Verdict.DENIED),
            (408, Verdict.UNKNOWN),
            (413, Verdict.REJECTED),
            (429, Verdict.RATE_LIMITED),
            (500, Verdict.UNKNOWN),
            (502, Verdict.UNKNOWN),
            (503, Verdict.UNKNOWN),
            (504, Verdict.UNKNOWN),
            (521, Verdict.UNKNOWN),
        ],
    )
    @pytest.mark.parametrize("body", [None, {}, {"error": None}, {"error": {"code": "x"}}])
    def test_every_refusal_by_somebody_in_front_of_it(
        self, status: int, verdict: Verdict, body: dict[str, Any] | None
    ) -> None:
        """HTML, an empty body, or JSON that is no error of the provider's."""
        assert read_submit(Answer(status, body)).verdict is verdict

    def test_the_providers_own_words_are_kept(self) -> None:
        outcome = read_submit(Answer(400, error("prompt: refused", "moderation_blocked")))
        assert (outcome.message, outcome.code) == ("prompt: refused", "moderation_blocked")

    @given(st.integers(100, 599), bodies)
    def test_an_acceptance_has_an_id_and_what_stands_in_front_proves_nothing(
        self, status: int, body: dict[str, Any] | None
    ) -> None:
        outcome = read_submit(Answer(status, body))
        assert outcome.touched
        if outcome.verdict is Verdict.ACCEPTED:
            assert status in (200, 201, 202)
            assert outcome.upstream_id
        if status in (502, 504) or status >= 520:
            assert outcome.verdict is Verdict.UNKNOWN


class TestPoll:
    @pytest.mark.parametrize(
        ("status", "verdict", "begun"),
        [
            ("submitted", Verdict.OBSERVED, False),
            ("queued", Verdict.OBSERVED, False),
            ("in_progress", Verdict.OBSERVED, True),
            ("processing", Verdict.OBSERVED, True),
            ("", Verdict.OBSERVED, True),
            ("completed", Verdict.FINISHED, True),
        ],
    )
    def test_every_word_for_a_status(self, status: str, verdict: Verdict, begun: bool) -> None:
        outcome = read_poll(Answer(200, {"status": status, "progress": 40}), APIYI)
        assert (outcome.verdict, outcome.in_progress, outcome.progress) == (verdict, begun, 40)

    @pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
    def test_a_failure_tells_upstreams_words(self, status: str) -> None:
        outcome = read_poll(
            Answer(200, {"status": status, **error("too violent", "policy")}), APIYI
        )
        assert outcome == Outcome(Verdict.FAILED, "too violent", "policy")

    @pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
    def test_a_failure_without_words_tells_the_status(self, status: str) -> None:
        outcome = read_poll(Answer(200, {"status": status, "error": None}), APIYI)
        assert outcome == Outcome(Verdict.FAILED, f"Upstream says: {status}.")

    @pytest.mark.parametrize(
        ("status", "body", "verdict"),
        [
            (200, None, Verdict.UNAVAILABLE),
            (200, {}, Verdict.UNAVAILABLE),
            (200, {"status": None}, Verdict.UNAVAILABLE),
            (200, {"status": 3}, Verdict.UNAVAILABLE),
            (200, {"status": ["completed"]}, Verdict.UNAVAILABLE),
            (200, error(), Verdict.UNAVAILABLE),
            (202, {"status": "completed"}, Verdict.UNAVAILABLE),
            (302, None, Verdict.UNAVAILABLE),
            (400, error(), Verdict.UNAVAILABLE),
            (401, error(), Verdict.DENIED),
            (401, None, Verdict.DENIED),
            (402, None, Verdict.DENIED),
            (403, error(), Verdict.DENIED),
            (404, error(), Verdict.MISSING),
            (404, None, Verdict.UNAVAILABLE),
            (408, error(), Verdict.UNAVAILABLE),
            (429, error(), Verdict.RATE_LIMITED),
            (500, error(), Verdict.UNAVAILABLE),
            (500, None, Verdict.UNAVAILABLE),
            (502, None, Verdict.UNAVAILABLE),
            (503, error(), Verdict.UNAVAILABLE),
            (504, None, Verdict.UNAVAILABLE),
            (524, None, Verdict.UNAVAILABLE),
        ],
    )
    def test_every_other_answer(
        self, status: int, body: dict[str, Any] | None, verdict: Verdict
    ) -> None:
        assert read_poll(Answer(status, body), APIYI).verdict is verdict


class TestDownload:
    @pytest.mark.parametrize(
        ("status", "body", "verdict"),
        [
            (302, None, Verdict.UNAVAILABLE),
            (400, error(), Verdict.UNAVAILABLE),
            (401, error(), Verdict.DENIED),
            (403, None, Verdict.DENIED),
            (404, error(), Verdict.ABSENT),
            (404, None, Verdict.ABSENT),
            (410, None, Verdict.ABSENT),
            (416, error(), Verdict.BROKEN),
            (429, error(), Verdict.RATE_LIMITED),
            (500, error(), Verdict.UNAVAILABLE),
            (502, None, Verdict.UNAVAILABLE),
            (503, None, Verdict.UNAVAILABLE),
        ],
    )
    def test_every_refusal(
        self, status: int, body: dict[str, Any] | None, verdict: Verdict
    ) -> None:
        assert read_download_refusal(Answer(status, body)).verdict is verdict


def failed(message: str, code: str | None = None) -> Answer:
    return Answer(200, {"status": "failed", **error(message, code)})


class TestFailure:
    """Which failures upstream means for good, by its code or its words."""

    @pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
    @pytest.mark.parametrize(
        ("message", "code", "verdict"),
        [
            ("The servers are overloaded; try again later.", "overloaded", Verdict.PASSING),
            ("Whatever.", "rate_limit_exceeded", Verdict.PASSING),
            ("We are AT CAPACITY now.", None, Verdict.PASSING),
            ("The account's quota is used up.", "insufficient_quota", Verdict.EXHAUSTED),
            ("Your balance is too low", None, Verdict.EXHAUSTED),
            ("Rejected by the content policy.", "content_policy_violation", Verdict.FAILED),
            ("A quota of swords overloads our safety system.", None, Verdict.FAILED),
            ("It can't be processed; try again later.", "invalid_parameters", Verdict.FAILED),
            ("It broke.", "internal", Verdict.FAILED),
            ("", None, Verdict.FAILED),
        ],
    )
    def test_a_failure_is_passing_only_by_the_table(
        self, dialect: Dialect, message: str, code: str | None, verdict: Verdict
    ) -> None:
        outcome = read_poll(failed(message, code), dialect)
        assert outcome.verdict is verdict
        assert outcome.message == (message or "Upstream says: failed.")

    def test_only_the_word_failed_is_looked_at_so(self) -> None:
        answer = Answer(200, {"status": "expired", **error("overloaded", "overloaded")})
        assert read_poll(answer, APIYI).verdict is Verdict.FAILED


class TestProbe:
    @pytest.mark.parametrize("status", [400, 404, 405, 410, 422])
    def test_any_refusal_in_the_providers_own_json_is_sane(self, status: int) -> None:
        outcome = read_probe(Answer(status, error("no such id")), APIYI)
        assert outcome == Outcome(Verdict.MISSING, "no such id", "a_code")

    @pytest.mark.parametrize(
        ("status", "body", "verdict"),
        [
            (400, None, Verdict.UNAVAILABLE),
            (400, {"detail": "no error of the provider's"}, Verdict.UNAVAILABLE),
            (404, None, Verdict.UNAVAILABLE),
            (500, error(), Verdict.UNAVAILABLE),
            (401, error(), Verdict.DENIED),
            (402, error(), Verdict.DENIED),
            (403, error(), Verdict.DENIED),
            (429, error(), Verdict.RATE_LIMITED),
        ],
    )
    def test_nothing_else_is(self, status: int, body: Any, verdict: Verdict) -> None:
        assert read_probe(Answer(status, body), APIYI).verdict is verdict

    def test_a_real_video_that_answers_400_is_not_missing(self) -> None:
        assert read_poll(Answer(400, error()), APIYI).verdict is Verdict.UNAVAILABLE


class TestAnyCall:
    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize("seconds", [None, 0.0, 1.0, 17.5])
    def test_429_says_how_long_to_wait(self, read: Any, seconds: float | None) -> None:
        outcome = read(Answer(429, error("slow down"), seconds))
        assert outcome == Outcome(Verdict.RATE_LIMITED, "slow down", "a_code", retry_after=seconds)

    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize(
        "body",
        [
            error("You exceeded your current quota"),
            error("Your BALANCE is too low"),
            error("no", "insufficient_quota"),
            error("no", "billing_hard_limit_reached"),
            {"error": "quota used up"},
        ],
    )
    def test_429_for_want_of_money_is_denied(self, read: Any, body: dict[str, Any]) -> None:
        assert read(Answer(429, body, 1.0)).verdict is Verdict.DENIED

    @pytest.mark.parametrize("read", READERS)
    @given(st.integers(100, 599), bodies, st.none() | st.floats(0, 1e6))
    def test_no_answer_is_too_odd_to_be_read(
        self, read: Any, status: int, body: dict[str, Any] | None, seconds: float | None
    ) -> None:
        outcome = read(Answer(status, body, seconds))
        assert len(outcome.message) <= LONGEST_MESSAGE
        assert len(outcome.code) <= 100
        assert outcome.progress is None or 0 <= outcome.progress <= 100


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (None, ("", "")),
        ({}, ("", "")),
        ({"error": None}, ("", "")),
        ({"error": ["no"]}, ("", "")),
        ({"error": "no"}, ("", "no")),
        ({"error": {"message": "no"}}, ("", "no")),
        ({"error": {"message": "no", "code": "c", "type": "t"}}, ("c", "no")),
        ({"error": {"message": "no", "code": None, "type": "t"}}, ("t", "no")),
        ({"error": {"message": "no", "code": 400}}, ("", "no")),
        ({"error": {"message": 7, "code": "c"}}, ("c", "")),
        ({"error": {"message": "a\x00b\x1b[31m\nc"}}, ("", "ab[31m\nc")),
        ({"error": {"message": "m" * 5000, "code": "c" * 5000}}, ("c" * 100, "m" * 1000)),
    ],
)
def test_error_bodies(body: dict[str, Any] | None, read: tuple[str, str]) -> None:
    assert read_error(body) == read


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (0, 0),
        (40, 40),
        (99.9, 99),
        (100, 100),
        (101, 100),
        (10**30, 100),
        (10**400, 100),
        (-(10**400), 0),
        (-1, 0),
        ("55", 55),
        (" 55.5% ", 55),
        ("250", 100),
        ("-3", 0),
        ("NaN", None),
        ("inf", None),
        ("half", None),
        ("", None),
        (None, None),
        (True, None),
        (False, None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        ([50], None),
        ({"percent": 50}, None),
    ],
)
def test_progress(said: object, read: int | None) -> None:
    assert read_progress(said) == read
