"""Tokens (JWT): only what this installation signed, for this audience, within its time, is one."""

import time
from base64 import urlsafe_b64encode
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy.errors import TokenExpired, TokenInvalid
from proxy.who.tokens import LEEWAY_S, LENGTH_MAX, issuers_of, verify

OURS, THEIRS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PUBLIC = OURS.public_key().public_bytes_raw()
NOW = int(time.time())
HEAD: dict[str, Any] = {"alg": "EdDSA", "typ": "JWT", "kid": "1"}
CLAIMS: dict[str, Any] = {
    "iss": "opscenter",
    "aud": "opscenter",
    "sub": "person",
    "org": "organisation",
    "shard": 7,
    "rec": "a" * 20,
    "nbf": NOW,
    "exp": NOW + 900,
}


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(kid: str, public: bytes) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encoded(public)}


def published(*keys: dict[str, str]) -> bytes:
    return orjson.dumps([{"name": "opscenter", "audience": "opscenter", "keys": keys}])


ISSUERS = issuers_of(published(jwk("1", PUBLIC)))


def unsigned(head: dict[str, Any], claims: Any) -> str:
    return f"{encoded(orjson.dumps(head))}.{encoded(orjson.dumps(claims))}"


def signed(claims: Any = CLAIMS, head: Any = HEAD, key: Ed25519PrivateKey = OURS) -> str:
    text = unsigned(head, claims)
    return f"{text}.{encoded(key.sign(text.encode()))}"


def by_hs256() -> str:
    """Signed with the public key, as if that were a shared secret."""
    text = unsigned({**HEAD, "alg": "HS256"}, CLAIMS)
    made = hmac.HMAC(PUBLIC, hashes.SHA256())
    made.update(text.encode())
    return f"{text}.{encoded(made.finalize())}"


def tampered() -> str:
    head, _, signature = signed().split(".")
    claims = encoded(orjson.dumps({**CLAIMS, "rec": "b" * 20}))
    return f"{head}.{claims}.{signature}"


def without(name: str) -> str:
    return signed({n: value for n, value in CLAIMS.items() if n != name})


def test_a_genuine_token_names_a_record() -> None:
    token = verify(signed(), ISSUERS, NOW)
    assert (token.shard, token.record, token.person) == (7, "a" * 20, "person")
    assert token.until_ms == (NOW + 900 + LEEWAY_S) * 1000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(unsigned({**HEAD, "alg": "none"}, CLAIMS) + ".", id="alg none"),
        pytest.param(signed(head={**HEAD, "alg": "none"}), id="alg none with a signature"),
        pytest.param(signed(head={**HEAD, "alg": "eddsa"}), id="alg in other letters"),
        pytest.param(signed(head={**HEAD, "alg": ["EdDSA"]}), id="alg is a list"),
        pytest.param(by_hs256(), id="HS256 with the public key"),
        pytest.param(signed(key=THEIRS), id="another installation's key"),
        pytest.param(signed(head={**HEAD, "kid": "2"}), id="unknown kid"),
        pytest.param(signed(head={**HEAD, "kid": "../../etc/passwd"}), id="kid is a path"),
        pytest.param(signed(head={**HEAD, "kid": None}), id="no kid"),
        pytest.param(signed(head={**HEAD, "kid": {"1": 1}}), id="kid is an object"),
        pytest.param(
            signed(
                head={**HEAD, "jwk": jwk("1", THEIRS.public_key().public_bytes_raw())}, key=THEIRS
            ),
            id="brings its own key",
        ),
        pytest.param(signed(head={**HEAD, "jku": "http://127.0.0.1/"}), id="names where keys are"),
        pytest.param(signed(head={**HEAD, "crit": ["exp"]}), id="critical extension"),
        pytest.param(signed(head={**HEAD, "typ": "dpop+jwt"}), id="another type"),
        pytest.param(signed(head=[1]), id="head is a list"),
        pytest.param(signed([CLAIMS]), id="claims are a list"),
        pytest.param(signed({**CLAIMS, "iss": "https://evil"}), id="another issuer"),
        pytest.param(signed({**CLAIMS, "iss": ["opscenter"]}), id="issuer is a list"),
        pytest.param(signed({**CLAIMS, "aud": "elsewhere"}), id="another audience"),
        pytest.param(signed({**CLAIMS, "aud": ["opscenter"]}), id="audience is a list"),
        pytest.param(without("aud"), id="no audience"),
        pytest.param(without("exp"), id="no end"),
        pytest.param(without("nbf"), id="no beginning"),
        pytest.param(signed({**CLAIMS, "exp": str(NOW + 900)}), id="end is a text"),
        pytest.param(signed({**CLAIMS, "exp": True}), id="end is true"),
        pytest.param(signed({**CLAIMS, "exp": NOW + 10 * 365 * 86400}), id="ten years"),
        pytest.param(signed({**CLAIMS, "nbf": NOW + 600}), id="not yet"),
        pytest.param(signed({**CLAIMS, "shard": 64}), id="no such shard"),
        pytest.param(signed({**CLAIMS, "shard": True}), id="shard is true"),
        pytest.param(signed({**CLAIMS, "rec": "a:b}{s01}*aaaa"}), id="record is another key"),
        pytest.param(signed({**CLAIMS, "sub": 1}), id="person is a number"),
        pytest.param(tampered(), id="claims changed"),
        pytest.param(signed()[:-4], id="signature cut"),
        pytest.param(signed() + ".x", id="four pieces"),
        pytest.param(signed() + "=", id="padding"),
        pytest.param(signed() + "\n", id="newline"),
        pytest.param("eyJ", id="a beginning"),
        pytest.param("eyJ.eyJ.eyJ", id="no JSON"),
        pytest.param(signed({**CLAIMS, "pad": "x" * LENGTH_MAX}), id="huge"),
        pytest.param("eyJ" + "." * 1_000_000, id="a million dots"),
        pytest.param(f"{encoded(b'[' * 2000)}.{encoded(b'{}')}.x", id="deep"),
    ],
)
def test_what_is_not_genuine_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        verify(text, ISSUERS, NOW)


def test_a_token_ends_with_a_little_leeway() -> None:
    assert verify(signed(), ISSUERS, NOW + 900 + LEEWAY_S - 1).shard == 7
    with pytest.raises(TokenExpired):
        verify(signed(), ISSUERS, NOW + 900 + LEEWAY_S)


def test_two_public_halves_are_accepted_and_a_withdrawn_one_is_not() -> None:
    other = jwk("2", THEIRS.public_key().public_bytes_raw())
    both = issuers_of(published(other, jwk("1", PUBLIC)))
    assert verify(signed(), both, NOW).shard == 7
    assert verify(signed(head={**HEAD, "kid": "2"}, key=THEIRS), both, NOW).shard == 7
    with pytest.raises(TokenInvalid):
        verify(signed(), issuers_of(published(other)), NOW)


def test_claims_of_another_issuer_name_no_record() -> None:
    """A token of a company's provider may say what it wants; only ours are records."""
    foreign = issuers_of(
        orjson.dumps([{**orjson.loads(published(jwk("1", PUBLIC)))[0], "foreign": True}])
    )
    with pytest.raises(TokenInvalid, match="changed for one of ours"):
        verify(signed(), foreign, NOW)
