"""What a key is limited to holds at the door: models, paths, addresses; blocked, rotated, expired.

Each change is in force for the next request of a worker that remembers the key as it was.
"""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.types import Names
from proxy.who import keys
from proxy.who.rules import client_of, is_within
from tests.door_stage import DoorStage, door

BEHIND = {"OPSCENTER_TRUSTED_PROXIES": "127.0.0.1, ::1"}
HERE = ["127.0.0.1/32"]


@pytest.fixture
async def stage(home: Path, redis_url: str, database_url: str) -> AsyncIterator[DoorStage]:
    async with door(home, redis_url, database_url) as stage:
        yield stage


async def change(stage: DoorStage, key: str, what: str, *values: Any) -> None:
    kid = key[9:19]
    await stage.pool.execute(f"UPDATE api_key SET {what} WHERE kid = $1", kid, *values)
    assert await stage.drain.publisher.key(kid)


def told(answer: httpx2.Response) -> str:
    return str(answer.status_code if answer.is_success else answer.json()["error"]["code"])


# Pure ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written", "is_named"),
    [
        ("ops/echo", ["ops/echo"], True),
        ("ops/echo2", ["ops/echo"], False),
        ("openai/gpt-5", ["ops/echo", "openai/*"], True),
        ("openai", ["openai/*"], False),
        ("anything", ["*"], True),
        ("a", [], False),
    ],
)
def test_a_star_at_the_end_is_every_name_that_begins_so(
    name: str, written: list[str], is_named: bool
) -> None:
    assert (name in Names.of(written)) is is_named


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("9.9.9.9", "1.1.1.1", "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1, 2.2.2.2", "2.2.2.2"),
        ("10.0.0.1", "1.1.1.1, 10.0.0.7", "1.1.1.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1,", "10.0.0.1"),
        ("::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("", "1.1.1.1", ""),
        ("10.0.0.1", "1.1.1.1, " + "x" * 1000, "x" * 64),
    ],
)
def test_the_client_is_whom_the_nearest_trusted_proxies_tell(
    peer: str, forwarded: str, client: str
) -> None:
    """Everybody can write a header; what counts was written by a proxy that is known."""
    ours = [ip_network("10.0.0.0/8")]
    assert client_of(peer, forwarded, lambda one: is_within(one, ours)) == client


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("no address", False),
        ("", False),
    ],
)
def test_an_address_is_looked_up_in_its_own_kind_of_networks(address: str, inside: bool) -> None:
    networks = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
    assert is_within(address, networks) is inside


# At the door -----------------------------------------------------------------------------


async def test_a_key_for_some_models_is_refused_others_and_is_not_shown_them(
    stage: DoorStage,
) -> None:
    key = await stage.new_key(models=["open*"])
    assert told(await stage.chat(key=key)) == "model_not_allowed"
    headers = {"authorization": f"Bearer {key}"}
    assert (await stage.http.get("/v1/models", headers=headers)).json()["data"] == []
    await change(stage, key, "models = '{ops/*}'")
    assert told(await stage.chat(key=key)) == "200"
    await change(stage, key, "models = '{openai/*,other}'")
    assert told(await stage.chat(key=key)) == "model_not_allowed"
    await change(stage, key, "models = NULL")
    assert told(await stage.chat(key=key)) == "200"


async def test_a_key_for_some_paths_is_refused_others(stage: DoorStage) -> None:
    key = await stage.new_key(routes=["/v1/chat/*"])
    assert told(await stage.chat(key=key)) == "200"
    headers = {"authorization": f"Bearer {key}"}
    refused = await stage.http.get("/v1/models", headers=headers)
    assert (refused.status_code, told(refused)) == (403, "route_not_allowed")
    await change(stage, key, "routes = '{/v1/models}'")
    assert (await stage.http.get("/v1/models", headers=headers)).status_code == 200
    assert told(await stage.chat(key=key)) == "route_not_allowed"


async def test_a_key_for_some_addresses_is_refused_from_others(stage: DoorStage) -> None:
    """What a client says of itself in a header counts for nothing where no proxy is trusted."""
    key = await stage.new_key(addresses=HERE)
    assert told(await stage.chat(key=key)) == "200"
    await change(stage, key, "addresses = '{10.0.0.0/8,2001:db8::/32}'")
    refused = await stage.chat(key=key, **{"x-forwarded-for": "10.0.0.1"})
    assert (refused.status_code, told(refused)) == (403, "address_not_allowed")
    assert "127.0.0.1" in refused.json()["error"]["message"]


async def test_behind_a_trusted_proxy_the_address_is_the_one_that_it_tells(
    home: Path, redis_url: str, database_url: str
) -> None:
    async with door(home, redis_url, database_url, **BEHIND) as stage:
        key = await stage.new_key(addresses=["10.0.0.0/8"])
        for forwarded, answer in (
            ("10.0.0.1", "200"),
            ("192.0.2.7", "address_not_allowed"),
            ("10.0.0.1, 192.0.2.7", "address_not_allowed"),
            ("192.0.2.7, 10.0.0.1", "200"),
        ):
            told_it = await stage.chat(key=key, **{"x-forwarded-for": forwarded})
            assert told(told_it) == answer, forwarded
        assert told(await stage.chat(key=key)) == "address_not_allowed"


async def test_a_blocked_key_is_told_so_and_works_again_when_it_is_let_in(
    stage: DoorStage,
) -> None:
    """Only who shows the whole secret is told: a guessed one is as unknown as ever."""
    key = await stage.new_key()
    assert told(await stage.chat(key=key)) == "200"
    await change(stage, key, "status = 'blocked'")
    for _ in range(2):
        refused = await stage.chat(key=key)
        assert (refused.status_code, told(refused)) == (403, "key_blocked")
    guessed = keys.mint(int(key[7:9]), key[9:19]).text
    assert told(await stage.chat(key=guessed)) == "invalid_api_key"
    await change(stage, key, "status = 'active'")
    assert told(await stage.chat(key=key)) == "200"
    await change(stage, key, "status = 'revoked'")
    assert told(await stage.chat(key=key)) == "invalid_api_key"


async def test_an_old_secret_is_good_beside_the_new_one_until_its_time_is_over(
    stage: DoorStage,
) -> None:
    """One key with two secrets: its budget, its limits and its id stay what they are."""
    old = await stage.new_key()
    assert told(await stage.chat(key=old)) == "200"
    new = await rotated(stage, old, 3600)
    assert (told(await stage.chat(key=old)), told(await stage.chat(key=new))) == ("200", "200")
    await change(stage, old, "old_until = now() - interval '1 second'")
    assert told(await stage.chat(key=old)) == "invalid_api_key"
    assert told(await stage.chat(key=new)) == "200"
    newest = await rotated(stage, new, 0)
    assert told(await stage.chat(key=new)) == "invalid_api_key"
    assert told(await stage.chat(key=newest)) == "200"
    await stage.quiesce()
    assert {row["kid"] for row in await stage.usage()} == {old[9:19]}


async def rotated(stage: DoorStage, key: str, overlap_s: int) -> str:
    new, pepper = keys.mint(int(key[7:9]), key[9:19]), stage.keyfile.pepper_version
    digest = stage.keyfile.digest(new.text, pepper)
    if overlap_s:
        until = f"now() + interval '{overlap_s} seconds'"
        old = f"old_digest = digest, old_pepper = pepper, old_until = {until}"
    else:
        old = "old_digest = NULL, old_pepper = NULL, old_until = NULL"
    await change(stage, key, f"{old}, digest = $2, pepper = $3", digest, pepper)
    return new.text


async def test_an_old_secret_ends_by_the_clock_also_where_nothing_is_published(
    stage: DoorStage,
) -> None:
    old = await stage.new_key()
    new = await rotated(stage, old, 1)
    assert told(await stage.chat(key=new)) == "200"
    while told(answer := await stage.chat(key=old)) == "200":
        pass
    assert told(answer) == "invalid_api_key"


async def test_a_service_key_goes_before_what_sdks_send(stage: DoorStage) -> None:
    """The official SDKs always send Authorization, be it with a word that is no key."""
    headers = {"authorization": "Bearer unused", "x-service-key": stage.key}
    assert told(await stage.chat(**headers)) == "200"
    headers = {"authorization": f"Bearer {stage.key}", "x-service-key": "unknown"}
    assert told(await stage.chat(**headers)) == "invalid_api_key"


async def test_last_used_comes_from_the_usage_stream(stage: DoorStage) -> None:
    """Once per batch, and not as a change of the key: no record is published for it."""
    key = await stage.new_key()
    for _ in range(3):
        assert told(await stage.chat(key=key)) == "200"
    version = await stage.pool.fetchval("SELECT version FROM api_key WHERE kid = $1", key[9:19])
    await stage.quiesce()
    row = await stage.pool.fetchrow(
        "SELECT k.version, u.used_at, now() - u.used_at < interval '1 minute' AS lately"
        " FROM api_key k JOIN key_use u ON u.kid = k.kid WHERE k.kid = $1",
        key[9:19],
    )
    assert row is not None
    assert (row["version"], row["lately"]) == (version, True)
