"""Failures that pass, submits that nobody can tell the outcome of, and upstreams that come back."""

import asyncio

import pytest
from crashes.processes import free_port
from stage import House, until
from upstream.bench import Request, http, serving

from gateway.job import Kind
from gateway.ledger.ledger import commit_beside
from gateway.ledger.transitions import delete_job
from gateway.policy.verdicts import REQUEUE_SECONDS
from gateway.sandbox.record import Arrived, submits_by_prompt

from .test_odd_upstreams import MISSING, Provider, status
from .test_restart import job_in, leave_open

DENIED = http(401, {"error": {"message": "wrong key", "code": "invalid_api_key"}})
ERROR_500 = http(500, {"error": {"message": "we are down", "code": "server_error"}})


def later(house: House, seconds: float) -> None:
    """The clock jumps, and the engine looks at it."""
    house.gateway.clock._offset += seconds
    for dispatcher in house.gateway._dispatchers:
        dispatcher.wake()


@pytest.fixture
async def patient(make_gateway, upstream) -> House:
    """A gateway whose videos may take longer than the jumps of its clock."""
    return await make_gateway(upstream.url, polling={"task_life": 5000.0, "max_wait": 4000.0})


class TestAPassingFailure:
    async def test_the_job_goes_back_and_is_made_after_all(
        self, upstream, patient: House, make_caller
    ) -> None:
        caller = make_caller(patient)
        busy = await caller.create("sandbox:busy")
        for count in (1, 2):
            await until(lambda count=count: patient.job(busy).requeues == count)
            told = await caller.video(busy)
            assert (told["status"], told["progress"], told["error"]) == ("submitted", 0, None)
            assert patient.job(busy).upstream_id is None
            # It holds its place in line, and nobody else's.
            other = await caller.finished(await caller.create(f"passes by {count}"))
            assert other["status"] == "completed"
            assert patient.job(busy).state == "queued"
            later(patient, REQUEUE_SECONDS * 2 ** (count - 1))
        assert (await caller.finished(busy))["status"] == "completed"
        assert submits_by_prompt(upstream.state.record)["sandbox:busy"] == 3
        assert patient.account.trouble is None

    async def test_after_three_times_it_is_the_end_in_upstreams_own_words(
        self, upstream, patient: House, make_caller
    ) -> None:
        caller = make_caller(patient)
        video = await caller.create("sandbox:overload")
        for count in (1, 2, 3):
            await until(lambda count=count: patient.job(video).requeues == count)
            later(patient, REQUEUE_SECONDS * 2 ** (count - 1))
        told = await caller.finished(video)
        assert told["error"]["code"] == "overloaded"
        assert told["error"]["message"] == "The servers are overloaded; try again later."
        assert submits_by_prompt(upstream.state.record) == {"sandbox:overload": 4}

    @pytest.mark.parametrize("word", ["policy", "parameters"])
    async def test_any_other_failure_is_final_at_once(
        self, upstream, patient: House, make_caller, word: str
    ) -> None:
        caller = make_caller(patient)
        told = await caller.finished(await caller.create(f"sandbox:{word}"))
        assert told["status"] == "failed"
        assert submits_by_prompt(upstream.state.record) == {f"sandbox:{word}": 1}

    async def test_a_deleted_job_does_not_come_back(
        self, upstream, patient: House, make_caller
    ) -> None:
        caller = make_caller(patient)
        video = await caller.create("sandbox:overload")
        await until(lambda: patient.job(video).state == "running")
        await caller.http.delete(f"/v1/videos/{video}")
        await until(lambda: patient.job(video).state == "failed")
        assert patient.job(video).error_code == "deleted"
        later(patient, 1000.0)
        await caller.finished(await caller.create("after it"))
        assert submits_by_prompt(upstream.state.record) == {"sandbox:overload": 1, "after it": 1}


class TestASecondSubmit:
    async def test_a_caller_that_asks_for_it_gets_one_more(
        self, upstream, house: House, caller
    ) -> None:
        video = await caller.create("sandbox:lost", on_unknown="resubmit")
        told = await caller.finished(video)
        assert told["error"]["code"] == "submission_outcome_unknown"
        record = list(upstream.state.record)
        assert submits_by_prompt(record) == {"sandbox:lost": 2}
        kinds = [event.kind for event in record if isinstance(event, Arrived)][:3]
        assert kinds == ["submit", "poll", "submit"]  # a sane answer first, as ever
        now = house.gateway.clock.now()
        assert house.ledger.live.books["default"].slots_of_unknown(now) == 2

    async def test_a_submit_found_open_at_a_start_is_sent_once_more(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        port = free_port()
        house = await make_gateway(f"http://127.0.0.1:{port}")
        video = await make_caller(house).create("was it sent?", on_unknown="resubmit")
        await until(lambda: house.account.failures and house.job(video).state == "queued")
        await house.stop()
        leave_open(house, Kind.SUBMIT, job_in(house.folder, video))
        await make_upstream(port=port)
        await house.start()
        told = await make_caller(house).finished(video)
        assert told["status"] == "completed"
        assert house.job(video).resends == 0
        now = house.gateway.clock.now()
        assert house.ledger.live.books["default"].slots_of_unknown(now) == 1

    async def test_not_for_a_caller_that_has_deleted_it(
        self, make_upstream, make_gateway, make_caller
    ) -> None:
        port = free_port()
        house = await make_gateway(f"http://127.0.0.1:{port}")
        video = await make_caller(house).create("was it sent?", on_unknown="resubmit")
        await until(lambda: house.account.failures and house.job(video).state == "queued")
        await house.stop()
        leave_open(house, Kind.SUBMIT, job_in(house.folder, video))
        commit_beside(house.folder, delete_job(job_in(house.folder, video), 1.0), 1.0)
        upstream = await make_upstream(port=port)
        await house.start()
        assert (house.job(video).state, house.job(video).error_code) == ("failed", "deleted")
        await make_caller(house).finished(await make_caller(house).create("after it"))
        assert submits_by_prompt(upstream.state.record) == {"after it": 1}


class TestRecovery:
    """Without a restart, and with nothing lost."""

    async def test_errors_in_the_providers_own_json_leave_the_queue_standing(
        self, make_gateway, make_caller
    ) -> None:
        provider = Provider()
        down = asyncio.Event()
        down.set()

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            if down.is_set():
                writer.write(ERROR_500)
            else:
                await provider(request, writer)

        async with serving(answer) as server:
            house = await make_gateway(server.url)
            caller = make_caller(house)
            videos = [await caller.create(f"cat {number}") for number in range(3)]
            for failures in range(1, 6):
                await until(lambda n=failures: house.account.failures >= n)
                later(house, 300.0)
            assert {house.job(video).state for video in videos} <= {"queued", "submitting"}
            assert "we are down" in house.account.trouble
            down.clear()
            later(house, 300.0)
            for video in videos:
                assert (await caller.finished(video))["status"] == "completed"
            assert house.account.trouble is None
            await house.stop()

    @pytest.mark.parametrize(
        "nonsense",
        [
            pytest.param(http(200, b"<html>hello</html>"), id="html"),
            pytest.param(http(200, b'{"status": "completed"'), id="cut"),
            pytest.param(
                http(200, b'{"status":"completed","x":"' + b"x" * 2**21 + b'"}'), id="huge"
            ),
            pytest.param(http(200, {"status": None}), id="no status"),
        ],
    )
    async def test_a_poll_that_made_no_sense_is_made_again(
        self, make_gateway, make_caller, nonsense: bytes
    ) -> None:
        provider = Provider([nonsense])
        async with serving(provider) as server:
            house = await make_gateway(
                server.url, polling={"task_life": 5000.0, "max_wait": 4000.0}
            )
            video = await make_caller(house).create()
            for failures in (1, 2, 3):
                await until(lambda n=failures: house.account.failures >= n)
                assert house.job(video).state == "running"
                later(house, 10.0)
            provider.polls = [status("completed", 100)]
            later(house, 10.0)
            assert (await make_caller(house).finished(video))["status"] == "completed"
            assert provider.submits == 1
            await house.stop()

    async def test_a_key_that_works_again_is_noticed(self, make_gateway, make_caller) -> None:
        provider = Provider()
        wrong = asyncio.Event()
        wrong.set()

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            if wrong.is_set():
                writer.write(DENIED)
            else:
                await provider(request, writer)

        async with serving(answer) as server:
            house = await make_gateway(server.url)
            caller = make_caller(house)
            video = await caller.create()
            await until(lambda: house.account.doubt)
            later(house, 31.0)
            await until(lambda: house.account.failures)  # the look at it was denied as well
            wrong.clear()
            later(house, 300.0)
            assert (await caller.finished(video))["status"] == "completed"
            assert (house.account.doubt, house.account.trouble) == (None, None)
            await house.stop()

    @pytest.mark.parametrize("refusal", [MISSING, http(400, {"error": {"message": "bad id"}})])
    async def test_a_task_that_stays_denied_holds_no_submit_back(
        self, make_gateway, make_caller, refusal: bytes
    ) -> None:
        posts = 0

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal posts
            if request.method == "POST":
                posts += 1
                taken = {"id": f"task_{posts}", "status": "submitted"}
                writer.write(http(200, b"no id in it" if posts == 2 else taken))  # nobody can tell
            elif request.path.endswith("task_1") and posts > 1:  # before, it would hold POSTs up
                writer.write(DENIED)
            elif "task_" in request.path:
                writer.write(status("in_progress", 5))
            else:
                writer.write(refusal)

        async with serving(answer) as server:
            house = await make_gateway(
                server.url, polling={"task_life": 90000.0, "max_wait": 80000.0}
            )
            caller = make_caller(house)
            denied = await caller.create("denied for ever")
            await until(lambda: house.job(denied).state == "running")
            await caller.finished(await caller.create("nobody can tell"))
            third = await caller.create("waits for a sane answer")

            def sent() -> bool:
                later(house, 10.0)
                return house.job(third).state == "running"

            await until(sent)
            assert house.job(denied).state == "running"
            assert sum(request.method == "POST" for request in server.seen) == 3
            await house.stop()

    async def test_a_content_that_stays_denied_holds_nothing_else_back(
        self, make_gateway, make_caller
    ) -> None:
        provider = Provider()

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.path.endswith("task_1/content"):
                writer.write(DENIED)
            else:
                await provider(request, writer)

        async with serving(answer) as server:
            house = await make_gateway(server.url)
            caller = make_caller(house)
            denied = await caller.create("denied for ever")
            await until(lambda: house.job(denied).misses)
            assert house.account.opens <= house.gateway.clock.now()
            for number in range(3):
                await caller.finished(await caller.create(f"another one {number}"))
            assert house.job(denied).state == "fetching"
            assert (house.account.doubt, house.account.trouble) == (None, None)
            await house.stop()

    async def test_submits_that_stay_unknown_cost_few_jobs(self, make_gateway, make_caller) -> None:
        posts = 0

        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal posts
            if request.method == "POST":
                posts += 1
                writer.write(http(502, b"<html>bad gateway</html>"))
            else:
                writer.write(MISSING)

        async with serving(answer) as server:
            house = await make_gateway(server.url)
            caller = make_caller(house)
            jobs = [await caller.create(f"video {number}") for number in range(6)]
            await until(lambda: house.account.refusals == 2)
            assert house.account.submits > house.gateway.clock.now() + 20.0
            assert house.account.trouble
            states = [house.job(job).state for job in jobs]
            assert states == ["failed"] * 2 + ["queued"] * 4
            assert posts == 2
            await house.stop()
