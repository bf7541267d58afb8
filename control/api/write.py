"""Every change goes through here: once per Idempotency-Key, on the audit log before its effect,
in one transaction, and carried to the data plane before it is answered.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import asyncpg
import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from control import sql
from control.database import ACQUIRE_TIMEOUT_S, Connection
from control.errors import (
    AnswerSealed,
    AuditUnavailable,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
)
from control.state import State, state_of
from plugins.access import Caller

log = logging.getLogger("opscenter.control.api.write")

IDEMPOTENCY_HEADER = "idempotency-key"
KEY_LENGTH_MAX = 255
ACCEPTED = 202  # done and recorded, but Redis has not heard of it yet

Kind = Literal["key", "sign_in", "organisation", "job", "pool", "snapshot"]


@dataclass(frozen=True, slots=True)
class Change:
    """A record that the data plane must learn before the change is answered."""

    kind: Kind
    id: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """What is about to be done, for the audit log; `detail` never holds a secret."""

    action: str
    subject: str
    organisation: UUID | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: the answer, and what changed for the data plane."""

    answer: BaseModel | None = None
    status: int = 200
    changes: Sequence[Change] = ()


Effect = Callable[[Connection], Awaitable[Done]]


@dataclass(frozen=True, slots=True)
class _Answer:
    """A finished answer, as it is sent and as it is kept for a repetition."""

    status: int
    body: bytes
    changes: Sequence[Change]


async def write(request: Request, caller: Caller, act: Act, effect: Effect) -> Response:
    """Does `effect` at most once per Idempotency-Key and answers when the proxies know of it."""
    state = state_of(request)
    key = _key(request)
    async with state.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as conn, conn.transaction():
        if key is None:
            answer = await _perform(conn, caller, act, effect)
        else:
            answer = await _once(conn, state, caller, act, effect, key, await _digest(request))
    delivered = await publish(state, answer.changes)
    status = answer.status if delivered else ACCEPTED
    return Response(answer.body, status, media_type="application/json" if answer.body else None)


async def audit(conn: Connection, actor: str, act: Act) -> None:
    """Without a line in the audit log nothing privileged happens."""
    try:
        await conn.execute(
            sql.load()["audit_add"],
            *(actor, act.action, act.subject, act.organisation, dict(act.detail)),
        )
    except asyncpg.PostgresError as problem:
        log.error("the audit log cannot be written: %s", problem)
        raise AuditUnavailable from problem


async def publish(state: State, changes: Sequence[Change]) -> bool:
    """False when Redis cannot be reached; the drain then delivers from the outbox."""
    by_kind: dict[Kind, list[str]] = {}
    for change in changes:
        by_kind.setdefault(change.kind, []).append(change.id)
    return all([await _publish(state, kind, ids) for kind, ids in by_kind.items()])


async def _publish(state: State, kind: Kind, ids: Sequence[str]) -> bool:
    if kind == "pool":
        return all([await state.publisher.pool(id) for id in ids])
    if kind == "snapshot":
        return await state.publisher.snapshot()
    return await state.publisher.records(kind, ids)


async def _perform(conn: Connection, caller: Caller, act: Act, effect: Effect) -> _Answer:
    await audit(conn, caller.actor, act)
    done = await effect(conn)
    body = done.answer.model_dump_json().encode() if done.answer is not None else b""
    return _Answer(done.status, body, done.changes)


# Once per key ---------------------------------------------------------------------


def _key(request: Request) -> str | None:
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not all("!" <= letter <= "~" for letter in key):
        raise IdempotencyKeyInvalid
    return key


async def _digest(request: Request) -> bytes:
    """What makes two requests the same: method, path, organisation and body."""
    parts = (
        request.method.encode(),
        request.scope.get("raw_path") or request.url.path.encode(),
        request.scope.get("query_string", b""),
        request.headers.get("x-ops-organisation", "").encode(),
        await request.body(),
    )
    return hashlib.sha256(b"\0".join(parts)).digest()


async def _once(
    conn: Connection,
    state: State,
    caller: Caller,
    act: Act,
    effect: Effect,
    key: str,
    digest: bytes,
) -> _Answer:
    query = sql.load()
    await conn.execute(query["idempotency_lock"], caller.actor, key)
    row = await conn.fetchrow(query["idempotency_get"], caller.actor, key)
    if row is not None:
        return _repeated(state, row, digest)
    answer = await _perform(conn, caller, act, effect)
    sealed = state.answers.seal(_packed(answer))
    await conn.execute(query["idempotency_put"], caller.actor, key, digest, answer.status, sealed)
    return answer


def _repeated(state: State, row: asyncpg.Record, digest: bytes) -> _Answer:
    if row["digest"] != digest:
        raise IdempotencyKeyReused
    plain = state.answers.open(row["body"])
    if plain is None:
        raise AnswerSealed
    body, changes = orjson.loads(plain)
    return _Answer(row["status"], body.encode(), [Change(**change) for change in changes])


def _packed(answer: _Answer) -> bytes:
    """With its changes: whoever repeats a request must again be told whether Redis knows."""
    return orjson.dumps([answer.body.decode(), answer.changes])
