"""Another root key: all that is sealed is sealed anew while it is used, whatever happens meanwhile;
then the former one is forgotten.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from bench.upstream import FakeUpstream
from control import main, reseal, settings
from control.app import create_app
from control.edge import Edge
from control.roots import SecretError
from control.secrets import Secrets, drop_old, new_root, unlock
from control.settings import ControlSettings
from control.state import State
from control.token_keys import TokenKeys
from proxy.who.keyfile import KeyFile
from tests.control_stage import Stage
from tests.door_stage import HELLO, DoorStage, door

SECRETS = "/api/v1/admin/secrets"
PLATFORM, OWN = "sk-platform-0123456789abcdef", "sk-own-0123456789abcdef"
ROWS = 2 * reseal.BATCH + 7
MODEL, MINE = "fake/platform", "fake/mine"

#: Moves one batch; of the second all but its end, at which it waits to be killed.
CHILD = """
import asyncio, os
from control import database, reseal, settings
from control.roots import SecretError
from control.secrets import unlock
from control.state import Seals

async def run():
    wanted = settings.load(os.environ)
    secrets = unlock(wanted)
    seals = Seals(secrets.version, secrets.providers, secrets.plugins)
    pool = await database.connect(wanted)
    async with pool.acquire() as conn:
        async with conn.transaction():
            after = (await reseal.move(conn, seals, None)).next
        async with conn.transaction():
            await reseal.move(conn, seals, after)
            print("moved", flush=True)
            await asyncio.sleep(600)

asyncio.run(run())
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything sealed by the first root key, before processes that know a second one."""

    wanted: ControlSettings
    door: DoorStage
    api: Stage
    old: KeyFile
    environ: dict[str, str]
    tokens: TokenKeys

    async def ask(self, model: str) -> int:
        return (await self.door.chat({**HELLO, "model": model})).status_code

    async def rotate(self) -> tuple[int, int]:
        """As the command does it: how many were moved, in how many calls."""
        moved, calls, after = 0, 0, None
        while True:
            done = await self.api.post(f"{SECRETS}/rotate", {"after": after} if after else {})
            assert done.status == 200, done.body
            moved, calls, after = moved + done.json["moved"], calls + 1, done.json["next"]
            if after is None:
                return moved, calls

    async def sealed(self) -> list[bytes]:
        providers = await self.door.pool.fetch("SELECT secret FROM provider WHERE keyed")
        rows = [*providers, *await self.door.pool.fetch("SELECT secret FROM byok_key")]
        return [row["secret"] for row in rows]

    async def opened_by(self, keys: KeyFile) -> int:
        return sum(_opens(keys, sealed) for sealed in await self.sealed())


def _opens(keys: KeyFile, sealed: bytes) -> bool:
    try:
        keys.open("", "", sealed)
    except ValueError as problem:
        return "another address" in str(problem)  # it was read: only that this is not its row
    raise AssertionError


@pytest.fixture
async def scene(
    home: Path, redis_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    environ = {
        "OPSCENTER_HOME": str(home),
        "OPSCENTER_DATABASE_URL": database_url,
        "OPSCENTER_REDIS_URL": redis_url,
        "OPSCENTER_BYOK_PRIVATE": "on",
    }
    wanted = settings.load(environ)
    before = unlock(wanted)
    assert new_root(wanted) == 2
    async with (
        FakeUpstream(tmp_path / "bills") as fake,
        door(home, redis_url, database_url, OPSCENTER_BYOK_PRIVATE="on") as stage,
        _signing(stage, before) as tokens,
        main.opened(wanted, unlock(wanted)) as state,
    ):
        await _filled(stage, before.keys, f"{fake.url}/v1")
        api = Stage(state, _app(state, wanted), stage.first, token=stage.first.api_key)
        yield Scene(wanted, stage, api, before.keys, environ, tokens)


def _app(state: State, wanted: ControlSettings) -> Edge:
    return Edge(create_app(state), wanted, state.counters)


@asynccontextmanager
async def _signing(stage: DoorStage, before: Secrets) -> AsyncIterator[TokenKeys]:
    """What signs tokens, as it was set up with the first root key."""
    tokens = TokenKeys(stage.pool, before, 900)
    await tokens.prepare()
    yield tokens


async def _filled(stage: DoorStage, old: KeyFile, url: str) -> None:
    """A key of the platform's, one of the organisation's own, and many that are switched off."""
    await stage.add_provider(url)
    sealed = old.seal("fake", url, PLATFORM)
    await stage.pool.execute(
        "UPDATE provider SET keyed = true, secret = $1 WHERE name = 'fake'", sealed
    )
    for model in (MODEL, MINE):
        await stage.add_model(model, "mock/ok")
    organisation = await stage.organisation()
    kinds = ["openai", *(f"kind{n}" for n in range(ROWS - 1))]
    await stage.pool.executemany(
        "INSERT INTO byok_key (id, organisation, kind, adapter, base_url, models, secret, last4,"
        " enabled) VALUES ($1, $2, $3, 'openai', $4, $5, $6, 'cdef', $7)",
        [_row(old, organisation, kind, url) for kind in kinds],
    )
    assert await stage.drain.publisher.organisation(str(organisation))
    assert await stage.drain.publisher.snapshot()


def _row(old: KeyFile, organisation: UUID, kind: str, url: str) -> tuple[Any, ...]:
    own = kind == "openai"
    sealed = old.seal(f"o:{organisation}:{kind}", url, OWN)
    return uuid4(), organisation, kind, url, {MINE: "mock/ok"} if own else {}, sealed, own


async def test_p25_rotate_under_load(scene: Scene) -> None:
    """Calls by the platform's key and by an own one, before, while and after: none fails. When the
    former root key is dropped, all is readable, and an API key of its time is still one."""
    answers, over = list[int](), asyncio.Event()

    async def load(model: str) -> None:
        while not over.is_set():
            answers.append(await scene.ask(model))

    async def more(count: int) -> None:
        wanted = len(answers) + count
        while len(answers) < wanted:  # noqa: ASYNC110 - as the tasks go on
            await asyncio.sleep(0.005)

    asking = [asyncio.create_task(load(model)) for model in (MODEL, MINE) * 2]
    await more(8)
    before = (await scene.api.get(SECRETS)).json
    assert before == {"version": 2, "left": ROWS + 1, "unreadable": 0}
    assert await scene.rotate() == (ROWS + 1, 3)
    await more(8)
    assert (await scene.api.get(SECRETS)).json == {"version": 2, "left": 0, "unreadable": 0}
    assert await scene.opened_by(scene.old) == 0
    with pytest.raises(SecretError, match="Restart it"):
        drop_old(scene.wanted, 1)
    assert drop_old(scene.wanted, 2) == 1
    await more(8)
    over.set()
    await asyncio.gather(*asking)
    assert set(answers) == {200}
    alone = KeyFile.load(scene.wanted.proxy_keys)
    assert await scene.opened_by(alone) == ROWS + 1
    assert alone.peppers[1] == scene.old.peppers[1]
    assert await scene.rotate() == (0, 3)


async def test_who_is_killed_in_the_middle_goes_on(scene: Scene) -> None:
    """What was moved stays so, what was not is as it was: nothing is ever readable by none."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD), env=scene.environ, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    async with asyncio.timeout(60):
        assert await child.stdout.readline() == b"moved\n"
        child.send_signal(signal.SIGKILL)
        await child.wait()
    moved = reseal.BATCH + 1  # of which one is the platform's
    assert await scene.opened_by(scene.old) == ROWS + 1 - moved
    assert await scene.opened_by(scene.door.keyfile) == ROWS + 1
    assert [await scene.ask(model) for model in (MODEL, MINE)] == [200, 200]
    assert await scene.rotate() == (ROWS + 1 - moved, 3)
    assert (await scene.api.get(SECRETS)).json["left"] == 0


async def test_tokens_of_a_former_root_key_stay_good_until_they_end(scene: Scene) -> None:
    """A control plane that knows both signs by the former pair until the new one is known. Where
    it knows one alone, there is nothing to rotate."""
    claims = {"sub": "x", "org": str(await scene.door.organisation()), "shard": 1, "sid": "r"}
    pool, tokens = scene.door.pool, scene.api.state.tokens
    async with pool.acquire() as conn:
        old = await scene.tokens.sign(conn, claims, 60)
        assert (await tokens.sign(conn, claims, 60)).split(".")[0] == old.split(".")[0]
        await scene.rotate()
        newest = await pool.fetchval("SELECT max(version) FROM token_key")
        assert newest == 2
        await tokens.renew(conn)
        assert await pool.fetchval("SELECT max(version) FROM token_key") == newest
        await pool.execute("UPDATE token_key SET signs_from = now() WHERE version = 2")
        head = (await tokens.sign(conn, claims, 60)).split(".")[0]
        assert head != old.split(".")[0]
    assert len(await tokens.public()) == 2
    drop_old(scene.wanted, 2)
    async with main.opened(scene.wanted, unlock(scene.wanted)) as state:
        api = replace(scene.api, state=state, app=_app(state, scene.wanted))
        refused = await api.post(f"{SECRETS}/rotate", {})
        assert (refused.status, "new-root" in refused.message) == (409, True)
        assert (await api.get(SECRETS)).json == {"version": 2, "left": 0, "unreadable": 0}
