"""A browser's sign-in: a cookie that no script reads, good for pages of this Ops-Center alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control.cookies import NAME
from tests.control_stage import Reply, Stage, stage

LOGIN, ME, TOKEN = "/api/v1/auth/login", "/api/v1/auth/me", "/api/v1/auth/token"
LOGOUT, KEYS = "/api/v1/auth/logout", "/api/v1/keys"
OURS = {"sec_fetch_site": "same-origin"}


@pytest.fixture
async def api(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    async with stage(home, database_url, redis_url) as made:
        yield made


async def signed_in(api: Stage, **headers: str) -> Reply:
    given = {"email": "admin@localhost", "password": api.first.password, "cookie": True}
    return await api.of(None).post(LOGIN, given, **(headers or OURS))


async def browser(api: Stage) -> tuple[Stage, dict[str, str], dict[str, str]]:
    """What it sends by itself, and what our page adds to a write."""
    made = await signed_in(api)
    cookie = made.headers["set-cookie"].partition(";")[0]
    return api.of(None), {"cookie": cookie}, {**OURS, "x_ops_csrf": made.json["csrf"]}


async def test_no_script_gets_to_see_the_session(api: Stage) -> None:
    made = await signed_in(api)
    assert (made.status, made.json["token"]) == (200, None)
    name, _, rest = made.headers["set-cookie"].partition("=")
    value, *flags = rest.split("; ")
    assert name == NAME
    assert {flag.lower() for flag in flags} >= {"httponly", "secure", "path=/", "samesite=lax"}
    assert value.startswith("ses_")
    assert value not in made.body.decode()


async def test_a_page_of_ours_reads_writes_and_gets_a_token_for_the_door(api: Stage) -> None:
    """The token ends with the browser's sign-in."""
    page, sent, added = await browser(api)
    me = await page.get(ME, **sent)
    assert (me.json["email"], me.json["csrf"]) == ("admin@localhost", added["x_ops_csrf"])
    assert (await page.post(KEYS, {"name": "k"}, **sent, **added)).status == 201
    made = await page.post(TOKEN, {}, **sent, **added)
    assert made.status == 200, made.body
    token = api.of(made.json["token"])
    assert (await token.get(ME)).json["email"] == "admin@localhost"
    assert (await token.get(ME)).json["csrf"] is None
    out = await page.post(LOGOUT, **sent, **added)
    assert out.status == 204
    assert "max-age=0" in out.headers["set-cookie"].lower()
    assert (await page.get(ME, **sent)).status == 401
    assert (await token.get(ME)).status == 401


FORGED: tuple[dict[str, str], ...] = (
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},  # a sister host
    {"sec_fetch_site": "none"},  # no page at all
    {"x_ops_csrf": "0" * 64},
    {"x_ops_csrf": ""},
    {"content_type": "text/plain"},  # as a form could send it
    {"content_type": ""},
)


async def test_what_another_page_may_have_made_changes_nothing(api: Stage) -> None:
    page, sent, added = await browser(api)
    for changed in FORGED:
        for path in (TOKEN, LOGOUT):
            reply = await page.post(path, **{**sent, **added, **changed})
            assert (reply.status, reply.code) == (403, "cross_site"), changed
        # what is no JSON may be refused for that
        reply = await page.post(KEYS, {"name": "k"}, **{**sent, **added, **changed})
        assert reply.status in (403, 422), changed
    assert await api.state.pool.fetchval("SELECT count(*) FROM api_key") == 1
    assert (await page.get(ME, **sent)).status == 200


ORIGINS = {
    "http://localhost": 200,
    "http://localhost:1": 403,
    "http://evil.test": 403,
    "null": 403,
    "": 403,
    "http://[": 403,
}


async def test_old_browsers_tell_the_origin_alone(api: Stage) -> None:
    """Nobody is signed in by another site's page either."""
    page, sent, added = await browser(api)
    csrf = {"x_ops_csrf": added["x_ops_csrf"]}
    for origin, status in ORIGINS.items():
        told = {"origin": origin} if origin else {"accept": "*/*"}
        assert (await page.post(TOKEN, {}, **sent, **csrf, **told)).status == status, origin
        assert (await signed_in(api, **told)).status == status, origin


async def test_only_sessions_go_by_cookie_and_what_is_shown_goes_first(api: Stage) -> None:
    page, sent, _ = await browser(api)
    assert (await api.get(ME, **sent)).json["actor"].startswith("key:")
    assert (await page.get(ME, **sent, authorization="Bearer ses_x")).status == 401
    key = {"cookie": f"{NAME}={api.first.api_key}"}
    assert (await page.get(ME, **key)).code == "not_signed_in"
    assert (await page.get(ME, cookie="other=1")).code == "not_signed_in"
