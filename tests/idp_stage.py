"""A company's own identity provider for tests: its keys, its tokens, its server."""

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control import settings
from control.idp import Idp

ISSUER, AUDIENCE = "https://login.example.test", "ops-center"
NOW = int(time.time())

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": [AUDIENCE, "other"],
    "email": "Admin@localhost",
    "email_verified": True,
    "iat": NOW,
    "exp": NOW + 3600,
}


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8))


def rsa_jwk(key: rsa.RSAPrivateKey = RSA, **more: str) -> dict[str, str]:
    public = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": "r", "n": number(public.n), "e": number(public.e), **more}


def ec_jwk() -> dict[str, str]:
    public = EC.public_key().public_numbers()
    x, y = (encoded(value.to_bytes(32)) for value in (public.x, public.y))
    return {"kty": "EC", "crv": "P-256", "kid": "e", "x": x, "y": y, "use": "sig"}


def ed_jwk(key: Ed25519PrivateKey = ED, kid: str = "d") -> dict[str, str]:
    x = encoded(key.public_key().public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}


def by_rsa(data: bytes) -> bytes:
    return RSA.sign(data, padding.PKCS1v15(), hashes.SHA256())


def by_ec(data: bytes) -> bytes:
    r, s = decode_dss_signature(EC.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def by_public_key(data: bytes) -> bytes:
    """HS256 with the public half as if it were a shared secret."""
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    made = hmac.HMAC(public, hashes.SHA256())
    made.update(data)
    return made.finalize()


def token(
    sign: Callable[[bytes], bytes] = ED.sign,
    alg: str = "EdDSA",
    kid: str = "d",
    head: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    asked = {**CLAIMS, **claims}
    asked.setdefault("sub", f"of {asked['email']}")
    said = {n: value for n, value in asked.items() if value is not None}
    first = {"alg": alg, "kid": kid, **(head or {})}
    text = f"{encoded(orjson.dumps(first))}.{encoded(orjson.dumps(said))}"
    return f"{text}.{encoded(sign(text.encode()))}"


@dataclass
class Provider:
    """Answers every request with these bytes; without any it waits."""

    url: str = ""
    answer: bytes = b""
    asked: int = 0

    def show(self, *keys: dict[str, str]) -> None:
        self.say(orjson.dumps({"keys": keys}))

    def say(self, body: bytes, status: str = "200 OK", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.answer = head.encode() + body


@asynccontextmanager
async def providing() -> AsyncIterator[Provider]:
    made = Provider()
    made.show(rsa_jwk(alg="RS256"), ec_jwk(), ed_jwk())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /keys HTTP/1.1\r\n")
        made.asked += 1
        writer.write(made.answer)
        if not made.answer:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        made.url = "http://{}:{}/keys".format(*server.sockets[0].getsockname())
        yield made


def given(url: str, **more: str) -> dict[str, str]:
    return {"idp_issuer": ISSUER, "idp_audience": AUDIENCE, "idp_jwks_url": url, **more}


def environ(home: Path, **more: str) -> dict[str, str]:
    return {"OPSCENTER_HOME": str(home)} | {f"OPSCENTER_{n.upper()}": v for n, v in more.items()}


async def fetched(provider: Provider, home: Path, **more: str) -> Idp:
    made = Idp(settings.load(environ(home, **given(provider.url, **more))))
    await made.refresh()
    return made
