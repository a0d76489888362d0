"""Neither the real key nor any caller's stands anywhere that it should not."""

import httpx
import pytest

from .conftest import Join, Launch
from .stack import REAL_KEY, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
]


async def test_no_key_in_logs_metrics_answers_or_the_data_folder(
    launch: Launch, join: Join
) -> None:
    stack = await launch(generation=20.0)
    one = join(stack, "ada")
    key = one.client.api_key
    answers: list[str] = []
    with httpx.Client(base_url=stack.url) as client:

        def ask(method: str, path: str, **options: object) -> httpx.Response:
            answer = client.request(method, path, **options)  # type: ignore[arg-type]
            answers.append(f"{answer.headers} {answer.text}")
            return answer

        authorized = {"authorization": f"Bearer {key}"}
        ask("POST", "/v1/videos", json={"prompt": "fine"}, headers=authorized)
        ask("POST", "/v1/videos", json={"prompt": "sandbox:refuse"}, headers=authorized)
        ask("POST", "/v1/videos", json={key: key}, headers=authorized)
        ask("GET", f"/v1/videos/{key}", headers=authorized)
        ask("GET", f"/v1/videos/{key}")
        ask("GET", "/v1/videos/x", headers={"authorization": key[:-1] + "0"})
        ask("GET", "/nowhere", headers={"x-request-id": "r1", "cookie": key})
        done = "SELECT count(*) FROM jobs WHERE state IN ('completed', 'failed')"
        await until(lambda: stack.ledger(done)[0][0] == 2, seconds=60)
        for path in ("/healthz", "/readyz", "/metrics"):
            ask("GET", path)
    answers[2] = answers[2].replace(key, "")  # its own words, said back to the caller who sent them
    stack.stop_gateway()

    logs = stack.log.read_text()
    assert "call ended" in logs  # it did log
    files = [path for path in stack.data.rglob("*") if path.is_file()]
    assert any(path.suffix == ".mp4" for path in files)
    places = {"logs": logs, "answers": "\n".join(answers)}
    places |= {str(path): path.read_bytes().decode("latin-1") for path in files}
    for secret in (REAL_KEY, key, key.removeprefix("vgw_")):
        assert [place for place, text in places.items() if secret in text] == []
