"""Who calls and what it costs: organisations, keys and models of a run, made by SQL, and the file
that tells the checker and the load of them.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import orjson

from control.books import ledger
from control.database import Pool
from control.secrets import unlock
from control.settings import ControlSettings
from proxy.who import keys

ORGANISATIONS = 96
BUDGET_UCR = 500_000_000_000_000  # of keys, people, organisations: counted, never reached
POOR_EVERY = 12  # every so many-th organisation has credits for a few requests only
NARROW_EVERY = 7  # ... and every so many-th may run few requests at a time
RICH_UCR, POOR_UCR = 2_000_000_000_000, 150_000_000
PARALLEL_MAX = 4
RATES = (("input", 3_000_000_007), ("output", 15_000_000_011))


@dataclass(frozen=True, slots=True)
class Model:
    """A model: the fake provider's names for it, how often it is asked, and its price."""

    id: str
    places: tuple[str, ...]
    weight: int
    stream: bool
    rates: tuple[tuple[str, int], ...] = RATES
    factor_ppm: int = 1_000_000


_SIZE = "in=200&out=340"
_CACHED = (*RATES, ("cache_read", 300_000_001))
MODELS = (
    Model("chaos/plain", (f"mock/ok?{_SIZE}",), 560, stream=False),
    Model(
        "chaos/cached",
        ("mock/ok?in=900&cached=600&out=50&reasoning=20",),
        80,
        False,
        _CACHED,
        1_250_001,
    ),
    Model("chaos/stream", (f"mock/ok?{_SIZE}",), 120, stream=True),
    Model("chaos/slow", ("mock/ok?in=300&out=900&chunks=30&chunk_ms=60&latency_ms=50",), 24, True),
    Model("chaos/late", (f"mock/ok?{_SIZE}&latency_ms=400",), 40, stream=False),
    Model("chaos/fallback", (f"mock/503?{_SIZE}", f"mock/ok?{_SIZE}&tag=2"), 30, stream=False),
    Model("chaos/free", (f"mock/ok?{_SIZE}&tag=3",), 30, False, (("input", 0), ("output", 0))),
    Model("chaos/nousage", (f"mock/nousage?{_SIZE}",), 20, stream=True),
    Model("chaos/early", (f"mock/usage-early?{_SIZE}",), 20, stream=True),
    Model("chaos/zero", (f"mock/usage-zero?{_SIZE}",), 10, stream=False),
    Model("chaos/truncate", (f"mock/truncate@3?{_SIZE}",), 10, stream=True),
    Model("chaos/reset", (f"mock/reset@1?{_SIZE}",), 6, stream=False),
    Model("chaos/garbage", ("mock/garbage@2?in=200&out=900&chunks=2",), 6, stream=True),
    Model("chaos/error", (f"mock/error-in-stream@2?{_SIZE}",), 6, stream=True),
    Model("chaos/500", ("mock/500",), 6, stream=False),
    Model("chaos/429", ("mock/429",), 6, stream=False),
)


@dataclass(slots=True)
class Organisation:
    id: uuid.UUID
    person: uuid.UUID
    shard: int
    keys: list[keys.Key]
    grant: int


#: Unit, window, seconds, zone, anchor: wide enough to refuse nothing.
WINDOWED = (
    ("calls", "day", None, "Europe/Berlin", None),
    ("tokens", "month", None, "Asia/Kathmandu", 15),
    ("credits", "week", None, "UTC", 7),
    ("calls", "none", None, None, None),
    ("calls", "rolling", 5, None, None),
    ("tokens", "rolling", 60, None, None),
)
WINDOWED_EVERY = 2


async def make(
    pool: Pool, settings: ControlSettings, upstream: str, truth: Path
) -> list[Organisation]:
    """Makes everything, and writes `fleet.json` for those who may not ask the product."""
    keyfile = unlock(settings).keys
    async with pool.acquire() as conn, conn.transaction():
        people = [uuid.uuid4() for _ in range(ORGANISATIONS)]
        await conn.executemany(
            "INSERT INTO person (id, email) VALUES ($1, $2)",
            [(person, f"p{n}@chaos.test") for n, person in enumerate(people)],
        )
        await _models(conn, upstream)
        made = [await _organisation(conn, nth, person) for nth, person in enumerate(people)]
        await conn.executemany(
            "INSERT INTO api_key (kid, organisation, person, name, digest, pepper, last4,"
            " budget_ucr) VALUES ($1, $2, $3, 'chaos', $4, $5, $6, $7)",
            [
                (
                    key.kid,
                    one.id,
                    one.person,
                    keyfile.digest(key.text, keyfile.pepper_version),
                    keyfile.pepper_version,
                    key.text[-4:],
                    BUDGET_UCR if nth % 2 else None,
                )
                for nth, one in enumerate(made)
                for key in one.keys
            ],
        )
    _tell(made, truth)
    return made


async def _organisation(
    conn: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", nth: int, person: uuid.UUID
) -> Organisation:
    id = uuid.uuid4()
    narrow = PARALLEL_MAX if nth % NARROW_EVERY == 1 else None
    shard = await conn.fetchval(
        "INSERT INTO organisation (id, name, shard, parallel_max, budget_ucr) "
        "VALUES ($1, 'chaos', nextval('organisation_birth') % 64, $2, $3) RETURNING shard",
        id,
        narrow,
        BUDGET_UCR if nth % 4 == 3 else None,
    )
    amount = POOR_UCR if nth % POOR_EVERY == 5 else RICH_UCR
    await conn.execute(
        "INSERT INTO membership (organisation, person, role, budget_ucr) "
        "VALUES ($1, $2, 'developer', $3)",
        id,
        person,
        BUDGET_UCR if nth % 3 == 2 else None,
    )
    if nth % WINDOWED_EVERY == 0:
        await conn.executemany(
            "INSERT INTO limit_rule (organisation, level, unit, window_kind, seconds, zone, anchor,"
            " amount) VALUES ($1, 'organisation', $2, $3, $4, $5, $6, $7)",
            [(id, *limit, BUDGET_UCR) for limit in WINDOWED],
        )
    await ledger.grant(conn, id, amount, "first", "chaos")
    return Organisation(id, person, shard, [keys.mint(shard) for _ in range(1 + nth % 2)], amount)


async def _models(conn: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", upstream: str) -> None:
    await conn.execute(
        "INSERT INTO provider (name, adapter, base_url) VALUES ('mock', 'openai', $1)", upstream
    )
    for model in MODELS:
        await conn.execute(
            "INSERT INTO model (id, context_max, output_max) VALUES ($1, 8192, 1024)", model.id
        )
        await conn.executemany(
            "INSERT INTO deployment (model, provider, upstream_model, rank) "
            "VALUES ($1, 'mock', $2, $3)",
            [(model.id, place, rank) for rank, place in enumerate(model.places)],
        )
        await conn.execute(
            "INSERT INTO price (model, rates, factor_ppm) VALUES ($1, $2, $3)",
            model.id,
            dict(model.rates),
            model.factor_ppm,
        )


def _tell(made: list[Organisation], truth: Path) -> None:
    fleet = {
        "models": {
            m.id: {
                "rates": dict(m.rates),
                "factor_ppm": m.factor_ppm,
                "weight": m.weight,
                "stream": m.stream,
                "tells_usage": "nousage" not in m.places[0],
            }
            for m in MODELS
        },
        "organisations": {
            str(one.id): {
                "shard": one.shard,
                "kids": [key.kid for key in one.keys],
                "grant": one.grant,
            }
            for one in made
        },
        "keys": [key.text for one in made for key in one.keys],
    }
    (truth / "fleet.json").write_bytes(orjson.dumps(fleet))
