"""P30: errors look like the API that is called, and say what to do: each of them through the real
packages of OpenAI and Anthropic.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from string import Formatter
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest

from bench.upstream import FakeUpstream
from control import errors as control_errors
from docs import generate
from proxy import answers
from proxy.errors import OpsError, UpstreamRefused, explained, leaves, tried_again
from proxy.serve.turn import error_headers
from tests.door_stage import HELLO, DoorStage, door

LEAVES = [leaf for leaf in leaves(everywhere=True) if leaf.__module__.split(".")[0] != "tests"]
RID = "01HZX"
MESSAGES: Any = HELLO["messages"]


def made(leaf: type[OpsError]) -> OpsError:
    if leaf is UpstreamRefused:
        return UpstreamRefused(leaf.status, status=500, model="m", message="no.")
    named = (name for _, name, _, _ in Formatter().parse(leaf.__doc__ or "") if name)
    detail: dict[str, Any] = dict.fromkeys(named, "x")
    return leaf(**detail)


class Door:
    """Answers every request with one error, as the door does; counts them."""

    def __init__(self, problem: OpsError) -> None:
        self.asked = 0
        self._problem = problem
        self.http = httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked += 1
        headers = [(n.decode(), v.decode()) for n, v in error_headers(self._problem, RID)]
        body = answers.error_body(self._problem, RID)
        return httpx2.Response(self._problem.status, headers=headers, content=body)


def by_openai(here: Door) -> openai.APIStatusError:
    client = openai.OpenAI(
        api_key="k", base_url="http://door/v1", max_retries=1, http_client=here.http
    )
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="m", messages=MESSAGES)
    return caught.value


def by_anthropic(here: Door) -> anthropic.APIStatusError:
    client = anthropic.Anthropic(
        api_key="k", base_url="http://door", max_retries=1, http_client=here.http
    )
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="m", max_tokens=1, messages=MESSAGES)
    return caught.value


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages wait before they try again."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_p30_sdk_exceptions(leaf: type[OpsError]) -> None:
    """Its own exception in each package, tried again where the table says so, with the code and
    the sentence in it."""
    problem = made(leaf)
    here, there = Door(problem), Door(problem)
    told, likewise = by_openai(here), by_anthropic(there)
    assert type(told).__name__ == generate.raised("openai", problem.status)
    assert type(likewise).__name__ == generate.raised("anthropic", problem.status)
    assert (here.asked, there.asked) == ((2, 2) if tried_again(leaf) else (1, 1))
    assert (told.code, told.type, told.request_id) == (problem.code, problem.kind, RID)
    assert problem.sentence in str(told)
    assert problem.sentence in str(likewise)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_p30_sdk_exceptions_say_what_to_do(leaf: type[OpsError]) -> None:
    """Status, shape, stable code, request id, and a page that explains the code."""
    problem = made(leaf)
    error = orjson.loads(answers.error_body(problem, RID))["error"]
    assert set(error) >= {"message", "type", "param", "code", "request_id", "docs"}
    assert error["docs"] == f"/errors/{problem.code}"
    page = explained(problem.code)
    assert page is not None
    assert " ".join((leaf.__doc__ or "").split()) in page


def test_p30_sdk_exceptions_of_limits_are_402_and_429() -> None:
    """Credits and ceilings are 402: no client waits for them. Rates, quotas, budgets are 429."""
    statuses = {leaf.code: leaf.status for leaf in LEAVES if leaf.status in (402, 429)}
    paid = {code for code, status in statuses.items() if status == 402}
    assert paid == {
        *("insufficient_credits", "file_credits_needed"),
        *("job_ceiling_reached", "max_cost_exceeded"),
    }
    assert not any(tried_again(leaf) for leaf in LEAVES if leaf.status == 402)
    assert control_errors.LoginsTooMany.status == 429


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def test_p30_sdk_exceptions_lead_to_a_page_of_the_door(stage: DoorStage) -> None:
    """Without a key: who has none needs it most."""
    answer = await stage.chat(key="nonsense")
    page = await stage.http.get(answer.json()["error"]["docs"])
    assert page.status_code == 200
    assert page.text.startswith("invalid_api_key: status 401")
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    unknown = await stage.http.get("/errors/no_such_code")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "route_not_found")


@pytest.fixture
async def fake(stage: DoorStage) -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        await stage.add_provider(fake.url + "/v1")
        yield fake


@pytest.mark.parametrize(
    ("upstream", "status", "raised"),
    [
        ("mock/429?retry_after=7", 429, openai.RateLimitError),
        ("mock/503?retry_after=7", 503, openai.InternalServerError),
        ("mock/400", 400, openai.BadRequestError),
    ],
)
async def test_p30_sdk_exceptions_of_a_provider_keep_status_and_wait(
    stage: DoorStage, fake: FakeUpstream, upstream: str, status: int, raised: type[Exception]
) -> None:
    model = await stage.add_model("mock/refuses", upstream)
    async with openai.AsyncOpenAI(
        api_key=stage.key, base_url=stage.url + "/v1", max_retries=0
    ) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model=model, messages=MESSAGES)
    assert (type(caught.value), caught.value.status_code) == (raised, status)
    wait = caught.value.response.headers.get("retry-after")
    assert wait == ("7" if "retry_after" in upstream else None)


async def test_p30_sdk_exceptions_in_the_middle_of_a_stream(
    stage: DoorStage, fake: FakeUpstream
) -> None:
    """Also what goes wrong after the first byte is raised, with its code."""
    model = await stage.add_model("mock/breaks", "mock/reset@3")
    async with openai.AsyncOpenAI(api_key=stage.key, base_url=stage.url + "/v1") as client:
        stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError) as caught:
            async for _ in stream:
                pass
    assert caught.value.code == "upstream_broken"
