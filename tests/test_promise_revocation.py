"""P10: a revoked key is dead everywhere when the call returns. Real workers on two machines."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.redis.scripts import REVOKED_KEY
from tests.control_stage import Stage
from tests.fleet_stage import CENT, Fleet, fleet, told, until

TEN_TOKENS: dict[str, Any] = {"max_tokens": 10}
ENDLESS = "mock/bomb?chunk_ms=20"
CHEAP = "mock/cheap"
REVOCATIONS = 25
ASKING = 16  # callers that never stop


@pytest.fixture
async def here(home: Path, redis_url: str, database_url: str) -> AsyncIterator[Fleet]:
    async with fleet(home, redis_url, database_url, (2, 2)) as here:
        yield here


async def test_p10_revocation(here: Fleet) -> None:
    """Under load on every worker: not one request that began after the answer is admitted."""
    await here.model(CHEAP, "mock/ok?in=0&out=10", dollars="1")
    for _ in range(REVOCATIONS):
        crowd = Crowd(here, await here.new_key())
        asking = [asyncio.create_task(crowd.ask()) for _ in range(ASKING)]
        await until(crowd.known)
        await revoke(here.api, crowd.key)
        assert await here.many(8, CHEAP, key=crowd.key, **TEN_TOKENS) == {"401 invalid_api_key": 8}
        crowd.revoked = True
        await asyncio.gather(*asking)
    await here.verified()


@dataclass
class Crowd:
    """Callers of one key, who never stop until they are told so."""

    here: Fleet
    key: str
    admitted: int = 0
    revoked: bool = False

    async def known(self) -> bool:
        """By every worker."""
        return self.admitted >= 2 * ASKING

    async def ask(self) -> None:
        while not self.revoked:
            answer = await self.here.chat(CHEAP, self.key, **TEN_TOKENS)
            self.admitted += told(answer) == "200"


@pytest.mark.parametrize("told_by", ["the stream of names", "the renewal alone"])
async def test_p10_revocation_ends_what_runs(
    here: Fleet, told_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running streams end within a second; within a renewal where that word is lost. What came is
    charged, and other keys' streams go on."""
    model = await here.model("mock/endless", ENDLESS, dollars="1")
    key = await here.new_key()
    if told_by == "the renewal alone":
        # a key of the wrong type: nobody can write or read the names any more
        await here.redis.command("SET", REVOKED_KEY, "lost")
    async with contextlib.AsyncExitStack() as stack:
        mine = [await stack.enter_async_context(here.stream(model, key)) for _ in range(4)]
        other = await stack.enter_async_context(here.stream(model))
        ends = [asyncio.create_task(until_end(answer)) for answer in mine]
        others = asyncio.create_task(until_end(other))
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        if told_by == "the renewal alone":
            await dead_in_redis(here, key)
        else:
            await revoke(here.api, key)
        texts = [text for text, _ in await asyncio.gather(*ends)]
        took = max(at for _, at in await asyncio.gather(*ends)) - begun
        assert took < (1.0 if told_by == "the stream of names" else 1.0 + 1.0)
        assert all("invalid_api_key" in text for text in texts)
        assert not others.done()
        others.cancel()
    await asyncio.gather(others, return_exceptions=True)
    await here.verified()
    rows = [row for row in await here.usage() if row["reason"] == "invalid_api_key"]
    assert len(rows) == 4
    assert all(row["kind"] == "settled" and row["cost"] > 0 for row in rows)


async def test_p10_revocation_of_an_organisation(here: Fleet) -> None:
    """Suspended: none of its keys is admitted, all of its streams end."""
    model = await here.model("mock/endless", ENDLESS, dollars="1")
    id = await here.api.organisation("Acme")
    path = f"/api/v1/admin/organisations/{id}"
    grant = {"amount": "100", "reason": "test"}
    assert (await here.api.at_home.post(path + "/credits", grant)).status == 201
    member = await here.api.person("developer", id)
    assert member.token is not None
    async with here.stream(model, member.token) as answer:
        end = asyncio.create_task(until_end(answer))
        begun = time.monotonic()
        suspended = await here.api.at_home.post(path + "/suspend")
        assert suspended.status == 200
        refused = await here.many(8, CENT, key=member.token, **TEN_TOKENS)
        assert refused == {"403 organisation_suspended": 8}
        assert (await end)[1] - begun < 1.0


async def test_p10_revocation_makes_a_lower_limit_hold_at_once(here: Fleet) -> None:
    """The next request on every worker is told the new one."""
    await here.model("mock/wait", "mock/hang")
    path = f"/api/v1/admin/organisations/{await here.organisation()}"
    assert (await here.api.at_home.patch(path, {"parallel_max": 50})).status == 200
    waiting = [asyncio.create_task(here.chat("mock/wait")) for _ in range(3)]
    await until(lambda: _asked(here, 3))
    assert await here.many(4, **TEN_TOKENS) == {"200": 4}
    assert (await here.api.at_home.patch(path, {"parallel_max": 3})).status == 200
    assert await here.many(16, **TEN_TOKENS) == {"429 parallel_limit": 16}
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_p10_revocation_and_every_other_change_of_a_key(here: Fleet) -> None:
    """Under load on every worker: what begins after the answer is told the key as it is then."""
    await here.model(CHEAP, "mock/ok?in=0&out=10", dollars="1")
    crowd = Crowd(here, await here.new_key())
    asking = [asyncio.create_task(crowd.ask()) for _ in range(ASKING)]
    await until(crowd.known)
    me = (await here.api.get("/api/v1/auth/me")).json
    path = f"/api/v1/admin/users/{me['person']}/api-keys/{crowd.key[9:19]}"
    blocked, moved = "403 key_blocked", {"addresses": ["10.0.0.0/8"]}
    for call, body, answer in (
        (path, {"models": ["openai/*"]}, "403 model_not_allowed"),
        (path, {"models": ["mock/*"]}, "200"),
        (path, {"routes": ["/v1/models"]}, "403 route_not_allowed"),
        (path, {"routes": None, "scopes": ["usage:read"]}, "403 scope_missing"),
        (path, {"scopes": ["llm"]}, "200"),
        (path, {"scopes": None, **moved}, "403 address_not_allowed"),
        (path, {"addresses": ["127.0.0.0/8"]}, "200"),
        (path + "/block", None, blocked),
        (path, {"name": "still blocked"}, blocked),
        (path + "/unblock", None, "200"),
        (path, {"budget": "0.000001"}, "429 budget_reached"),
        (path, {"budget": None}, "200"),
        (path + "/rotate", {"overlap_s": 60}, "200"),
        (path + "/rotate", {"overlap_s": 0}, "401 invalid_api_key"),
    ):
        verb = here.api.at_home.patch if call == path else here.api.at_home.post
        changed = await verb(call, body)
        assert changed.status == 200, changed.body
        told_all = await here.many(8, CHEAP, key=crowd.key, **TEN_TOKENS)
        assert told_all == {answer: 8}, body or call
    crowd.revoked = True
    await asyncio.gather(*asking)
    await here.verified()


async def _asked(here: Fleet, count: int) -> bool:
    return len(here.fake.requests) >= count


async def revoke(api: Stage, key: str) -> None:
    me = (await api.get("/api/v1/auth/me")).json
    path = f"/api/v1/admin/users/{me['person']}/api-keys/{key[9:19]}"
    gone = await api.at_home.delete(path)
    assert gone.status == 200, gone.body


async def dead_in_redis(here: Fleet, key: str) -> None:
    """As when the publisher dies between the record and the word of it."""
    kid = key[9:19]
    await here.pool.execute("UPDATE api_key SET status = 'revoked' WHERE kid = $1", kid)
    assert not await here.api.state.publisher.key(kid)


async def until_end(answer: Any) -> tuple[str, float]:
    """The whole text, and when it was over."""
    text = "".join([piece async for piece in answer.aiter_text()])
    return text, time.monotonic()
