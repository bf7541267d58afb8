"""Passwords: argon2id in threads, few at one time. Never keeps one, never logs one."""

import os
import secrets
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

LENGTH_MAX = 1024  # characters; more is no password but a burden
GENERATED_BYTES = 18

# The second choice of RFC 9106: 64 MiB, three passes, four lanes.
ITERATIONS, LANES, MEMORY_KIB = 3, 4, 64 * 1024
SALT_BYTES, DIGEST_BYTES = 16, 32

# Checked when there is no account, so that its absence takes as long as a wrong password.
_NOBODY: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$b3BzY2VudGVyLW5vYm9keQ"
    "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)


def generate() -> str:
    return secrets.token_urlsafe(GENERATED_BYTES)


def digest(password: str) -> str:
    """The PHC text to store. Takes a tenth of a second: call it in a thread."""
    kdf = Argon2id(
        salt=os.urandom(SALT_BYTES),
        length=DIGEST_BYTES,
        iterations=ITERATIONS,
        lanes=LANES,
        memory_cost=MEMORY_KIB,
    )
    return kdf.derive_phc_encoded(password.encode())


def matches(password: str, stored: str | None) -> bool:
    """Whether it is the password; without one stored it takes as long and is not."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), stored or _NOBODY)
    except InvalidKey:
        return False
    return stored is not None


class Passwords:
    """Bounds how many digests, of 64 MiB each, are made at one time."""

    def __init__(self, parallel: int) -> None:
        self._limiter = anyio.CapacityLimiter(parallel)

    async def digest(self, password: str) -> str:
        return await anyio.to_thread.run_sync(partial(digest, password), limiter=self._limiter)

    async def matches(self, password: str, stored: str | None) -> bool:
        check = partial(matches, password, stored)
        return await anyio.to_thread.run_sync(check, limiter=self._limiter)
