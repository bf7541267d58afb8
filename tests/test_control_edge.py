"""Before every request: which host, how large, how JSON is written; after it: headers, errors."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from fastapi import APIRouter

from control import migrate
from control.app import create_app
from control.edge import Edge
from plugins.access import public
from tests.control_stage import Stage, stage

KEYS = "/api/v1/keys"


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url, control_body_max_bytes="2048") as made:
        yield made


@pytest.mark.parametrize("host", ["localhost", "localhost:8085", "127.0.0.1:8085", "[::1]:8085"])
async def test_loopback_names_are_answered(api: Stage, host: str) -> None:
    assert (await api.get("/healthz", host=host)).status == 200


@pytest.mark.parametrize("host", ["", "evil.test", "localhost.evil.test", "localhost@evil.test"])
async def test_another_host_name_is_refused(api: Stage, host: str) -> None:
    assert (await api.get("/healthz", host=host)).code == "host_unknown"


async def test_the_unix_socket_has_no_host(api: Stage) -> None:
    assert (await api.at_home.get("/healthz", host="whatever")).status == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(b'{"name": "a", "name": "b"}', 400, "body_invalid_json", id="doubled name"),
        pytest.param(b'{"name": NaN}', 400, "body_invalid_json", id="NaN"),
        pytest.param(b'{"name": Infinity}', 400, "body_invalid_json", id="Infinity"),
        pytest.param(b'{"name": ', 400, "body_invalid_json", id="cut"),
        pytest.param(b"\xff\xfe", 400, "body_invalid_json", id="no UTF-8"),
        pytest.param(b"[" * 100 + b"]" * 100, 400, "body_too_deep", id="deep"),
        pytest.param(b"[" * 1000 + b"]" * 1000, 400, "body_too_deep", id="deeper"),
        pytest.param(b'{"name": "' + b"x" * 4000 + b'"}', 413, "body_too_large", id="large"),
        pytest.param(b'{"name": "\\ud800"}', 422, "fields_invalid", id="half a letter"),
        pytest.param(b'"text"', 422, "fields_invalid", id="no object"),
        pytest.param(b"", 422, "fields_invalid", id="nothing"),
    ],
)
async def test_a_body_that_readers_understand_differently_is_refused(
    api: Stage, body: bytes, status: int, code: str
) -> None:
    reply = await api.call("POST", KEYS, body)
    assert (reply.status, reply.code) == (status, code)


async def test_only_json_is_taken(api: Stage) -> None:
    """So no page of others can send one without the browser asking first."""
    reply = await api.call("POST", KEYS, b'{"name": "a"}', {"content_type": "text/plain"})
    assert reply.status == 422
    packed = await api.call("POST", KEYS, b"x", {"content_encoding": "gzip"})
    assert (packed.status, packed.code) == (415, "body_encoded")


async def test_every_answer_carries_its_id_and_the_headers_of_safety(api: Stage) -> None:
    for path in ("/healthz", "/nowhere", KEYS):
        reply = await api.of(None).get(path)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert len(reply.headers["x-ops-request-id"]) == 36


async def test_an_error_has_the_one_shape_with_its_request_id(api: Stage) -> None:
    reply = await api.get("/nowhere")
    error = reply.json["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id", "docs"}
    assert error["request_id"] == reply.headers["x-ops-request-id"]
    assert (reply.status, error["code"]) == (404, "route_not_found")
    assert (await api.delete("/healthz")).status == 405


async def test_a_wrong_value_is_not_repeated_in_the_error(api: Stage) -> None:
    reply = await api.of(None).post(
        "/api/v1/auth/login", {"email": "no-mail-canary", "password": ["canary"]}
    )
    assert reply.status == 422
    assert b"canary" not in reply.body


async def test_a_fault_of_ours_says_nothing_but_the_request_id(api: Stage) -> None:
    router = APIRouter()

    @router.get("/api/v1/broken", dependencies=[public()])
    async def broken() -> None:
        raise RuntimeError("a canary that nobody may read")

    app = Edge(create_app(api.state, [router]), api.state.settings, api.state.counters)
    reply = await replace(api, app=app).get("/api/v1/broken")
    assert (reply.status, reply.code) == (500, "internal_error")
    assert b"canary" not in reply.body


async def test_a_full_disk_of_postgres_is_told_with_the_cure(api: Stage) -> None:
    router = APIRouter()

    @router.get("/api/v1/full", dependencies=[public()])
    async def full() -> None:
        raise asyncpg.DiskFullError("could not extend file: No space left on device")

    app = Edge(create_app(api.state, [router]), api.state.settings, api.state.counters)
    reply = await replace(api, app=app).get("/api/v1/full")
    assert (reply.status, reply.code) == (507, "database_full")


async def test_without_postgres_it_says_so(api: Stage) -> None:
    await api.state.pool.close()
    reply = await api.get("/api/v1/auth/me")
    assert (reply.status, reply.code) == (503, "database_unavailable")
    ready = await api.of(None).get("/readyz")
    assert (ready.status, ready.json["missing"]) == (503, ["postgres", "snapshot"])


async def test_ready_when_all_is_there(api: Stage) -> None:
    api.state.counters.snapshot_published_at = 1.0
    reply = await api.of(None).get("/readyz")
    assert (reply.status, reply.json) == (200, {"ready": True, "missing": []})


async def test_metrics_and_the_description_are_for_those_signed_in(api: Stage) -> None:
    for path in ("/metrics", "/openapi.json", "/docs"):
        assert (await api.of(None).get(path)).status == 401
        assert (await api.get(path)).status == 200
    text = (await api.at_home.get("/metrics")).body.decode()
    assert 'opscenter_control_requests_total{status="4xx"} 3' in text
    paths = (await api.get("/openapi.json")).json["paths"]
    assert KEYS in paths
    assert "/docs" not in paths


async def test_status_shows_every_part(api: Stage) -> None:
    found = (await api.get("/api/v1/system/status")).json
    assert found["postgres"]["ok"] is True
    assert found["redis"]["ok"] is True
    assert found["schema_version"] == len(migrate.migrations())
    assert found["missing"] == {"snapshot": "the snapshot is not published yet"}


async def test_the_clients_address_is_believed_from_known_proxies_only(api: Stage) -> None:
    from starlette.requests import HTTPConnection

    from control.edge import address

    scope = {
        "type": "http",
        "client": ("10.0.0.9", 1),
        "headers": [(b"x-forwarded-for", b"1.1.1.1, 2.2.2.2")],
    }
    known = replace(api.state.settings, trusted_proxies="10.0.0.9")
    assert address(HTTPConnection(scope), api.state.settings) == "10.0.0.9"
    assert address(HTTPConnection(scope), known) == "2.2.2.2"
