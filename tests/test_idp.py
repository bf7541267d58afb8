"""A company's own identity provider: which of its tokens count, and by which keys."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from uuid import uuid4

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from control import fetch, settings
from control.errors import IdentityProviderAway
from control.fetch import FetchError
from control.idp import ANSWER_MAX, Idp, Named
from control.machine import checks
from proxy.declared import SettingsError
from proxy.errors import TokenExpired, TokenInvalid
from proxy.who.tokens import FOREIGN_LENGTH_MAX, LEEWAY_S
from tests.fleet_stage import until
from tests.http_stage import certificate, saying, serving
from tests.idp_stage import (
    AUDIENCE,
    ISSUER,
    NOW,
    OTHER,
    Provider,
    by_ec,
    by_public_key,
    by_rsa,
    ed_jwk,
    environ,
    fetched,
    given,
    providing,
    rsa_jwk,
    token,
)

TOKEN, ME = "/api/v1/auth/token", "/api/v1/auth/me"
ALPHABET = ascii_uppercase + ascii_lowercase + digits + "-_"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with providing() as made:
        yield made


# Whom a token names ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(token(by_rsa, "RS256", "r"), id="RS256"),
        pytest.param(token(by_ec, "ES256", "e"), id="ES256"),
        pytest.param(token(), id="EdDSA"),
        pytest.param(token(head={"typ": "at+jwt"}), id="an access token"),
        pytest.param(token(aud=AUDIENCE), id="one audience"),
        pytest.param(token(iat=None, nbf=NOW), id="nbf"),
        pytest.param(token(nbf=0), id="nbf 0, as some write for none"),
        pytest.param(token(head={"typ": "application/AT+JWT"}), id="the type in full"),
        pytest.param(token(iat=None), id="tells only its end"),
        pytest.param(token(groups=["g" * 36] * 200), id="many groups"),
        pytest.param(token(iat=NOW + LEEWAY_S), id="a clock that is a little ahead"),
    ],
)
async def test_a_genuine_token_names_a_person(provider: Provider, home: Path, text: str) -> None:
    idp = await fetched(provider, home)
    assert idp.named(text, NOW) == Named(
        ISSUER, "of Admin@localhost", "admin@localhost", None, NOW + 3600
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(token(lambda data: b"", "none"), id="alg none"),
        pytest.param(token(by_public_key, "HS256", "r"), id="HS256 with the public key"),
        pytest.param(token(by_rsa, "RS512", "r"), id="another algorithm of the same key"),
        pytest.param(token(by_rsa, "RS256", "e"), id="RS256 by the key of another kind"),
        pytest.param(token(lambda data: by_ec(data)[:63], "ES256", "e"), id="short signature"),
        pytest.param(token(lambda data: bytes(64), "ES256", "e"), id="signature of zeros"),
        pytest.param(token(OTHER.sign), id="another key"),
        pytest.param(token(kid="x"), id="unknown kid"),
        pytest.param(token(head={"jwk": ed_jwk(OTHER)}), id="brings a key"),
        pytest.param(token(head={"typ": "logout+jwt"}), id="another kind of token"),
        pytest.param(token(aud="elsewhere"), id="another audience"),
        pytest.param(token(aud=["elsewhere"]), id="other audiences"),
        pytest.param(token(aud=None), id="no audience"),
        pytest.param(token(iss="https://login.evil.test"), id="another issuer"),
        pytest.param(token(email_verified=False), id="e-mail not verified"),
        pytest.param(token(email_verified=None), id="nothing about the e-mail"),
        pytest.param(token(email_verified="true"), id="verified as a text"),
        pytest.param(token(email=None), id="no e-mail"),
        pytest.param(token(sub=None), id="no subject"),
        pytest.param(token(sub=""), id="empty subject"),
        pytest.param(token(sub=7), id="subject is a number"),
        pytest.param(token(sub="x" * 256), id="long subject"),
        pytest.param(token(email=["admin@localhost"]), id="e-mail is a list"),
        pytest.param(token(exp=NOW + 10 * 365 * 86400), id="ten years"),
        pytest.param(token(exp=None), id="no end"),
        pytest.param(token(nbf=NOW + 600), id="not yet"),
        pytest.param(token(nbf=NOW, iat=NOW + 600), id="made later"),
        pytest.param(token(iat="now"), id="made at no moment"),
        pytest.param(token(exp=NOW - 10, iat=NOW), id="ends before it was made"),
        pytest.param(token(cnf={"jkt": "x"}), id="bound to a key of its owner"),
        pytest.param(token(email="\u212aate@localhost"), id="a letter that only looks like K"),
        pytest.param(token(email="a\n@localhost"), id="a line break in it"),
        pytest.param(token(kid="../../etc/passwd"), id="kid is a path"),
        pytest.param(token(kid="r' OR 1=1"), id="kid is SQL"),
        pytest.param(token(head={"kid": ["d"]}), id="kid is a list"),
        pytest.param(token(head={"jku": "http://127.0.0.1:1/"}), id="names where keys are"),
        pytest.param(token(head={"crit": ["exp"]}), id="critical extension"),
        pytest.param(token(pad="x" * FOREIGN_LENGTH_MAX), id="huge"),
    ],
)
async def test_what_is_not_genuine_names_nobody(provider: Provider, home: Path, text: str) -> None:
    idp = await fetched(provider, home)
    with pytest.raises(TokenInvalid):
        idp.named(text, NOW)


async def test_a_token_of_the_provider_ends(provider: Provider, home: Path) -> None:
    idp = await fetched(provider, home)
    with pytest.raises(TokenExpired):
        idp.named(token(), NOW + 3700)


async def test_another_claim_may_name_the_person(provider: Provider, home: Path) -> None:
    idp = await fetched(provider, home, idp_claim="upn")
    assert idp.named(token(upn="a@b.test", email_verified=None), NOW).email == "a@b.test"


async def test_a_claim_may_name_the_organisation(provider: Provider, home: Path) -> None:
    idp, place = await fetched(provider, home, idp_organisation_claim="tenant"), uuid4()
    assert idp.named(token(tenant=str(place)), NOW).organisation == place
    assert idp.named(token(), NOW).organisation is None
    for wrong in ("Acme", [str(place)], 1):
        with pytest.raises(TokenInvalid):
            idp.named(token(tenant=wrong), NOW)


# Its keys ------------------------------------------------------------------------------------


async def test_keys_rotate(provider: Provider, home: Path) -> None:
    """A new one counts from the next look on, one that is withdrawn no more."""
    idp, new = await fetched(provider, home), token(OTHER.sign, kid="new")
    with pytest.raises(TokenInvalid):
        idp.named(new, NOW)
    provider.show(ed_jwk(OTHER, "new"))
    await idp.refresh()
    assert idp.named(new, NOW).email == "admin@localhost"
    with pytest.raises(TokenInvalid):
        idp.named(token(), NOW)


async def test_whoever_shows_unknown_keys_cannot_hurry_us(provider: Provider, home: Path) -> None:
    """However many of them come, the provider is asked once and then not for some time."""
    idp = Idp(settings.load(environ(home, **given(provider.url))))
    keeper = asyncio.create_task(idp.keep())

    async def known() -> bool:
        return bool(idp.keys)

    await until(known)
    for nth in range(1000):
        with pytest.raises(TokenInvalid):
            idp.named(token(kid=f"k{nth}"), NOW)
        await asyncio.sleep(0)
    assert provider.asked == 1
    keeper.cancel()


async def test_until_the_keys_came_nothing_is_said_of_a_token(home: Path) -> None:
    idp = Idp(settings.load(environ(home, **given("http://127.0.0.1:1/keys"))))
    with pytest.raises(IdentityProviderAway):
        idp.named(token(), NOW)
    with pytest.raises(FetchError, match="refused"):
        await idp.refresh()


async def test_a_provider_that_never_answers_is_not_waited_for(
    provider: Provider, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "WHOLE_S", 0.1)
    provider.answer = b""
    with pytest.raises(FetchError, match="not answered"):
        await fetched(provider, home)


async def test_only_a_trusted_certificate_shows_keys(home: Path, tmp_path: Path) -> None:
    """And an answer in chunks is one, too."""
    tls, ours = certificate(tmp_path, "127.0.0.1"), str(tmp_path / "cert.pem")
    body = orjson.dumps({"keys": [ed_jwk()]})
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    piece = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with serving(saying(head, piece), saying(head, piece), tls=tls) as server:
        wanted = given(server.url)
        with pytest.raises(FetchError, match="certificate is not trusted"):
            await Idp(settings.load(environ(home, **wanted))).refresh()
        idp = Idp(settings.load(environ(home, **wanted, upstream_ca_file=ours)))
        await idp.refresh()
        assert idp.keys == 1


async def test_the_doctor_says_whether_there_are_keys(provider: Provider, home: Path) -> None:
    wanted = settings.load(environ(home, **given(provider.url)))
    [fine] = await checks.identity_provider(wanted)
    assert (fine.level, fine.says) == ("ok", "shows 3 keys that tokens may be signed with")
    provider.say(b"", "404 Not Found")
    [wrong] = await checks.identity_provider(wanted)
    assert wrong.level == "fail"
    assert "status 404" in wrong.says
    assert await checks.identity_provider(settings.load(environ(home))) == []


WEAK = rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize(
    ("body", "status", "more"),
    [
        pytest.param(b"{}", "200 OK", "", id="no keys"),
        pytest.param(b"[]", "200 OK", "", id="a list"),
        pytest.param(b"<html>", "200 OK", "", id="a page"),
        pytest.param(b'{"keys": []}', "200 OK", "", id="empty"),
        pytest.param(orjson.dumps({"keys": [rsa_jwk(WEAK)]}), "200 OK", "", id="weak"),
        pytest.param(orjson.dumps({"keys": [rsa_jwk(use="enc")]}), "200 OK", "", id="to encrypt"),
        pytest.param(orjson.dumps({"keys": [1, {"kid": 1}]}), "200 OK", "", id="no key"),
        pytest.param(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n", id="elsewhere"),
        pytest.param(b"", "500 Internal Server Error", "", id="broken"),
        pytest.param(b" " * (ANSWER_MAX + 1), "200 OK", "", id="huge"),
    ],
)
async def test_what_is_no_set_of_keys_leaves_the_last_one_in_force(
    provider: Provider, home: Path, body: bytes, status: str, more: str
) -> None:
    idp = await fetched(provider, home)
    provider.say(body, status, more)
    with pytest.raises(FetchError):
        await idp.refresh()
    assert idp.named(token(), NOW).email == "admin@localhost"


@pytest.mark.parametrize(
    "wanted",
    [
        {"idp_audience": ""},
        {"idp_jwks_url": ""},
        {"idp_jwks_url": "http://login.example.test/keys"},
        {"idp_jwks_url": "file:///etc/passwd"},
        {"idp_jwks_url": "https://user:secret@login.example.test/keys"},
        {"idp_jwks_url": "https://[/keys"},
        {"idp_issuer": "opscenter"},
    ],
)
def test_settings_that_would_let_in_anybody_are_refused(home: Path, wanted: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="OPSCENTER_IDP") as caught:
        settings.load(environ(home, **{**given("https://login.example.test/keys"), **wanted}))
    assert "secret" not in str(caught.value)
